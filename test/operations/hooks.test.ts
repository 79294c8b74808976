/** Commands of the operator's around a backup. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Warning } from '../../src/entry.ts';
import { HoldfastError } from '../../src/errors.ts';
import { HOOK_OUTPUT_MAX_BYTES } from '../../src/limits.ts';
import { Hooks, type HookSettings } from '../../src/operations/hooks.ts';
import { failure } from '../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { makeAgent } from './support.ts';

interface Bench extends Disposable {
  folder: string;
  hooks: Hooks;
  /** What the commands wrote to the file `trace`. */
  trace(): string[];
}

function bench(settings: Partial<HookSettings>, clock: Clock = systemClock): Bench {
  const folder = temporaryFolder();
  const hooks = new Hooks(
    { before: [], after: [], onError: [], timeoutMs: 60_000, ...settings },
    { folder, clock, env: { PATH: process.env['PATH'], HOLDFAST_AGENT: 'ada' } },
  );
  const trace = () => {
    const path = join(folder, 'trace');
    return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
  };
  return { folder, hooks, trace, [Symbol.dispose]: () => removeFolder(folder) };
}

/** Its long sleeps end when `isOver`, its short ones at once: with either, time goes by. */
function hastyClock(longMs: number, isOver: () => boolean): Clock {
  let awayMs = 0;
  return {
    now: () => systemClock.now() + awayMs,
    monotonic: () => systemClock.monotonic() + awayMs,
    sleep: async (ms, signal) => {
      if (ms >= longMs) await until(isOver);
      await systemClock.sleep(1, signal);
      awayMs += ms;
    },
  };
}

const say = (text: string) => `echo ${text} >>trace`;
const work = (trace: string) => async (): Promise<string> => {
  writeFileSync(trace, 'work\n', { flag: 'a' });
  return 'result';
};

describe('hooks', () => {
  test('run in their order around the work, in the folder of the config', async () => {
    using at = bench({ before: [say('one'), say('two')], after: [say('three'), say('four')] });
    const warnings: Warning[] = [];
    expect(await at.hooks.around(work(join(at.folder, 'trace')), warnings)).toBe('result');
    expect(at.trace()).toEqual(['one', 'two', 'work', 'three', 'four']);
    expect(warnings).toEqual([]);
    expect(at.hooks.results.map(({ event, exitCode }) => [event, exitCode])).toEqual([
      ['before', 0],
      ['before', 0],
      ['after', 0],
      ['after', 0],
    ]);
  });

  test('one of `before` that fails ends the run before the work, and says what it printed', async () => {
    using at = bench({ before: ['echo first; echo the database is locked >&2; exit 7'], after: [say('after')] });
    const error = await failure(() => at.hooks.around(work(join(at.folder, 'trace')), []), 'hook_failed');
    expect(error.message).toMatch(/exit code 7: first \/ the database is locked$/);
    expect(error.hint).toContain('state.before');
    expect(at.trace()).toEqual([]);
  });

  test('what the first of `before` did is undone by `after` when the second fails', async () => {
    using at = bench({ before: [say('paused'), 'exit 1'], after: [say('resumed')] });
    await failure(() => at.hooks.around(work(join(at.folder, 'trace')), []), 'hook_failed');
    expect(at.trace()).toEqual(['paused', 'resumed']);
  });

  test('what the only command of `before` did is undone when it is ended in the middle', async () => {
    using at = bench({ before: [`${say('paused')}; sleep 1000`], after: [say('resumed')], timeoutMs: 300 });
    await failure(() => at.hooks.around(work(join(at.folder, 'trace')), []), 'hook_failed');
    expect(at.trace()).toEqual(['paused', 'resumed']);
  });

  test('`after` runs when the work fails, and its own failure is told besides', async () => {
    using at = bench({ before: [say('paused')], after: ['exit 4', say('resumed')] });
    const fail = () => Promise.reject(new HoldfastError('io', 'the disk is full', { hint: 'Empty it.' }));
    const error = await failure(() => at.hooks.around(fail, []), 'io');
    expect(error.message).toBe('the disk is full; besides, the hook after "exit 4" ended with exit code 4');
    expect(error.hint).toBe('Empty it.');
    expect(at.trace()).toEqual(['paused', 'resumed']);
  });

  test('`after` that fails makes a good run an incomplete one: the agent may not be running', async () => {
    using at = bench({ after: ['exit 4', say('resumed')] });
    const warnings: Warning[] = [];
    expect(await at.hooks.around(async () => 1, warnings)).toBe(1);
    expect(warnings).toMatchObject([{ code: 'hook_failed', incomplete: true }]);
    expect(at.trace()).toEqual(['resumed']);
  });

  test('an interruption ends `before` with all it started, and nothing is read', async () => {
    using at = bench({
      before: [say('paused'), 'sleep 1000 & echo $! >child; echo up; wait'],
      after: [say('resumed')],
    });
    const stop = new AbortController();
    const run = at.hooks.around(work(join(at.folder, 'trace')), [], stop.signal);
    await until(() => hasChild(at.folder));
    stop.abort();
    await failure(() => run, 'interrupted');
    expect(at.trace()).toEqual(['paused', 'resumed']);
    expect(isAlive(at.folder)).toBe(false);
  });

  test('`after` runs to its end although the run was interrupted', async () => {
    using at = bench({ before: [say('paused')], after: [say('resumed')] });
    const stop = new AbortController();
    const interrupted = async () => {
      stop.abort();
      throw new HoldfastError('interrupted', 'interrupted');
    };
    await failure(() => at.hooks.around(interrupted, [], stop.signal), 'interrupted');
    expect(at.trace()).toEqual(['paused', 'resumed']);
  });

  test('a command that is not done in time is ended, and what it started too, also what does not listen', async () => {
    const command = `trap '' TERM; (trap '' TERM; sleep 1000) & echo waiting; echo $! >child; wait`;
    const clock = hastyClock(60_000, () => hasChild(at.folder));
    using at = bench({ before: [command] }, clock);
    const { hooks } = at;
    const error = await failure(() => hooks.around(async () => 1, []), 'hook_failed');
    expect(error.message).toContain('was not done after 60 s and was ended');
    expect(hooks.results).toMatchObject([{ exitCode: null, output: expect.stringContaining('waiting') }]);
    await until(() => !isAlive(at.folder));
  });

  test('what a command leaves running is left alone, and is not waited for', async () => {
    using at = bench({ after: ['sleep 1000 & echo $! >child; echo started'] });
    await at.hooks.around(async () => 1, []);
    expect(at.hooks.results).toMatchObject([{ exitCode: 0, output: 'started\n' }]);
    expect(isAlive(at.folder)).toBe(true);
    process.kill(childOf(at.folder), 'SIGKILL');
  });

  test('of its output the end is kept, from both streams', async () => {
    using at = bench({ before: ['yes 0123456789 | head -c 200000; echo the end >&2'] });
    await at.hooks.around(async () => 1, []);
    const [result] = at.hooks.results;
    expect(result?.output.length).toBe(HOOK_OUTPUT_MAX_BYTES);
    expect(result?.output).toMatch(/the end\n$/);
    expect(result?.droppedBytes).toBe(200_000 + 'the end\n'.length - HOOK_OUTPUT_MAX_BYTES);
  });

  test('`onError` is told what went wrong; all of it runs, and none of it fails the run', async () => {
    using at = bench({ onError: ['exit 3', 'env | grep ^HOLDFAST_ | sort >>trace'] });
    const warnings = await at.hooks.onError(new HoldfastError('io', 'the disk is full'));
    expect(warnings).toMatchObject([
      { code: 'hook_failed', message: 'the hook onError "exit 3" ended with exit code 3' },
    ]);
    expect(at.trace()).toEqual([
      'HOLDFAST_AGENT=ada',
      'HOLDFAST_ERROR_CODE=io',
      'HOLDFAST_ERROR_MESSAGE=the disk is full',
      'HOLDFAST_EVENT=onError',
    ]);
  });

  test('a folder that is gone fails the hook and not the program', async () => {
    const at = bench({ before: ['true'] });
    at[Symbol.dispose]();
    await failure(() => at.hooks.around(async () => 1, []), 'hook_failed');
  });
});

