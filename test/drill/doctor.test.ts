/** `doctor`: each level is earned, by evidence that was looked at, and the next step is the first that is missing. */
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { hex } from '../../src/crypto/hash.ts';
import { doctor, WITHIN, type DoctorOptions } from '../../src/drill/doctor.ts';
import { HoldfastError } from '../../src/errors.ts';
import { failureDomain, THIS_MACHINE } from '../../src/operations/failure-domain.ts';
import { setRelays } from '../../src/operations/identity-log.ts';
import { DAY_MS } from '../../src/units.ts';
import { FakeClock } from '../fake-clock.ts';
import { aheadClock, makeAgent, type TestAgent } from '../operations/support.ts';
import { drillResult, scenarioResult, wholeScenario } from './results.ts';

let agent: TestAgent;
const nowMs = aheadClock.now() + 60_000;
const clock = new FakeClock(nowMs);
const iso = (ms: number) => new Date(ms).toISOString();

beforeAll(async () => {
  agent = await makeAgent({
    fill: (state) => {
      mkdirSync(join(state, 'memory'));
      writeFileSync(join(state, 'memory', 'today.md'), 'one\n');
    },
  });
  await agent.backup();
  await agent.backup({ host: 'second-host' });
  const log = { backends: agent.addresses, access: agent.access.writer, folders: agent.folders };
  await setRelays({ ...log, signer: agent.signer, relays: ['wss://one.example', 'wss://two.example'] }, agent.seams());
});
afterAll(() => agent[Symbol.asyncDispose]());

/** All that level 4 asks for. */
function best(over: Partial<DoctorOptions> = {}): DoctorOptions {
  const passed = drillResult({
    started: iso(nowMs - DAY_MS),
    scenarios: [wholeScenario()],
    agent: { handle: 'ada', publicKey: hex(agent.signer.publicKey), fingerprint: '' },
  });
  const away = agent.addresses.map(({ name }) => ({ name, url: `s3://bucket?endpoint=https://${name}.example` }));
  return {
    state: { root: agent.state, profile: 'files' },
    backends: away,
    require: 2,
    log: { backends: away, access: agent.access.writer, folders: agent.folders },
    keyFiles: [agent.files.identity],
    runs: {
      verify: {
        startedMs: nowMs - DAY_MS,
        endedMs: nowMs - DAY_MS,
        successMs: nowMs - DAY_MS,
        seconds: 1,
        exitCode: 0,
      },
    },
    paperMs: nowMs - DAY_MS,
    drills: { drills: [{ id: '', result: passed, isCurrent: true }], problems: [] },
    within: WITHIN,
    ...over,
  };
}
const look = (over: Partial<DoctorOptions> = {}, at = nowMs) =>
  doctor(best(over), agent.seams({ clock: at === nowMs ? clock : new FakeClock(at) }));

