/**
 * The real program is killed (SIGKILL) while it saves, at times from a list and whenever something of it can be seen in the backends. After
 * each kill all that is there is whole. Where a kill hits depends on the machine; what must hold after it does not. HOLDFAST_LONG=1: more data,
 * and more kills.
 */
import { createCipheriv } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openBackend } from '../../src/backend/open.ts';
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { BackupResult } from '../../src/operations/backup.ts';
import type { VerifyResult } from '../../src/operations/verify.ts';
import { sha256, sha256Hex } from '../../src/crypto/hash.ts';
import { contentDifference, inventory, removeFolder, temporaryFolder } from '../state/trees.ts';
import { initArgs } from './agent-home.ts';
import { PROGRAM, run, type Ended } from './run.ts';
import { runWarm } from './warm.ts';

const MiB = 2 ** 20;
const BACKENDS = ['nas', 'usb'] as const;
const isLong = process.env['HOLDFAST_LONG'] === '1';
/** More than a pack takes (15 MiB), or a good part of one. */
const NOISE_BYTES = (isLong ? 16 : 4) * MiB;
const LOG_BYTES = (isLong ? 8 : 1) * MiB;
const SEED = 'kill sweep';
const KILLS_BY_TIME = isLong ? 20 : 3;

let home: string;
const at = (...names: string[]) => join(home, ...names);
const env = () => ({ HOME: home, XDG_STATE_HOME: '', XDG_CACHE_HOME: '', XDG_CONFIG_HOME: '' });
const holdfast = (args: string[], meanwhile?: (child: ChildProcess) => void): Promise<Ended> =>
  meanwhile ? run(PROGRAM, args, { cwd: home, env: env(), meanwhile }) : runWarm(args, { cwd: home, env: env() });
const json = <T>({ stdout }: Ended): T => JSON.parse(stdout) as T;

/** Numbers from 0 to 1, the same in every run. */
const fraction = (name: string) => Buffer.from(sha256(Buffer.from(`${SEED}/${name}`))).readUInt32BE() / 2 ** 32;

/** Bytes that do not compress, the same in every run. */
function noise(name: string, bytes: number): Buffer {
  const key = sha256(Buffer.from(`${SEED}/${name}`));
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(bytes));
}

/** Everything that a run has to read, chunk, compress and store anew. */
function work(round: string): void {
  writeFileSync(at('state', 'noise'), noise(round, NOISE_BYTES));
  const lines = Array.from(
    { length: 1000 },
    (_, i) => `{"round":"${round}","line":${i},"text":"what the agent did"}\n`,
  );
  const block = lines.join('');
  writeFileSync(at('state', 'log.jsonl'), '');
  for (let i = 0; i * block.length < LOG_BYTES; i++) appendFileSync(at('state', 'log.jsonl'), `${i} ${block}`);
  writeFileSync(at('state', 'memory', `${round}.md`), round);
  rmSync(at('state', 'memory', 'last.md'), { force: true });
  if (fraction(round) < 0.5) writeFileSync(at('state', 'memory', 'last.md'), round);
}

beforeAll(async () => {
  home = temporaryFolder();
  mkdirSync(at('state', 'memory', 'empty'), { recursive: true });
  work('first');
  const made = await holdfast([...initArgs(at, BACKENDS), '--words-file', 'words.txt']);
  expect(made).toMatchObject({ code: 0 });
});
afterAll(() => removeFolder(home));

/** What the backend lists. */
async function keysOf(name: string): Promise<Set<string>> {
  const seams = { clock: systemClock, random: systemRandom, create: false };
  await using backend = await openBackend({ name, url: `file://${at(name)}` }, seams);
  const keys = new Set<string>();
  for await (const { key } of backend.list('')) keys.add(key);
  return keys;
}

