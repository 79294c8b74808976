/** `breaker run` with real commands. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { HoldfastError } from '../../src/errors.ts';
import { failure } from '../crypto/support.ts';
import { LATE_MS, MINUTE_MS, START_MS, testFleet } from './support.ts';

/** A file that commands append to. */
function journal(): { path: string; lines: () => string[] } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-run-'));
  const path = join(folder, 'journal');
  writeFileSync(path, '');
  return {
    path,
    lines: () => readFileSync(path, 'utf8').split('\n').filter(Boolean),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  };
}

const FAST = { retryBaseMs: 1, retryCapMs: 2 };

describe('a command under a breaker', () => {
  test('its exit code is the one of the run, whatever it is', async () => {
    const fleet = testFleet({ a: { failureThreshold: 100 } });
    const outcomes = [];
    for (const script of ['exit 0', 'exit 1', 'exit 255', 'exit 75', 'kill -9 $$', 'kill -TERM $$'])
      outcomes.push((({ outcome, exitCode }) => `${outcome} ${exitCode}`)(await fleet.run('a', script)));
    expect(outcomes).toEqual(['done 0', 'failed 1', 'failed 255', 'failed 75', 'failed 137', 'failed 143']);
  });

  test('it opens at the threshold, and then nothing runs', async () => {
    using log = journal();
    const fleet = testFleet({ a: { failureThreshold: 2 } });
    for (let i = 0; i < 4; i++) await fleet.run('a', `echo ran >> ${log.path}; exit 1`);
    expect(log.lines()).toHaveLength(2);
    const { outcome, exitCode, rejection, tries } = await fleet.run('a', `echo ran >> ${log.path}`);
    expect({ outcome, exitCode, tries }).toEqual({ outcome: 'rejected', exitCode: 75, tries: [] });
    expect(rejection).toMatchObject({ code: 'breaker_open', retryAtMs: START_MS + 5 * MINUTE_MS });
    expect(fleet.told).toEqual([
      { kind: 'breaker_opened', agent: 'a', message: expect.stringContaining('exit code 1'), exitCode: 1 },
    ]);
  });

  test('what fails for now is tried again with full-jitter pauses, each try counts, and success ends it', async () => {
    using log = journal();
    const fleet = testFleet({ a: { failureThreshold: 10, tries: 5, retryBaseMs: 4, retryCapMs: 8 } });
    const script = `echo ran >> ${log.path}; [ $(wc -l < ${log.path}) -ge 4 ]`;
    const result = await fleet.run('a', script);
    expect(result).toMatchObject({ outcome: 'done', exitCode: 0 });
    expect(result.tries.map(({ exitCode }) => exitCode)).toEqual([1, 1, 1, 0]);
    expect(fleet.pauses).toHaveLength(3);
    for (const [i, most] of [4, 8, 8].entries()) expect(fleet.pauses[i]).toBeLessThanOrEqual(most);
    expect((await fleet.breakers.look('a')).state).toEqual({ kind: 'closed', failures: 0 });
  });

  test('no try is made once the breaker has opened by them', async () => {
    using log = journal();
    const fleet = testFleet({ a: { ...FAST, failureThreshold: 3, tries: 10 } });
    const result = await fleet.run('a', `echo ran >> ${log.path}; exit 9`);
    expect(log.lines()).toHaveLength(3);
    expect(result).toMatchObject({ outcome: 'failed', exitCode: 9, rejections: [] });
  });

  test('what fails for good, by exit code or what it wrote to stderr, is not tried again, not counted, and has no fallback', async () => {
    using log = journal();
    const written: string[] = [];
    const fleet = testFleet({
      a: {
        ...FAST,
        tries: 5,
        failureThreshold: 1,
        permanentExitCodes: [64],
        permanentStderr: ['^bad request: \\d+$'],
        fallback: ['queue_for_retry'],
      },
    });
    const streams = {
      ...({ stdin: 'ignore', stdout: 'stderr', isInteractive: false } as const),
      stderr: (bytes: Uint8Array) => void written.push(Buffer.from(bytes).toString()),
    };
    const byCode = await fleet.run('a', `echo ran >> ${log.path}; exit 64`, { streams });
    expect(byCode).toMatchObject({ outcome: 'failed', exitCode: 64, permanent: true, queued: null });
    const byText = await fleet.run('a', `echo ran >> ${log.path}; echo 'so: ü\nbad request: 42\nend' >&2; exit 1`, {
      streams,
    });
    expect(byText).toMatchObject({ outcome: 'failed', exitCode: 1, permanent: true });
    expect(written.join('')).toBe('so: ü\nbad request: 42\nend\n');
    expect(log.lines()).toHaveLength(2);
    expect(await fleet.state('a')).toBe('closed');
    expect(await fleet.store.list('')).toEqual([]);
    expect(JSON.stringify(byText.tries)).not.toContain('42'); // not what it printed
  });

  test('what cannot be started says so, and is the fault of nobody', async () => {
    const fleet = testFleet({ a: { failureThreshold: 1 } });
    const missing = await fleet.run('a', '', { argv: ['/no/such/program'] });
    expect(missing).toMatchObject({ outcome: 'failed', exitCode: 127, permanent: true });
    expect(missing.warnings[0]?.message).toContain('could not be started');
    expect(await fleet.run('a', '', { argv: [tmpdir()] })).toMatchObject({ exitCode: 126 });
    expect(await fleet.run('a', '', { argv: ['sh', 'a\0b'] })).toMatchObject({ exitCode: 126 });
    expect(await fleet.run('a', 'true', { cwd: '/no/such/folder' })).toMatchObject({ exitCode: 127 });
    expect(await fleet.state('a')).toBe('closed');
  });

  test('one that is late is ended with all it started, and that is a failure', async () => {
    using log = journal();
    let begun = () => {};
    const late = new Promise<void>((resolve) => (begun = resolve));
    const fleet = testFleet({ a: { failureThreshold: 1, permanentStderr: ['never'] } }, { late });
    const streams = { stdin: 'ignore', stdout: 'stderr', stderr: () => begun(), isInteractive: false } as const;
    const script = `sleep 1000 & echo $! > ${log.path}; echo now >&2; wait`;
    const result = await fleet.run('a', script, { timeoutMs: LATE_MS, streams });
    expect(result).toMatchObject({
      outcome: 'failed',
      exitCode: 124,
      warnings: [{ code: 'not_done' }, { code: 'breaker_opened' }],
    });
    expect(await fleet.state('a')).toBe('open');
    expect(() => process.kill(Number(log.lines()[0]), 0)).toThrow(/ESRCH/);
  });

  test('a success that took too long counts as a failure', async () => {
    const fleet = testFleet({ a: { failureThreshold: 1, slowMs: 0.001 } });
    expect(await fleet.run('a', 'true')).toMatchObject({ outcome: 'done', exitCode: 0 });
    expect(await fleet.state('a')).toBe('open');
  });

  test('signals are passed on; what it ends with is told, and counts for nothing', async () => {
    const fleet = testFleet({ a: { ...FAST, failureThreshold: 1, tries: 5, fallback: ['queue_for_retry'] } });
    using log = journal();
    let send: (name: NodeJS.Signals) => void = () => {};
    let disposed = 0;
    const signals = (receive: typeof send) => {
      send = receive;
      return {
        [Symbol.dispose]: () => {
          disposed++;
          send = () => {};
        },
      };
    };
    /** As soon as it says that it runs. */
    const streams = {
      ...({ stdin: 'ignore', stdout: 'stderr', isInteractive: false } as const),
      stderr: (bytes: Uint8Array) => {
        if (Buffer.from(bytes).toString().includes('now')) send('SIGTERM');
      },
    };
    const stop = `trap 'echo TERM >> ${log.path}; exit 3' TERM; echo now >&2; for i in $(seq 3000); do sleep 0.01; done`;
    const watched = testFleet({
      a: { ...FAST, failureThreshold: 1, tries: 5, fallback: ['queue_for_retry'], permanentStderr: ['never'] },
    });
    const stopped = await watched.run('a', stop, { signals, streams });
    expect(stopped).toMatchObject({ outcome: 'failed', exitCode: 3, interrupted: true, queued: null });
    expect(log.lines()).toEqual(['TERM']);
    expect(disposed).toBe(1);
    expect(await watched.store.list('')).toEqual([]);
    const wellBehaved = `trap 'exit 0' TERM; echo now >&2; for i in $(seq 3000); do sleep 0.01; done`;
    expect(await watched.run('a', wellBehaved, { signals, streams })).toMatchObject({ outcome: 'done', exitCode: 0 });
    // While nothing runs, a signal ends the waiting.
    const early = fleet.run('a', `echo ran >> ${log.path}`, {
      signals: (receive) => {
        receive('SIGINT');
        return { [Symbol.dispose]: () => {} };
      },
    });
    await failure(() => early, 'interrupted');
    expect(log.lines()).toEqual(['TERM']);
  });

  test('the library can end it by an AbortSignal', async () => {
    const stop = new AbortController();
    const fleet = testFleet({ a: { failureThreshold: 1, permanentStderr: ['never'], fallback: ['queue_for_retry'] } });
    const { breakers } = fleet;
    const { guardedRun } = await import('../../src/fleet/guarded-run.ts');
    const { systemClock, systemRandom } = await import('../../src/clock.ts');
    const { breakerPolicy } = await import('../../src/fleet/breaker-policy.ts');
    const streams = { stdin: 'ignore', stdout: 'stderr', stderr: () => stop.abort(), isInteractive: false } as const;
    const run = guardedRun(
      {
        ...{
          breakers,
          agent: 'a',
          argv: ['sh', '-c', 'echo now >&2; exec sleep 1000'],
          cwd: tmpdir(),
          env: process.env,
          streams,
        },
        policyOf: (agent) => breakerPolicy(agent, { defaults: { permanentStderr: ['never'] } }),
        tell: () => Promise.resolve([]),
      },
      { clock: systemClock, random: systemRandom, progress: () => {}, signal: stop.signal },
    );
    await failure(() => run, 'interrupted');
    expect(await fleet.state('a')).toBe('closed');
  });
});