describe('the level of an agent', () => {
  it('is 4 when everything was looked at and is right', async () => {
    const found = await look();
    expect(found.levels.flatMap(({ evidence }) => evidence).filter(({ ok }) => !ok)).toEqual([]);
    expect(found).toMatchObject({ level: 4, next: null });
    expect(Object.values(found.triangle).map(({ safe }) => safe)).toEqual([true, true, true]);
  });

  const lacking: [string, number, string, () => Partial<DoctorOptions>, number?][] = [
    ['no state in the config', 0, 'state in files', () => ({ state: undefined })],
    [
      'a state root that is not there',
      0,
      'state in files',
      () => ({ state: { root: '/nowhere/at/all', profile: 'files' } }),
    ],
    [
      'a key that does not fit',
      1,
      'newest snapshot on two backends',
      () => ({ log: new HoldfastError('missing_key', 'no writer key') }),
    ],
    ['backends that are all of this machine', 1, 'in different failure domains', () => ({ backends: agent.addresses })],
    [
      'two backends at one host',
      1,
      'in different failure domains',
      () => ({ backends: ['a', 'b'].map((name) => ({ name, url: `sftp://u@one.example/${name}` })) }),
    ],
    [
      'a third backend that is to be required and lacks it',
      1,
      'newest snapshot on two backends',
      () => ({ require: 3 }),
    ],
    ['a backup that is too old', 1, 'fresh', () => ({}), nowMs + 3 * DAY_MS],
    ['a clock that was set back', 1, 'fresh', () => ({}), nowMs - 3 * DAY_MS],
    ['a verification that never was', 1, 'verified', () => ({ runs: {} })],
    [
      'a verification that found damage after one that did not',
      1,
      'verified',
      () => ({
        runs: { verify: { startedMs: nowMs, endedMs: nowMs, successMs: nowMs - DAY_MS, seconds: 1, exitCode: 13 } },
      }),
    ],
    ['keys that lie in the state', 2, 'keys apart from the state', () => ({ keyFiles: [join(agent.state, 'id.key')] })],
    [
      'keys that lie in the state by a link',
      2,
      'keys apart from the state',
      () => {
        const link = `${agent.folder}-link`;
        symlinkSync(agent.state, link);
        onTestFinished(() => rmSync(link));
        writeFileSync(join(agent.state, 'id.key'), 'key');
        onTestFinished(() => rmSync(join(agent.state, 'id.key')));
        return { keyFiles: [join(link, 'id.key')] };
      },
    ],
    ['a paper that nobody has looked at', 2, 'paper verified', () => ({ paperMs: undefined })],
    ['a paper that was looked at in the future', 2, 'paper verified', () => ({ paperMs: nowMs + DAY_MS })],
    ['no drill', 2, 'drill passed', () => ({ drills: { drills: [], problems: [] } })],
    [
      'a drill of the shadow alone',
      2,
      'drill passed',
      () => ({
        drills: {
          drills: [{ id: '', result: drillResult({ started: iso(nowMs - 1000) }), isCurrent: true }],
          problems: [],
        },
      }),
    ],
    [
      'a drill that failed after one that passed',
      2,
      'drill passed',
      () => {
        const failed = drillResult({
          started: iso(nowMs - 1000),
          ok: false,
          scenarios: [scenarioResult({ ok: false })],
        });
        return {
          drills: { drills: [...best().drills.drills, { id: '', result: failed, isCurrent: true }], problems: [] },
        };
      },
    ],
  ];
  it.each(lacking)('with %s is %i', async (_, level, evidence, over, at) => {
    const found = await look(over(), at);
    expect(found.level).toBe(level);
    const wrong = found.levels.find(({ met }) => !met)?.evidence.filter(({ ok }) => !ok) ?? [];
    expect(wrong.map(({ name }) => name)).toContain(evidence);
    expect(found.next?.command).toBe(wrong[0]?.fix);
    expect(found.next?.command).toMatch(/^(holdfast|ls|mv) /);
  });

  it('with one host and no relay is 3', async () => {
    await using alone = await makeAgent({ seed: 'alone', fill: (state) => writeFileSync(join(state, 'a.md'), 'a') });
    await alone.backup();
    const log = { backends: alone.addresses, access: alone.access.writer, folders: alone.folders };
    const away = alone.addresses.map(({ name }) => ({ name, url: `s3://bucket?endpoint=https://${name}.example` }));
    const options = best({ backends: away, log, state: { root: alone.state, profile: 'files' } });
    const found = await doctor(options, alone.seams({ clock }));
    expect(found).toMatchObject({ level: 3, next: { command: 'holdfast recover --from URL --target DIR' } });
    expect(found.triangle.connectivity.safe).toBe(false);
  });

  it('has no backup made where nothing can be looked at', async () => {
    const { next } = await look({ log: new HoldfastError('missing_key', 'no writer key') });
    expect(next?.command).toBe('holdfast recover --from URL --target DIR');
    const all = [...agent.stores];
    agent.stores.clear();
    try {
      expect((await look()).next?.command).toBe('holdfast backend test a');
    } finally {
      for (const [name, store] of all) agent.stores.set(name, store);
    }
  });

  it('counts no backend that cannot be reached', async () => {
    const { stores } = agent;
    const b = stores.get('b');
    stores.delete('b');
    try {
      const found = await look();
      expect(found.level).toBe(1);
      expect(found.next?.why).toContain('not on b');
      expect(found.warnings.some(({ message }) => message.includes('backend b'))).toBe(true);
    } finally {
      if (b) stores.set('b', b);
    }
  });
});

describe('the failure domain of a backend', () => {
  it.each([
    ['s3://bucket?endpoint=https://storage.example:9000', 'storage.example'],
    ['s3://bucket?region=eu-central-1', 'AWS eu-central-1'],
    ['sftp://user@nas.example/~/x', 'nas.example'],
    ['s3://bucket?endpoint=http://127.0.0.1:9000', THIS_MACHINE],
    ['sftp://user@localhost:2222/x', THIS_MACHINE],
    ['file:///not/there/yet', THIS_MACHINE],
  ])('%s is of %s', async (url, machine) => {
    expect((await failureDomain(url)).machine).toBe(machine);
  });
});
