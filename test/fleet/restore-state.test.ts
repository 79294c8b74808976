import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { commandRunner } from '../../src/fleet/actions.ts';
import { putStateBack, restoreState, type RestoreStateOptions } from '../../src/fleet/restore-state.ts';
import { MARKER } from '../../src/operations/host/continuity.ts';
import { makeAgent, type AgentOptions } from '../operations/support.ts';
import { health } from './healths.ts';

/** An agent that is well as long as its memory says so. Its commands write down that they ran. */
async function shaky(contents: readonly string[], storage: AgentOptions['storage'] = 'memory') {
  const agent = await makeAgent({ storage });
  const memory = join(agent.state, 'MEMORY.md');
  for (const content of contents) {
    writeFileSync(memory, content);
    await agent.backup();
  }
  const log = join(agent.folder, 'commands.log');
  const options: RestoreStateOptions = {
    ...{
      agent: 'ada',
      backends: agent.addresses,
      root: agent.state,
      withinMs: 0,
      most: 3,
      env: { HOLDFAST_AGENT: 'ada' },
    },
    secret: { kind: 'identities', identities: [agent.restoreKey] },
    stop: `echo "stop $HOLDFAST_AGENT" >> ${log}`,
    start: `echo "start $(cat ${memory})" >> ${log}`,
    run: commandRunner({ folder: agent.folder, env: { PATH: process.env['PATH'] }, timeoutMs: 60_000 }, systemClock),
    look: async () => {
      const isWell = existsSync(memory) && readFileSync(memory, 'utf8').startsWith('good');
      return health('ada', { live: isWell ? 'ok' : 'down' }, 0);
    },
  };
  const restored = (over: Partial<RestoreStateOptions> = {}) =>
    restoreState(
      { ...options, ...over },
      { ...agent.seams(), clock: systemClock, signal: new AbortController().signal },
    );
  const beside = () => readdirSync(dirname(agent.state)).filter((name) => name.startsWith(`${basename(agent.state)}.`));
  /** In a process that is killed once it has moved a folder aside for the n-th time. */
  const killedAfter = async (nth: number) => {
    const { backends, root, secret, stop, start } = options;
    const child = spawn(
      process.execPath,
      [
        join(import.meta.dirname, 'restore-child.ts'),
        JSON.stringify({ backends, root, secret, stop, start }),
        String(nth),
      ],
      { stdio: 'inherit' },
    );
    expect(await once(child, 'exit')).toEqual([null, 'SIGKILL']);
  };
  const back = () => putStateBack(options, new AbortController().signal);
  /** What every copy of the state says, the one in its place first. */
  const copies = () =>
    [basename(agent.state), ...beside()].map((name) =>
      readFileSync(join(dirname(agent.state), name, 'MEMORY.md'), 'utf8'),
    );
  return {
    agent,
    memory,
    restored,
    beside,
    killedAfter,
    back,
    copies,
    commands: () => readFileSync(log, 'utf8').trim().split('\n'),
  };
}

test('snapshots are tried from the newest to the oldest until the agent is well; what it had lies aside', async () => {
  const { agent, memory, restored, beside, commands } = await shaky(['good 1', 'good 2', 'bad 3']);
  await using _ = agent;
  writeFileSync(memory, 'broken');
  const evidence = await restored();
  expect(readFileSync(memory, 'utf8')).toBe('good 2');
  expect(evidence).toMatchObject({ triedBefore: expect.stringContaining('live: connection refused') });
  expect(commands()).toEqual(['stop ada', 'start bad 3', 'stop ada', 'start good 2']);
  expect(readFileSync(join(String(evidence['aside']), 'MEMORY.md'), 'utf8')).toBe('broken');
  expect(
    beside()
      .toSorted()
      .map((name) => readFileSync(join(dirname(agent.state), name, 'MEMORY.md'), 'utf8')),
  ).toEqual(['broken', 'bad 3']);
  const marker = JSON.parse(readFileSync(join(agent.state, MARKER), 'utf8')) as { snapshot: { id: string } };
  expect(marker.snapshot.id).toBe(evidence['snapshot']);
});

test('when none helps the agent has its own state again, and nothing is lost', async () => {
  const { agent, memory, restored, beside, commands } = await shaky(['bad 1', 'bad 2']);
  await using _ = agent;
  writeFileSync(memory, 'broken');
  await expect(restored()).rejects.toMatchObject({
    code: 'not_found',
    message: expect.stringContaining('none of 2 helped'),
  });
  expect(readFileSync(memory, 'utf8')).toBe('broken');
  expect(beside()).toHaveLength(2);
  expect(commands().at(-1)).toBe('start broken');
});

test('no more snapshots are tried than it is told', async () => {
  const { agent, memory, restored } = await shaky(['good 1', 'bad 2', 'bad 3']);
  await using _ = agent;
  await expect(restored({ most: 2 })).rejects.toMatchObject({ code: 'not_found' });
  expect(readFileSync(memory, 'utf8')).toBe('bad 3');
});

test('a state that is gone altogether comes back', async () => {
  const { agent, memory, restored, beside } = await shaky(['good 1']);
  await using _ = agent;
  rmSync(agent.state, { recursive: true });
  expect(await restored()).toMatchObject({ aside: null });
  expect([readFileSync(memory, 'utf8'), beside()]).toEqual(['good 1', []]);
});