describe('instead of what cannot be done', () => {
  test('another agent is asked, and the command is told which', async () => {
    using log = journal();
    const fleet = testFleet({
      a: { failureThreshold: 1, fallback: ['b', 'queue_for_retry'] },
      b: { failureThreshold: 1, fallback: ['c'] },
      c: { fallback: ['a'] },
    });
    const script = `echo $HOLDFAST_AGENT >> ${log.path}; [ $HOLDFAST_AGENT = c ]`;
    const first = await fleet.run('a', script);
    expect(first).toMatchObject({ outcome: 'done', exitCode: 0, rejections: [] });
    expect(log.lines()).toEqual(['a', 'b', 'c']);
    const second = await fleet.run('a', script);
    expect(second.tries.map(({ agent }) => agent)).toEqual(['c']);
    expect(second.rejections.map(({ agent }) => agent)).toEqual(['a', 'b']);
    // A circle ends.
    const third = await fleet.run('c', `echo $HOLDFAST_AGENT >> ${log.path}; exit 1`);
    expect(third).toMatchObject({ outcome: 'queued', exitCode: 3 });
    expect(third.tries.map(({ agent }) => agent)).toEqual(['c']);
  });

  test('the command is queued: after a failure for the usual pause, before an open breaker until that is tried', async () => {
    const fleet = testFleet({ a: { failureThreshold: 1, fallback: ['queue_for_retry'] } });
    const failed = await fleet.run('a', 'exit 4');
    expect(failed).toMatchObject({ outcome: 'queued', exitCode: 3, tries: [{ exitCode: 4 }] });
    fleet.later(1);
    const refused = await fleet.run('a', 'exit 4');
    expect(refused).toMatchObject({ outcome: 'queued', exitCode: 3, tries: [] });
    expect((await fleet.queue.list()).map(({ id, state }) => ({ id, state }))).toEqual([
      { id: failed.queued, state: { kind: 'waiting', dueMs: START_MS + MINUTE_MS } },
      { id: refused.queued, state: { kind: 'waiting', dueMs: START_MS + 5 * MINUTE_MS } },
    ]);
  });

  test('a person is told, and the run is still no success', async () => {
    const fleet = testFleet({ a: { failureThreshold: 1, fallback: ['escalate_to_human'] } });
    expect(await fleet.run('a', 'exit 4')).toMatchObject({ outcome: 'failed', exitCode: 4 });
    expect(await fleet.run('a', 'exit 4')).toMatchObject({ outcome: 'rejected', exitCode: 75 });
    expect(fleet.told.map(({ kind, exitCode }) => [kind, exitCode])).toEqual([
      ['breaker_opened', 4],
      ['escalated', 4],
      ['escalated', 75],
    ]);
  });

  test('it goes on with a warning, where the config says so', async () => {
    const fleet = testFleet({ a: { failureThreshold: 1, fallback: ['proceed_with_warning'] } });
    expect(await fleet.run('a', 'exit 4')).toMatchObject({ outcome: 'proceeded', exitCode: 0 });
    const { outcome, exitCode, warnings } = await fleet.run('a', 'exit 4');
    expect({ outcome, exitCode }).toEqual({ outcome: 'proceeded', exitCode: 0 });
    expect(warnings).toEqual([{ code: 'proceeded', message: expect.stringContaining('going on without agent a') }]);
  });

  test('a queue that takes nothing is told, and the failure stays one', async () => {
    const fleet = testFleet({ a: { fallback: ['queue_for_retry'] } });
    const enqueue = () => Promise.reject(new HoldfastError('io', 'the queue is full'));
    const { outcome, exitCode, warnings } = await fleet.run('a', 'exit 4', { enqueue });
    expect({ outcome, exitCode }).toEqual({ outcome: 'failed', exitCode: 4 });
    expect(warnings).toEqual([{ code: 'not_queued', message: expect.stringContaining('full') }]);
  });

  test('a store that fails after the command has run does not hide what came of it', async () => {
    let isBroken = false;
    const broken = () => Promise.reject(new HoldfastError('busy', 'the store is held'));
    const fleet = testFleet(
      { a: { failureThreshold: 1 } },
      { wrap: (store) => ({ ...store, create: (...args) => (isBroken ? broken() : store.create(...args)) }) },
    );
    isBroken = true;
    expect(await fleet.run('a', 'exit 4')).toMatchObject({
      ...{ outcome: 'failed', exitCode: 4 },
      warnings: [{ code: 'not_counted', message: expect.stringContaining('the store is held') }],
    });
  });
});
