/** The history of drills: signed, kept in order, and no proof of what it does not prove. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { hex } from '../../src/crypto/hash.ts';
import { drillDue, drillResultSchema, DRILLS_KEPT, keepDrill, readDrills } from '../../src/drill/history.ts';
import { DAY_MS } from '../../src/units.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { drillResult, hostileResult, scenarioResult, wholeScenario } from './results.ts';

const keyOf = (byte: number) => {
  const seed = new Uint8Array(32).fill(byte);
  return { seed, publicKey: publicKeyOf(seed) };
};
const agent = keyOf(1);
const started = (time: string, over = {}) =>
  drillResult({ started: time, agent: { handle: 'ada', publicKey: hex(agent.publicKey), fingerprint: 'f' }, ...over });

let state: string;
beforeEach(() => {
  state = temporaryFolder();
});
afterEach(() => removeFolder(state));
const files = () => readdirSync(join(state, 'drills'));

describe('a history of drills', () => {
  it('gives back what was kept, oldest first, in files for nobody else', () => {
    keepDrill(state, started('2026-03-01T00:00:00.000Z'), agent);
    keepDrill(state, started('2026-02-01T00:00:00.000Z'), agent);
    const { drills, problems } = readDrills(state, agent.publicKey);
    expect(problems).toEqual([]);
    expect(drills.map(({ result }) => result)).toEqual([
      started('2026-02-01T00:00:00.000Z'),
      started('2026-03-01T00:00:00.000Z'),
    ]);
    for (const name of files()) expect(statSync(join(state, 'drills', name)).mode & 0o777).toBe(0o600);
  });

  it('keeps whatever a drill can tell', () => {
    const told = hostileResult();
    expect(drillResultSchema.parse(JSON.parse(JSON.stringify(told)))).toEqual(told);
  });

  it('tells a drill that was changed, renamed, or signed by somebody else, and does not count it', () => {
    keepDrill(state, started('2026-02-01T00:00:00.000Z'), agent);
    keepDrill(state, started('2026-02-02T00:00:00.000Z'), agent);
    keepDrill(state, started('2026-02-03T00:00:00.000Z'), keyOf(2));
    const [first = '', second = ''] = files().toSorted();
    const path = join(state, 'drills', first);
    const envelope = JSON.parse(readFileSync(path, 'utf8')) as { payload: string };
    const mended = Buffer.from(envelope.payload, 'base64').toString().replace('"ok":true', '"ok":false');
    writeFileSync(path, `${JSON.stringify({ ...envelope, payload: Buffer.from(mended).toString('base64') })}\n`);
    renameSync(
      join(state, 'drills', second),
      join(
        state,
        'drills',
        second.replace(/-\w/, (c) => (c === '-0' ? '-1' : '-0')),
      ),
    );
    const { drills, problems } = readDrills(state, agent.publicKey);
    expect(drills).toEqual([]);
    expect(problems).toHaveLength(3);
  });

  it('shows drills of an earlier key, which do not prove that the present one would come back', () => {
    keepDrill(state, started('2026-02-01T00:00:00.000Z'), agent);
    const history = readDrills(state, keyOf(3).publicKey);
    expect(history.drills.map(({ isCurrent }) => isCurrent)).toEqual([false]);
    expect(drillDue(history, 90 * DAY_MS, Date.parse('2026-02-02T00:00:00Z')).due).toBe(true);
  });

  it(`keeps the newest ${DRILLS_KEPT}`, () => {
    const folder = join(state, 'drills');
    mkdirSync(folder);
    const old = Array.from({ length: DRILLS_KEPT + 2 }, (_, i) => {
      const stamp = new Date(Date.UTC(2025, 0, 1) + i * 60_000).toISOString().replace(/[-:]|\.\d+/g, '');
      return `${stamp}-${'0'.repeat(64)}.json`;
    });
    for (const name of old) writeFileSync(join(folder, name), '');
    keepDrill(state, started('2026-02-01T00:00:00.000Z'), agent);
    expect(files()).toHaveLength(DRILLS_KEPT);
    expect(files()).not.toContain(old[2]);
    expect(readDrills(state, agent.publicKey).drills).toHaveLength(1);
  });

  it('says where it cannot be kept', () => {
    chmodSync(state, 0o500);
    writeFileSync(`${state}/x`, ''); // root may
    expect(() => keepDrill(`${state}/x`, drillResult(), agent)).toThrow(/cannot be kept in/);
  });
});

describe('a drill is due', () => {
  const at = (day: number) => Date.UTC(2026, 1, day);
  const whole = { scenarios: [wholeScenario()] };
  const dueAt = (day: number) => drillDue(readDrills(state, agent.publicKey), 10 * DAY_MS, at(day));

  it('when there is none, and again when the last that passed is too old', () => {
    expect(dueAt(1)).toMatchObject({ due: true, last: undefined });
    keepDrill(state, started('2026-02-01T00:00:00.000Z', whole), agent);
    expect(dueAt(2)).toMatchObject({ due: false, dueMs: at(11) });
    expect(dueAt(11).due).toBe(true);
  });

  it('never again when it is wanted less often than there are dates', () => {
    keepDrill(state, started('2026-02-01T00:00:00.000Z', { scenarios: [wholeScenario()] }), agent);
    const { due, dueMs } = drillDue(readDrills(state, agent.publicKey), 99_999_999 * DAY_MS, at(2));
    expect(due).toBe(false);
    expect(new Date(dueMs).toISOString()).toBe('+275760-09-13T00:00:00.000Z');
  });

  it('after one that failed, that recovered nothing, or that is dated to come', () => {
    keepDrill(state, started('2026-02-01T00:00:00.000Z', { scenarios: [scenarioResult({ ok: false })] }), agent);
    keepDrill(state, started('2026-02-02T00:00:00.000Z', { scenarios: [] }), agent);
    keepDrill(
      state,
      started('2026-02-03T00:00:00.000Z', { scenarios: [wholeScenario({ recoverySeconds: null })] }),
      agent,
    );
    keepDrill(state, started('2026-04-01T00:00:00.000Z', whole), agent);
    expect(dueAt(4)).toMatchObject({ due: true, last: undefined });
  });

  it('after one that looked at little of what came back, such as that of the shadow alone', () => {
    const named = (...names: string[]) => names.map((name) => ({ name, ok: true, detail: '', evidence: {} }));
    const shadow = scenarioResult({ name: 'shadow', checks: named('identity', 'files', 'shadow: answers') });
    keepDrill(state, started('2026-02-01T00:00:00.000Z', { scenarios: [shadow] }), agent);
    expect(dueAt(2)).toMatchObject({ due: true, last: undefined, failed: undefined });
    keepDrill(state, started('2026-02-02T00:00:00.000Z', { scenarios: [shadow, wholeScenario()] }), agent);
    expect(dueAt(3).due).toBe(false);
    keepDrill(state, started('2026-02-03T00:00:00.000Z', { scenarios: [shadow] }), agent);
    expect(dueAt(4)).toMatchObject({ due: false, dueMs: at(12) });
  });

  it('at once when the newest has failed, and no more when one has passed since', () => {
    const failed = { scenarios: [wholeScenario(), wholeScenario({ name: 'lost-backend:nas', ok: false })] };
    keepDrill(state, started('2026-02-01T00:00:00.000Z', whole), agent);
    keepDrill(state, started('2026-02-02T00:00:00.000Z', failed), agent);
    expect(dueAt(3)).toMatchObject({
      due: true,
      dueMs: at(3),
      failed: { result: { started: '2026-02-02T00:00:00.000Z' } },
    });
    keepDrill(state, started('2026-02-03T00:00:00.000Z', whole), agent);
    expect(dueAt(4)).toMatchObject({ due: false, failed: undefined });
  });
});