const seen = new Set<string>();
/** All is whole but for objects that one backend has and the other lacks. */
async function expectNoDamage(when: string): Promise<void> {
  const ended = await holdfast(['verify', '--level', 'objects', '--json']);
  expect([0, 13], `${when}: ${ended.stdout} ${ended.stderr}`).toContain(ended.code);
  const { damaged } = json<VerifyResult>(ended);
  const held = new Map<string, Set<string>>();
  for (const name of BACKENDS) held.set(name, await keysOf(name));
  for (const { backend, key, problem } of damaged) {
    const what = `${when}: ${backend} ${key}: ${problem}`;
    expect(held.get(backend)?.has(key), what).toBe(false);
    expect(
      [...held.values()].some((keys) => keys.has(key)),
      what,
    ).toBe(true);
  }
  // Packs that no index names yet are whole too.
  for (const [name, keys] of held) {
    for (const key of keys) {
      const id = /^(?:packs|index)\/.*([0-9a-f]{64})/.exec(key)?.[1];
      if (id === undefined || seen.has(`${name}/${key}`)) continue;
      expect(sha256Hex(readFileSync(at(name, key))), `${when}: ${name} ${key}`).toBe(id);
      seen.add(`${name}/${key}`);
    }
  }
  // `tmp/` is where a kill leaves what it interrupts; it is never an object.
  for (const keys of held.values()) for (const key of keys) expect(key).not.toMatch(/^tmp\/|\.new$|\.tmp$/);
}

async function expectRestores(): Promise<void> {
  const restored = await holdfast(['restore', 'latest', '--target', 'back', '--words-file', 'words.txt', '--json']);
  expect(restored).toMatchObject({ code: 0 });
  expect(inventory(at('back'))).toEqual(inventory(at('state')));
  expect(contentDifference(at('back'), at('state'))).toBe('');
  rmSync(at('back'), { recursive: true });
}

/** Runs `backup` and kills it when `due` says so; a run that is done by then is done. */
async function backupKilled(due: (child: ChildProcess) => Promise<void>): Promise<boolean> {
  let killer: Promise<void> | undefined;
  const ended = await holdfast(['backup', '--json'], (child) => {
    killer = due(child).then(() => void child.kill('SIGKILL'));
  });
  await killer;
  if (ended.code !== null) expect(ended).toMatchObject({ code: 0 });
  return ended.code === null;
}

const isRunning = (child: ChildProcess) => child.exitCode === null && child.signalCode === null;

/** What can be seen of a run in the backends before it is done: a kind of object of which there is one more, on one of them. */
const SIGHTS = ['tmp', 'packs', 'index', 'snapshots'] as const;
const count = (kind: string): number => {
  const counts = BACKENDS.map((name) => {
    if (!existsSync(at(name, kind))) return 0;
    return readdirSync(at(name, kind), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
      .length;
  });
  return Math.max(...counts);
};

it('after every kill all is whole, and the run after it is done in full', async () => {
  const started = systemClock.monotonic();
  expect(await run(PROGRAM, ['backup'], { cwd: home, env: env() })).toMatchObject({ code: 0 });
  const normalMs = systemClock.monotonic() - started;
  await expectNoDamage('before the first kill');

  let killed = 0;
  for (let number = 0; number < KILLS_BY_TIME; number++) {
    work(`time ${number}`);
    // Spread over the run, closer together towards its end, where it stores.
    const share = 1 - (1 - (number + fraction(`kill ${number}`)) / KILLS_BY_TIME) ** 2;
    if (await backupKilled(() => systemClock.sleep(share * normalMs))) killed++;
    await expectNoDamage(`killed at ${share.toFixed(2)} of a run`);
  }
  for (const kind of SIGHTS) {
    work(`sight ${kind}`);
    const before = count(kind);
    const whenSeen = async (child: ChildProcess) => {
      while (isRunning(child) && count(kind) <= before) await systemClock.sleep(1);
    };
    if (await backupKilled(whenSeen)) killed++;
    await expectNoDamage(`killed when something new is in ${kind}`);
  }
  // The first of them hits a program that is just starting, whatever the machine.
  expect(killed).toBeGreaterThan(0);

  const done = await holdfast(['backup', '--json']);
  expect(done).toMatchObject({ code: 0 });
  expect(json<BackupResult>(done).backends).toEqual(BACKENDS.map((name) => ({ name, state: 'committed' })));
  await expectRestores();
  expect(await holdfast(['verify', '--level', 'chunks', '--words-file', 'words.txt'])).toMatchObject({ code: 0 });
  const [nas, usb] = await Promise.all(BACKENDS.map(keysOf));
  const records = (keys: Set<string> | undefined) =>
    [...(keys ?? [])].filter((key) => !key.startsWith('packs/')).sort();
  expect(records(nas)).toEqual(records(usb));
});
