/** A drill of an agent that is well: every scenario passes, and nothing is another than before. */
import { appendFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { BUILT_IN_SCENARIOS } from '../../src/drill/scenario.ts';
import { drillResultSchema } from '../../src/drill/history.ts';
import { takeLock } from '../../src/operations/host/lock.ts';
import { openBackend } from '../../src/backend/open.ts';
import type { Clock } from '../../src/clock.ts';
import { failure } from '../crypto/support.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import { aheadClock, makeAgent } from '../operations/support.ts';
import { BUILT_IN, checkIn, drilledAgent, failures, leaving, scenarioIn, scenarioOf } from './support.ts';

const agent = await drilledAgent();
afterAll(() => agent[Symbol.asyncDispose]());
const secret = { kind: 'root', root: agent.root } as const;

describe('a drill of an agent that is well', () => {
  test(
    'passes every scenario, and leaves the agent, its backends and what is remembered of them as they are',
    { timeout: 180_000 },
    async () => {
      const result = await leaving([agent.folder], () =>
        agent.drill([], { secrets: { words: secret, vault: secret } }),
      );
      expect(failures(result)).toEqual({});
      expect(result).toMatchObject({ ok: true, notRun: [], agent: { handle: 'ada' } });
      const names = result.scenarios.map(({ name }) => name);
      // No agent is started unless something says how.
      const expanded = BUILT_IN_SCENARIOS.filter((name) => name !== 'shadow').flatMap((name) =>
        ['lost-backend', 'lost-all-but'].includes(name) ? [`${name}:a`, `${name}:b`] : [name],
      );
      expect(names).toEqual(expanded);
      for (const { steps, identity, recoverySeconds, dataLoss } of result.scenarios) {
        expect(steps.map(({ name }) => name)).toEqual([
          'prepare',
          'simulate',
          'recover',
          'check',
          'measure',
          'clean up',
        ]);
        expect(identity.continuous).toBe(true);
        expect(recoverySeconds).toBeGreaterThanOrEqual(0);
        expect(dataLoss?.files).toBeGreaterThanOrEqual(0);
      }
      const told = (scenario: string, check: string) => checkIn(result, scenario, check).evidence;
      expect(told('lost-host', 'files')).toMatchObject({ files: 9, secrets: 2 });
      expect(told('lost-host', 'databases')['databases']).toEqual(['agent.sqlite: messages 40 rows']);
      expect(told('lost-host', 'tasks')).toMatchObject({ open: 1, done: 1 });
      expect(told('lost-host', 'handoff')['where']).toMatch(/^HEARTBEAT\.md \(/);
      expect(told('damaged-object', 'damage')['healed']).toHaveLength(2);
      expect(told('older-snapshot', 'fallback')).toMatchObject({ steps: 1 });
      expect(scenarioIn(result, 'older-snapshot').snapshot?.seq).toBe(0);
      expect(told('stolen-writer-key', 'writer-key')).toMatchObject({ identity: 1 });
      expect(scenarioIn(result, 'rotated-key').identity.publicKey).not.toBe(result.agent?.publicKey);
      expect(scenarioIn(result, 'lost-paper').secret).toBe('vault');
    },
  );

  test('tells what it could not prove, and does not pass then', async () => {
    const result = await agent.drill(['lost-paper', 'lost-host'], { backends: agent.addresses.slice(0, 1) });
    expect(failures(result)).toEqual({});
    expect(result.ok).toBe(false);
    expect(result.notRun).toMatchObject([
      { name: 'lost-paper', why: expect.stringContaining('vault or shares') as string },
    ]);
    const alone = await agent.drill(['lost-backend', 'damaged-object'], { backends: agent.addresses.slice(0, 1) });
    expect(alone).toMatchObject({ ok: false, scenarios: [] });
    expect(alone.notRun).toHaveLength(2);
    await failure(() => agent.drill(['lost-ghost']), 'usage');
  });

  test('does without what the operator says, and says so; not of what was asked for by name, nor of what failed', async () => {
    const scenarios = BUILT_IN.filter(({ name }) => name === 'lost-host' || name === 'lost-paper');
    const without = { 'lost-paper': 'the words lie in two safes' };
    const result = await agent.drill([], { scenarios, without });
    expect(result.ok).toBe(true);
    expect(result.notRun).toMatchObject([{ name: 'lost-paper', accepted: 'the words lie in two safes' }]);
    expect(drillResultSchema.parse(result)).toEqual(result);
    expect((await agent.drill([], { scenarios })).ok).toBe(false);
    const named = await agent.drill(['lost-host', 'lost-paper'], { scenarios, without });
    expect(named).toMatchObject({ ok: false, notRun: [{ why: expect.stringContaining('no second way') as string }] });
    expect(named.notRun[0]).not.toHaveProperty('accepted');
    const none = await agent.drill([], { scenarios: scenarios.slice(1), without });
    expect(none).toMatchObject({ ok: false, scenarios: [] });
    const given = { words: secret, vault: secret };
    expect((await agent.drill([], { scenarios, without, secrets: given })).scenarios).toHaveLength(2);
    await failure(() => agent.drill([], { scenarios, without: { 'lost-ghost': 'x' } }), 'usage');
  });

  test('measures against objectives, and what a disaster now would lose', async () => {
    const live = join(agent.state, 'late.txt');
    writeFileSync(live, 'x'.repeat(1000));
    appendFileSync(join(agent.state, 'notes.txt'), 'y'.repeat(500));
    const result = await agent.drill(['lost-host'], { objectives: { rtoMs: 0, rpoMs: 1 } });
    expect(failures(result)).toEqual({ 'lost-host': ['freshness', 'recovery-time'] });
    expect(result.objectives).toMatchObject({ rto: { ok: false, mostSeconds: 0 }, rpo: { ok: false } });
    expect(scenarioIn(result, 'lost-host').dataLoss).toMatchObject({ files: 2, bytes: 1500 });
    const generous = { rtoMs: 3_600_000, rpoMs: 24 * 3_600_000 };
    expect((await agent.drill(['lost-host'], { objectives: generous })).objectives.rpo.ok).toBe(true);
    const away = await agent.drill(['lost-host'], { state: undefined, record: {} });
    expect(failures(away)).toEqual({});
    const { dataLoss, skipped } = scenarioIn(away, 'lost-host');
    expect(dataLoss).toMatchObject({ files: null, bytes: null });
    expect(skipped.map(({ name }) => name)).toEqual(expect.arrayContaining(['newest', 'freshness', 'commands']));
  });

  test('runs commands in the restored HOME and nowhere else, and keeps secrets out of what it tells', async () => {
    const commands = [
      'test "$HOME" != "$REAL" && test "$PWD" = "$HOLDFAST_DRILL_STATE" && cat keys/agent.key && echo done',
      'echo it is broken >&2; exit 3',
    ];
    const result = await agent.drill(['lost-host'], { commands, env: { PATH: '/usr/bin:/bin', REAL: agent.folder } });
    expect(failures(result)).toEqual({ 'lost-host': ['command-2'] });
    expect(checkIn(result, 'lost-host', 'command-1').evidence).toMatchObject({ exitCode: 0, output: '[secret] done' });
    const { detail } = checkIn(result, 'lost-host', 'command-2');
    expect(detail).toContain('ended with exit code 3: it is broken');
  });

  test('a scenario of the user runs like the others, by a name of one that comes with holdfast in its place', async () => {
    const own = await scenarioOf(
      'name: lost-host\ntitle: mine\nsimulate: [{ step: lose, backends: [a] }]\nchecks: { only: [identity, files] }\nobjectives: { rto: 1h }\n',
    );
    const result = await agent.drill(['lost-host'], { scenarios: [...BUILT_IN, own] });
    expect(failures(result)).toEqual({});
    const { title, checks } = scenarioIn(result, 'lost-host');
    expect(title).toBe('mine');
    expect(checks.map(({ name }) => name)).toEqual(['identity', 'files', 'recovery-time']);
  });

  test('a backend that goes away in the middle is named, and the drill goes on with the others', async () => {
    let plan: FaultyBackend | undefined;
    const opener: typeof openBackend = async (address, how) => {
      const real = await openBackend(address, how);
      if (address.name !== 'b') return real;
      return (plan = new FaultyBackend(real, { name: 'backend b' }));
    };
    const cut = (event: { type: string; name?: string }) => {
      if (event.name === 'drill lost-backend:a') plan?.plan({ effect: 'fail', times: Infinity });
    };
    const names = ['lost-host', 'lost-backend:b', 'lost-backend:a', 'crash-in-backup'];
    const result = await agent.drill(names, {}, { openBackend: opener, progress: cut });
    plan?.assertAllFired();
    expect(failures(result)).toEqual({
      'lost-backend:a': ['recovery'],
      'crash-in-backup': ['backends'],
    });
    expect(result.backends).toMatchObject([
      { name: 'a', ok: true },
      { name: 'b', ok: false },
    ]);
    expect(checkIn(result, 'crash-in-backup', 'backends').detail).toContain('backend b');
  });

  test.each([
    ['heeds that it is to stop', true],
    ['does not settle whatever it is told', false],
  ])('a scenario that hangs in what %s ends in its time, is told, and the next one runs', async (_, isHeeding) => {
    const timeoutMs = 10 * 60_000;
    const isHung = Promise.withResolvers<void>();
    let isFirst = true;
    const opener: typeof openBackend = async (address, how) => {
      const real = await openBackend(address, how);
      const get: typeof real.get = async (key, range, at) => {
        if (!key.startsWith('packs/') || !isFirst) return real.get(key, range, at);
        isHung.resolve();
        return new Promise((_resolve, reject) => {
          if (isHeeding) at?.signal?.addEventListener('abort', () => reject(new DOMException('', 'AbortError')));
        });
      };
      const done = () => real[Symbol.asyncDispose]();
      return { ...real, get, head: real.head.bind(real), list: real.list.bind(real), [Symbol.asyncDispose]: done };
    };
    const clock: Clock = {
      ...aheadClock,
      // The time of the scenario, and the grace after it, are over as soon as it hangs; nothing else takes any.
      sleep: (ms, signal) => {
        if (!isFirst || (ms !== timeoutMs && ms !== 20_000)) return aheadClock.sleep(ms, signal);
        return isHung.promise.then(() => (ms === 20_000 ? void (isFirst = false) : undefined));
      },
    };
    const over = { timeoutMs, silenceMs: 3_600_000 };
    const result = await agent.drill(['lost-host', 'stolen-writer-key'], over, { openBackend: opener, clock });
    expect(failures(result)).toEqual({ 'lost-host': ['deadline'] });
    const { error, steps } = scenarioIn(result, 'lost-host');
    expect(error).toMatchObject({ code: 'timed_out', message: 'it was not done after 10m, and was at "recover" then' });
    expect(steps.at(-1)?.name).toBe('clean up');
    expect(scenarioIn(result, 'stolen-writer-key').ok).toBe(true);
    expect(readdirSync(`${agent.folder}-worlds`)).toEqual([]);
  });

  test('words that open nothing are refused, and no scenario is said to have failed; beside a secret that does, theirs has', async () => {
    const wrong = { kind: 'root', root: agent.root.map((byte) => byte ^ 1) } as typeof secret;
    const error = await failure(() => agent.drill(['lost-host'], { secrets: { words: wrong } }), 'wrong_key');
    expect(error.message).toContain('given: words');
    const result = await agent.drill(['lost-host', 'lost-paper'], { secrets: { words: secret, vault: wrong } });
    expect(failures(result)).toEqual({ 'lost-paper': ['recovery'] });
    expect(scenarioIn(result, 'lost-paper').error?.code).toBe('wrong_key');
  });

  test('a backend that holds the repository of another agent does not speak for the words', async () => {
    await using other = await makeAgent({ storage: 'folders', seed: 'another agent', fill: () => {} });
    const [foreign = { name: '', url: '' }] = other.addresses;
    const over = { backends: [{ ...foreign, name: 'foreign' }, ...agent.addresses], record: {}, state: undefined };
    const result = await agent.drill(['lost-host', 'lost-backend:foreign'], over);
    expect(scenarioIn(result, 'lost-backend:foreign').ok).toBe(true);
    expect(result.ok).toBe(false);
  });

  test('takes away what a drill that was killed has left, and not what one that runs is at', async () => {
    const worlds = `${agent.folder}-worlds`;
    for (const name of ['holdfast-drill-dead', 'holdfast-drill-live', 'another']) mkdirSync(join(worlds, name));
    mkdirSync(join(worlds, 'holdfast-drill-dead', 'closed'), { mode: 0o500 });
    const lock = takeLock(join(worlds, 'holdfast-drill-live'), 'drill'); // the clock is an hour ahead
    await agent.drill(['stolen-writer-key']);
    expect(readdirSync(worlds).toSorted()).toEqual(['another', 'holdfast-drill-live']);
    lock[Symbol.dispose]();
    for (const name of readdirSync(worlds)) rmSync(join(worlds, name), { recursive: true });
  });

  test('that is interrupted leaves nothing', async () => {
    const stop = new AbortController();
    const seen: string[][] = [];
    const progress = (event: { type: string; name?: string }) => {
      if (event.name !== 'checking databases') return;
      seen.push(readdirSync(`${agent.folder}-worlds`));
      stop.abort();
    };
    const drilling = agent.drill([], {}, { signal: stop.signal, progress });
    await failure(() => drilling, 'interrupted');
    expect(seen).toHaveLength(1);
    expect(seen[0]).toHaveLength(1);
    expect(readdirSync(`${agent.folder}-worlds`)).toEqual([]);
  });
});
