/**
 * 32 real processes on one breaker. Time is a file that the test writes, and every process is told when to call, so that the verdict does not
 * depend on how fast any of them is.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { breakerPolicy } from '../../src/fleet/breaker-policy.ts';
import { Breakers } from '../../src/fleet/breakers.ts';
import { openSqliteStore } from '../../src/fleet/sqlite-store.ts';
import { ROOT } from '../cli/run.ts';

const PROCESSES = 32;
const PROBES_KILLED = 18;
const KILLS = 50;
const START_MS = 1_800_000_000_000;
const { settings: SETTINGS } = breakerPolicy('any', {});

interface Reply {
  reporter: string;
  outcome: 'ready' | 'done' | 'failed' | 'rejected';
  exitCode: number;
  retryAtMs?: number;
}

class Caller {
  readonly child: ChildProcess;
  readonly name: string;
  #replies: Reply[] = [];
  #waiting: ((reply: Reply) => void) | undefined;
  /** Told of each reply that nobody waits for. */
  onReply: (() => void) | undefined;

  constructor(folder: string, name: string) {
    this.name = name;
    const program = join(import.meta.dirname, 'hammer-child.ts');
    this.child = spawn(process.execPath, [program, folder, name], {
      env: { ...process.env, NODE_COMPILE_CACHE: `${ROOT}/.cache/compiled` },
      stdio: ['pipe', 'pipe', 'inherit', 'ipc'],
    });
    this.child.on('message', (reply: Reply) => {
      if (this.#waiting) this.#waiting(reply);
      else this.#replies.push(reply);
      this.#waiting = undefined;
      this.onReply?.();
    });
  }

  reply(): Promise<Reply> {
    const there = this.#replies.shift();
    return there ? Promise.resolve(there) : new Promise((resolve) => (this.#waiting = resolve));
  }

  order(agent: string, end: 'fail' | 'succeed' | 'hang'): void {
    this.child.send({ agent, end });
  }

  call(agent: string, end: 'fail' | 'succeed'): Promise<Reply> {
    this.order(agent, end);
    return this.reply();
  }

  /** The command that it has left running ends with its standard input. */
  async kill(): Promise<void> {
    const exit = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exit;
    this.child.stdin?.destroy();
    this.child.stdout?.destroy();
  }
}

test('32 processes on one breaker, and 50 of them killed', { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-hammer-'));
  let callers: Caller[] = [];
  let kills = 0;
  try {
    const setClock = (ms: number) => {
      writeFileSync(join(folder, 'clock.new'), String(ms));
      renameSync(join(folder, 'clock.new'), join(folder, 'clock'));
    };
    setClock(START_MS);
    await using store = openSqliteStore(join(folder, 'store'), { clock: systemClock, random: systemRandom });
    const policyOf = (agent: string) => breakerPolicy(agent, {});
    const breakers = new Breakers({ store, policyOf, reporter: 'test', clock: systemClock, random: systemRandom });
    const state = async (agent: string) => (await breakers.look(agent)).state;
    /** Who ran the command. */
    const ran = (agent: string) =>
      statSync(join(folder, `ran-${agent}`), { throwIfNoEntry: false }) === undefined
        ? []
        : readFileSync(join(folder, `ran-${agent}`), 'utf8')
            .trim()
            .split('\n');
    const started = async (names: string[]) => {
      const fresh = names.map((name) => new Caller(folder, name));
      callers.push(...fresh);
      for (const caller of fresh) expect(await caller.reply()).toMatchObject({ outcome: 'ready' });
    };
    await started(['p0']);
    await started(Array.from({ length: PROCESSES - 1 }, (_, i) => `p${i + 1}`));

    // One after the other: exactly the threshold runs.
    const replies: Reply[] = [];
    for (const caller of callers) replies.push(await caller.call('turns', 'fail'));
    expect(replies.filter(({ outcome }) => outcome === 'failed').map(({ reporter }) => reporter)).toEqual([
      'p0',
      'p1',
      'p2',
    ]);
    expect(replies.filter(({ exitCode }) => exitCode === 75)).toHaveLength(PROCESSES - 3);
    expect(ran('turns')).toEqual(['p0', 'p1', 'p2']);
    expect(await state('turns')).toMatchObject({ kind: 'open', failures: 3, opened: 1 });

    // All at once: it opens with the third failure that is counted. Who was let in before may have run too; each that was not, did not.
    const crowd = await Promise.all(callers.map((caller) => caller.call('crowd', 'fail')));
    const let_in = crowd.filter(({ outcome }) => outcome === 'failed').map(({ reporter }) => reporter);
    expect(let_in.length).toBeGreaterThanOrEqual(3);
    expect(crowd.filter(({ exitCode }) => exitCode === 75)).toHaveLength(PROCESSES - let_in.length);
    expect(ran('crowd').toSorted()).toEqual(let_in.toSorted());
    const open = await state('crowd');
    expect(open).toMatchObject({ kind: 'open', failures: 3, opened: 1, untilMs: START_MS + SETTINGS.openMs });
    // Three writes: none of the failures after it was one.
    expect((await breakers.look('crowd')).revision).toBeLessThanOrEqual(6);
    const refused = await Promise.all(callers.map((caller) => caller.call('crowd', 'fail')));
    expect(refused.every(({ retryAtMs }) => retryAtMs === START_MS + SETTINGS.openMs)).toBe(true);
    expect(ran('crowd')).toHaveLength(let_in.length);

    // Half-open, again and again: one probe each time, also when the one before was killed.
    let nowMs = START_MS + SETTINGS.openMs;
    for (let round = 0; round < PROBES_KILLED; round++) {
      setClock(nowMs);
      const before = ran('crowd').length;
      for (const caller of callers) caller.order('crowd', 'hang');
      const waiting = new Map(callers.map((caller) => [caller, caller.reply()]));
      const rejected = new Set<Caller>();
      await new Promise<void>((resolve) => {
        for (const [caller, reply] of waiting)
          void reply.then(() => rejected.add(caller).size === callers.length - 1 && resolve());
      });
      const [probe] = callers.filter((caller) => !rejected.has(caller));
      if (probe?.child.stdout) await once(probe.child.stdout, 'data'); // its command runs
      expect(ran('crowd').slice(before)).toEqual([probe?.name]);
      const halfOpen = await state('crowd');
      expect(halfOpen).toMatchObject({ kind: 'half-open', opened: 1 });
      expect('holder' in halfOpen && halfOpen.holder.startsWith(`${probe?.name}/`)).toBe(true);
      await probe?.kill();
      kills++;
      // It died in the midst of its call: what was known before is known still.
      expect(await state('crowd')).toEqual(halfOpen);
      callers = callers.filter((caller) => caller !== probe);
      // Its lease runs on: until it is over, nobody.
      setClock(nowMs + SETTINGS.trialMs - 1);
      const meanwhile = await Promise.all(callers.slice(0, 4).map((caller) => caller.call('crowd', 'fail')));
      expect(meanwhile.every(({ exitCode }) => exitCode === 75)).toBe(true);
      expect(ran('crowd')).toHaveLength(before + 1);
      nowMs += SETTINGS.trialMs;
    }

    // A probe that fails opens it for twice as long, one that succeeds closes it.
    setClock(nowMs);
    const [first] = callers;
    expect(await first?.call('crowd', 'fail')).toMatchObject({ outcome: 'failed' });
    expect(await state('crowd')).toMatchObject({ kind: 'open', opened: 2, untilMs: nowMs + 2 * SETTINGS.openMs });
    setClock(nowMs + 2 * SETTINGS.openMs);
    expect(await first?.call('crowd', 'succeed')).toMatchObject({ outcome: 'done', exitCode: 0 });
    expect(await state('crowd')).toEqual({ kind: 'closed', failures: 0 });
    const again = await Promise.all(callers.map((caller) => caller.call('crowd', 'succeed')));
    expect(again.every(({ outcome }) => outcome === 'done')).toBe(true);

    // 32 that write without a pause, killed in the middle of it.
    await started(Array.from({ length: PROCESSES - callers.length }, (_, i) => `q${i}`));
    expect(callers).toHaveLength(PROCESSES);
    await Promise.all(
      callers.map(async (caller, i) => {
        let replies_left = 1 + (i % 5);
        const enough = new Promise<void>((resolve) => {
          caller.onReply = () => void (--replies_left === 0 && resolve());
        });
        caller.order('tally', 'fail');
        await enough;
        await caller.kill();
        kills++;
      }),
    );
    expect(kills).toBe(KILLS);
    const [begun, done] = ['begun', 'done'].map((name) => statSync(join(folder, name)).size);
    const tally = await state('tally');
    const failures = 'failures' in tally ? tally.failures : NaN;
    // What was told is counted, and nothing is counted twice.
    expect(failures).toBeGreaterThanOrEqual(done ?? NaN);
    expect(failures).toBeLessThanOrEqual(begun ?? NaN);
    expect(done).toBeGreaterThan(PROCESSES);
    expect(await state('crowd')).toEqual({ kind: 'closed', failures: 0 });
    expect(await state('turns')).toMatchObject({ kind: 'open', failures: 3 });
    await using opened = openSqliteStore(join(folder, 'store'), { clock: systemClock, random: systemRandom });
    expect((await opened.list('breaker.')).map(({ key }) => key)).toEqual([
      'breaker.crowd',
      'breaker.tally',
      'breaker.turns',
    ]);
  } finally {
    await Promise.all(
      callers
        .filter(({ child }) => child.exitCode === null && child.signalCode === null)
        .map((caller) => caller.kill()),
    );
    rmSync(folder, { recursive: true });
  }
});