test('an agent that cannot be stopped keeps its state', async () => {
  const { agent, memory, restored, beside } = await shaky(['good 1']);
  await using _ = agent;
  writeFileSync(memory, 'broken');
  await expect(restored({ stop: 'echo it clings; exit 1' })).rejects.toMatchObject({
    code: 'hook_failed',
    message: expect.stringContaining('it clings'),
  });
  expect([readFileSync(memory, 'utf8'), beside()]).toEqual(['broken', []]);
});

test('a snapshot that is damaged on every backend is passed over', async () => {
  const { agent, memory, restored, commands } = await shaky(['good 1']);
  await using _ = agent;
  const packs = async () => {
    const keys: string[] = [];
    for (const store of agent.stores.values()) for await (const { key } of store.inner.list('packs/')) keys.push(key);
    return keys;
  };
  const before = await packs();
  expect(before).not.toEqual([]);
  writeFileSync(memory, `good 2 ${'x'.repeat(9000)}`);
  await agent.backup();
  const added = (await packs()).filter((key) => !before.includes(key));
  for (const store of agent.stores.values()) for (const key of added) await store.inner.delete(key).catch(() => {});
  writeFileSync(memory, 'broken');
  expect(await restored()).toMatchObject({ triedBefore: expect.stringMatching(/of 20.*: ./) });
  expect(readFileSync(memory, 'utf8')).toBe('good 1');
  expect(commands()).toEqual(['stop ada', 'start good 1']);
});

test('without the right key nothing is done', async () => {
  const { agent, memory, restored, beside } = await shaky(['good 1']);
  await using _ = agent;
  writeFileSync(memory, 'broken');
  const other = await makeAgent({ seed: 'another' });
  await using _other = other;
  const secret = { kind: 'identities', identities: [other.restoreKey] } as const;
  await expect(restored({ secret })).rejects.toMatchObject({ code: 'wrong_key' });
  expect([readFileSync(memory, 'utf8'), beside()]).toEqual(['broken', []]);
});

describe('a restore that is killed between two renames leaves the agent without a folder', () => {
  test.each([
    ['before the first snapshot was in its place', 1, ['broken', 'bad 2']],
    ['before the next one was', 2, ['broken', 'bad 1', 'bad 2']],
    ['before its own state was back', 3, ['broken', 'bad 1', 'bad 2']],
  ])('%s: whoever comes next puts back what it had, starts it, and loses nothing', async (_when, nth, all) => {
    const { agent, memory, beside, killedAfter, back, copies, commands } = await shaky(['bad 1', 'bad 2'], 'folders');
    await using _ = agent;
    writeFileSync(memory, 'broken');
    await killedAfter(nth);
    expect(existsSync(agent.state)).toBe(false);
    const evidence = await back();
    expect(evidence).toMatchObject({ done: expect.stringContaining('is in its place again, and it was started') });
    expect(existsSync(String(evidence?.['aside']))).toBe(false);
    expect(copies()[0]).toBe('broken');
    expect(copies().toSorted()).toEqual(all.toSorted());
    expect(commands().at(-1)).toBe('start broken');
    // Once: what lies beside is no reason to do it again.
    expect([await back(), beside().length]).toEqual([undefined, all.length - 1]);
  });

  test('the next restore goes on from there, and says so', async () => {
    const { agent, memory, restored, killedAfter, copies } = await shaky(['good 1'], 'folders');
    await using _ = agent;
    writeFileSync(memory, 'broken');
    await killedAfter(1);
    const evidence = await restored();
    expect(evidence).toMatchObject({ wasCutOff: expect.stringContaining('an earlier try was cut off') });
    expect(readFileSync(join(String(evidence['aside']), 'MEMORY.md'), 'utf8')).toBe('broken');
    expect(copies().toSorted()).toEqual(['broken', 'good 1', 'good 1']);
    expect(readFileSync(memory, 'utf8')).toBe('good 1');
  });

  test('also where a link led to it', async () => {
    const { agent, back } = await shaky([]);
    await using _ = agent;
    const real = join(agent.folder, 'real');
    renameSync(agent.state, `${real}.aside-20260101T000000Z-beef`);
    mkdirSync(`${real}.restored-20260101T000000Z-beef-12345678`);
    symlinkSync('real', agent.state);
    expect(await back()).toMatchObject({ aside: `${real}.aside-20260101T000000Z-beef` });
    expect(existsSync(agent.state)).toBe(true);
  });

  test('a folder that somebody took away is not brought back by what a finished restore has left', async () => {
    const { agent, memory, restored, back } = await shaky(['good 1']);
    await using _ = agent;
    writeFileSync(memory, 'broken');
    await restored();
    rmSync(agent.state, { recursive: true });
    expect([await back(), existsSync(agent.state)]).toEqual([undefined, false]);
  });
});

test('a restored state that cannot be moved into its place leaves the agent as it was, and started', async () => {
  const { agent, memory, restored, copies, commands } = await shaky(['good 1', 'bad 2']);
  await using _ = agent;
  writeFileSync(memory, 'broken');
  // The second one is gone when the agent has been stopped for it.
  const folder = dirname(agent.state);
  const take = `ls -d ${folder}/*.aside-* >/dev/null 2>&1 && rm -r ${folder}/*.restored-*; exit 0`;
  await expect(restored({ stop: take })).rejects.toMatchObject({ code: 'io' });
  expect(copies()).toEqual(['broken', 'bad 2']);
  expect(commands().at(-1)).toBe('start broken');
});