describe('a backup with hooks', () => {
  test('reads what `before` wrote, and not what `after` did', async () => {
    await using agent = await makeAgent();
    const { state } = agent;
    const hooks = new Hooks(
      {
        before: [`echo dump >${state}/dump`],
        after: [`rm ${state}/dump; echo on >${state}/on`],
        onError: [],
        timeoutMs: 60_000,
      },
      { folder: agent.folder, clock: systemClock, env: { PATH: process.env['PATH'] } },
    );
    const result = await agent.backup({ hooks });
    expect(result).toMatchObject({
      complete: true,
      hooks: [{ event: 'before', exitCode: 0 }, { event: 'after' }],
      files: { total: 1 },
    });
    await agent.restore(join(agent.folder, 'out'));
    expect(readFileSync(join(agent.folder, 'out', 'dump'), 'utf8')).toBe('dump\n');
    expect(existsSync(join(agent.folder, 'out', 'on'))).toBe(false);
  });

  test('has resumed the agent before it waits for backends that are slow', async () => {
    await using agent = await makeAgent();
    writeFileSync(join(agent.state, 'note'), 'x');
    let committedAt = 0;
    let resumedAt = 0;
    let step = 0;
    const store = agent.stores.get('a');
    const put = store?.put.bind(store);
    if (store && put)
      store.put = (key, ...rest) => {
        if (key.startsWith('snapshots/')) committedAt = ++step;
        return put(key, ...rest);
      };
    const hooks = new Hooks(
      { before: [], after: ['true'], onError: [], timeoutMs: 60_000 },
      { folder: agent.folder, clock: systemClock, env: {}, ended: () => void (resumedAt = ++step) },
    );
    await agent.backup({ hooks });
    expect([resumedAt, committedAt]).toEqual([1, 2]);
  });

  test('whose `before` fails has touched no backend', async () => {
    await using agent = await makeAgent();
    const hooks = new Hooks(
      { before: ['exit 1'], after: [], onError: [], timeoutMs: 60_000 },
      { folder: agent.folder, clock: systemClock, env: {} },
    );
    await failure(() => agent.backup({ hooks }), 'hook_failed');
    expect(await agent.backup()).toMatchObject({ snapshot: { seq: 0 }, complete: true });
  });
});

const childOf = (folder: string) => Number(readFileSync(join(folder, 'child'), 'utf8'));

const hasChild = (folder: string) => existsSync(join(folder, 'child')) && childOf(folder) > 0;

function isAlive(folder: string): boolean {
  try {
    process.kill(childOf(folder), 0);
    // A zombie that nobody has buried yet is none.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${childOf(folder)}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await systemClock.sleep(2);
}
