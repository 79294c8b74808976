/** Forgetting snapshots: what goes, what stays, and what is left to be put back. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import { forget, type ForgetOptions } from '../../src/operations/forget.ts';
import { listSnapshots } from '../../src/operations/look.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { undoForget } from '../../src/operations/undo-forget.ts';
import { beginRun, collect, endRun, readCondemned } from '../../src/repository/repository.ts';
import { DAY_MS } from '../../src/units.ts';
import { failure } from '../crypto/support.ts';
import {
  aheadClock,
  contentsOf,
  expectLevel,
  expectSameContent,
  leavingBackends,
  makeAgent,
  putBack,
  storeOf,
} from './support.ts';

const memory = (text: string) => writeFileSync(join(agent.state, 'MEMORY.md'), text);
const agent = await makeAgent({ seed: 'forget', fill: (state) => writeFileSync(join(state, 'MEMORY.md'), '-') });
afterAll(() => agent[Symbol.asyncDispose]());

/** A snapshot a day at noon, number 0 the oldest. */
const NOON = Date.parse('2027-01-01T12:00:00Z');
const atDay = (day: number) => ({ ...aheadClock, now: () => NOON + day * DAY_MS });
const ids: string[] = [];
for (let day = 0; day < 6; day++) {
  memory(`of day ${day}`);
  ids.push((await agent.backup({}, { clock: atDay(day) })).snapshot.id);
}
const pristine = await contentsOf(agent);
const remembered = readFileSync(join(agent.folders.state, 'state.json'));
beforeEach(async () => {
  await putBack(agent, pristine);
  writeFileSync(join(agent.folders.state, 'state.json'), remembered);
});

const { addresses: backends, signer, folders } = agent;
const access = agent.access.writer;
const run = (over: Partial<ForgetOptions> = {}, seams: Partial<Seams> = {}) => {
  const options = { backends, access, signer, folders, host: 'h', snapshots: [], rules: { last: 2 }, protect: [] };
  return forget({ ...options, dryRun: false, ...over }, agent.seams({ clock: atDay(6), ...seams }));
};
const say = (snapshot: string, over: object) =>
  annotateSnapshot({ backends, access, signer, folders, host: 'h', snapshot, ...over }, agent.seams());
const list = async () => {
  const { snapshots, warnings } = await listSnapshots({ backends, access }, agent.seams());
  return { there: snapshots.map(({ seq }) => seq), warnings };
};
const keysOn = async (name: string, prefix: string) =>
  [...((await contentsOf(agent)).get(name)?.keys() ?? [])].filter((key) => key.startsWith(prefix));
const seqs = (rows: readonly { seq: number }[]) => rows.map(({ seq }) => seq);

describe('forget', () => {
  test('deletes what no rule keeps, on every backend, and nobody takes the gap for a loss', async () => {
    const result = await run();
    expect(result).toMatchObject({ complete: true, warnings: [], dryRun: false });
    expect(seqs(result.forgotten)).toEqual([0, 1, 2, 3]);
    expect(result.kept.map(({ seq, reasons }) => [seq, reasons])).toEqual([
      [4, ['last']],
      [5, ['newest', 'last']],
    ]);
    expect(result.backends).toEqual([
      { name: 'a', state: 'done' },
      { name: 'b', state: 'done' },
    ]);
    expect(await keysOn('a', 'snapshots/')).toHaveLength(2);
    await expectLevel(agent);
    expect(await list()).toEqual({ there: [4, 5], warnings: [] });
    expect(await agent.verify('chunks')).toMatchObject({ damaged: [], complete: true });
    expect((await agent.backup()).snapshot).toMatchObject({ seq: 6, parent: ids[5] });
  });

  test('while a backend was away: what it has still is told, and is no damage of the others', async () => {
    await run({ snapshots: [ids[2] ?? ''] });
    const before = (await contentsOf(agent)).get('b') ?? new Map<string, Uint8Array>();
    await run();
    for (const [key, bytes] of [...(pristine.get('b') ?? []), ...before])
      if (/^(snapshots|annotations)/.test(key)) await storeOf(agent, 'b').inner.put(key, bytes);
    const { damaged, warnings, complete } = await agent.verify('chunks');
    expect([damaged, warnings.map(({ code }) => code), complete]).toEqual([[], ['forgotten_behind'], false]);
    expect(warnings[0]?.message).toMatch(/^backend b .*holdfast sync/);
  });

  test('run again and again leaves one mark of what was forgotten', async () => {
    await run({ snapshots: [ids[2] ?? ''] });
    await run({ snapshots: [ids[0] ?? ''] });
    expect(await list()).toEqual({ there: [1, 3, 4, 5], warnings: [] });
    await run();
    const again = await leavingBackends(agent, () => run());
    expect(again).toMatchObject({ forgotten: [], records: [], complete: true });
    expect(await keysOn('a', 'annotations/')).toHaveLength(1);
    expect(await list()).toEqual({ there: [4, 5], warnings: [] });
  });

  test('keeps the objects that it deletes in a condemned record, byte for byte', async () => {
    const { records } = await run();
    const { condemned, problems } = await readCondemned(await agent.open('writer'));
    expect(problems).toEqual([]);
    expect(condemned.map(({ id }) => id)).toEqual(records);
    for (const { key, object } of condemned[0]?.record.snapshots ?? [])
      expect(Buffer.compare(Buffer.from(object, 'base64'), pristine.get('a')?.get(key) ?? Buffer.alloc(0))).toBe(0);
    expect(condemned[0]?.record).toMatchObject({ packs: [], snapshots: { length: 4 } });
  });

  test('makes several condemned records where the snapshots are large, and any of them puts its own back', async () => {
    for (const day of [6, 7, 8, 9]) await agent.backup({ config: String(day).repeat(2 ** 21) }, { clock: atDay(day) });
    const late = { clock: atDay(10) };
    const { records, forgotten } = await run({ rules: { last: 1 } }, late);
    expect(seqs(forgotten)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(records).toHaveLength(2);
    const undo = { backends, access, signer, folders, host: 'h', undo: records[1] ?? '', settleMs: 0 };
    expect(seqs((await undoForget(undo, agent.seams(late))).restored)).toEqual([8]);
    expect(await list()).toEqual({ there: [8, 9], warnings: [] });
  });

  test('with a dry run changes nothing, and tells the same', async () => {
    const would = await leavingBackends(agent, () => run({ dryRun: true }));
    const does = await run();
    expect([would.kept, would.forgotten]).toEqual([does.kept, does.forgotten]);
    expect(would).toMatchObject({ dryRun: true, records: [], complete: true });
  });

  test('without any rule is refused, and so is one that keeps nothing', async () => {
    for (const rules of [{}, { daily: 0, last: 0 }]) {
      const error = await leavingBackends(agent, () => failure(() => run({ rules }), 'usage'));
      expect(error.hint).toContain('retention:');
    }
  });
});

test('a clock that jumped ahead by a year, and one snapshot of it, take none of the good ones by `within`', async () => {
  const jumped = { clock: atDay(400) };
  await agent.backup({}, jumped);
  expect((await run({ rules: { withinMs: 30 * DAY_MS } }, jumped)).forgotten).toEqual([]);
});

describe('a snapshot that is named', () => {
  test('goes alone, whatever the rules say', async () => {
    const result = await run({ snapshots: [ids[1]?.slice(0, 8) ?? '', 'latest~2'], rules: { last: 100 } });
    expect(seqs(result.forgotten)).toEqual([1, 3]);
    expect(await list()).toEqual({ there: [0, 2, 4, 5], warnings: [] });
  });

  test('stays when it is the newest, protected or held, and says what to do', async () => {
    await say(ids[1] ?? '', { tags: { add: ['protected'], remove: [] } });
    await say(ids[2] ?? '', { tags: { add: ['gold'], remove: [] } });
    const told = async (snapshot: string, over: Partial<ForgetOptions> = {}) =>
      (await leavingBackends(agent, () => failure(() => run({ snapshots: [snapshot], ...over }), 'usage'))).message;
    expect(await told('latest')).toContain('is the newest one');
    expect(await told(ids[1] ?? '')).toContain('is protected');
    expect(await told('tag:gold', { protect: ['gold'] })).toContain('is protected');
    await say(ids[1] ?? '', { tags: { add: [], remove: ['protected'] } });
    expect(seqs((await run({ snapshots: [ids[1] ?? ''] })).forgotten)).toEqual([1]);
  });

  test('that is not there is told', async () => {
    await failure(() => run({ snapshots: ['abcdef'] }), 'not_found');
  });
});

describe('what a suspicious snapshot holds', () => {
  test('stays until it is acknowledged', async () => {
    rmSync(join(agent.state, 'MEMORY.md'));
    const { snapshot, suspicious } = await agent.backup({}, { clock: atDay(6) });
    expect(suspicious.map(({ code }) => code)).toEqual(['empty']);
    memory('found again');
    await agent.backup({}, { clock: atDay(7) });
    const clock = { clock: atDay(8) };
    const held = await run({ rules: { last: 1 } }, clock);
    expect(held.forgotten).toEqual([]);
    expect(held.kept[0]?.reasons).toEqual(['held']);
    const named = await failure(() => run({ snapshots: [ids[0] ?? ''] }, clock), 'usage');
    expect([named.message, named.hint]).toEqual([
      expect.stringContaining('is held'),
      expect.stringContaining('holdfast snapshots acknowledge'),
    ]);
    await say(snapshot.id, { acknowledged: true });
    expect(seqs((await run({ rules: { last: 1 } }, clock)).forgotten)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });
});

describe('nothing is forgotten', () => {
  test('when a snapshot or an annotation is damaged everywhere: it may be what holds or protects', async () => {
    await say(ids[0] ?? '', { tags: { add: ['protected'], remove: [] } });
    const before = await contentsOf(agent);
    for (const prefix of ['snapshots/', 'annotations/']) {
      await putBack(agent, before);
      const [key = ''] = await keysOn('a', prefix);
      await storeOf(agent, 'a').inner.put(key, Buffer.from('junk'));
      expect((await run({ dryRun: true })).forgotten).toHaveLength(3); // b has it
      await storeOf(agent, 'b').inner.put(key, Buffer.from('junk'));
      const error = await leavingBackends(agent, () => failure(() => run(), 'damaged'));
      expect(error.message).toContain('nothing was forgotten');
    }
  });

  test('where no backend lets delete, and no more than one number is said to be forgotten', async () => {
    for (const name of ['a', 'b']) storeOf(agent, name).plan({ effect: 'fail', on: 'delete', times: Infinity });
    const error = await failure(() => run(), 'not_enough_backends');
    expect(error.hint).toContain('forget: off');
    expect(await keysOn('a', 'snapshots/')).toHaveLength(6);
    // Another try adds nothing to what is kept for it.
    await failure(() => run(), 'not_enough_backends');
    expect([await keysOn('a', 'condemned/'), await keysOn('a', 'annotations/')]).toMatchObject([
      { length: 1 },
      { length: 1 },
    ]);
  });
});

describe('undo', () => {
  const undo = (what: string) =>
    undoForget(
      { backends, access, signer, folders, host: 'h', undo: what, settleMs: 0 },
      agent.seams({ clock: atDay(6) }),
    );
  const snapshotsOf = (contents: Map<string, Map<string, Uint8Array>>) =>
    new Map(
      [...contents].map(([name, content]) => [
        name,
        new Map([...content].filter(([key]) => key.startsWith('snapshots/'))),
      ]),
    );

  test('puts back all that a run forgot, byte for byte, and leaves nothing of it', async () => {
    const runs = await keysOn('a', 'runs/');
    const { records } = await run();
    const result = await undo(records[0] ?? '');
    expect(result).toMatchObject({ complete: true, warnings: [] });
    expect(seqs(result.restored)).toEqual([0, 1, 2, 3]);
    const now = snapshotsOf(await contentsOf(agent));
    for (const [name, before] of snapshotsOf(pristine)) expectSameContent(now.get(name) ?? new Map(), before);
    expect(await keysOn('a', 'condemned/')).toEqual([]);
    expect(await keysOn('a', 'runs/')).toEqual(runs);
    expect(await list()).toEqual({ there: [0, 1, 2, 3, 4, 5], warnings: [] });
    expect(await agent.verify('chunks')).toMatchObject({ damaged: [], complete: true });
  });

  test('puts back one, which is missed again from then on', async () => {
    const { records } = await run();
    expect(seqs((await undo(ids[1]?.slice(0, 8) ?? '')).restored)).toEqual([1]);
    expect(await list()).toEqual({ there: [1, 4, 5], warnings: [] });
    const [key = ''] = await keysOn('a', 'snapshots/');
    for (const name of ['a', 'b']) await storeOf(agent, name).inner.delete(key);
    const { warnings } = await list();
    expect(warnings).toMatchObject([{ code: 'chain', incomplete: true }]);
    // The others are still there to be put back, and this one, too.
    expect(seqs((await undo(records[0] ?? '')).restored)).toEqual([0, 1, 2, 3]);
  });

  test('refuses while a prune is deleting, and puts nothing back', async () => {
    const { records } = await run();
    const repository = await agent.open('writer');
    const sweep = await beginRun(repository, { kind: 'sweep', host: 'keeper', after: [] }, signer, agent.seams());
    const error = await failure(() => undo(records[0] ?? ''), 'busy');
    expect([error.message, error.hint]).toEqual([expect.stringContaining('keeper'), expect.stringContaining('prune')]);
    expect(await list()).toEqual({ there: [4, 5], warnings: [] });
    await endRun(repository, sweep);
    expect(seqs((await undo(records[0] ?? '')).restored)).toHaveLength(4);
  });

  test('refuses what a prune has swept on any backend', async () => {
    const { records } = await run();
    const [condemned = ''] = await keysOn('a', 'condemned/');
    await storeOf(agent, 'a').inner.delete(condemned);
    await failure(() => undo(records[0] ?? ''), 'not_found');
    expect((await list()).there).toEqual([4, 5]);
  });

  test('of what a prune is sweeping is not made possible again by who levels beside it', async () => {
    const { records } = await run();
    const [condemned = ''] = await keysOn('a', 'condemned/');
    const repository = await agent.open('writer');
    const sweep = await beginRun(repository, { kind: 'sweep', host: 'keeper', after: [] }, signer, agent.seams());
    // It stands still between one backend and the other.
    await storeOf(agent, 'b').inner.delete(condemned);
    await agent.sync();
    expect(await keysOn('b', 'condemned/')).toEqual([]);
    await storeOf(agent, 'a').inner.delete(condemned);
    await endRun(repository, sweep);
    await agent.sync();
    await failure(() => undo(records[0] ?? ''), 'not_found');
    expect((await list()).there).toEqual([4, 5]);
  });

  test('of what nobody forgot, or what is no id, is refused', async () => {
    const runs = await keysOn('a', 'runs/');
    await run();
    expect((await failure(() => undo('abcdef'), 'not_found')).hint).toContain('in record');
    await failure(() => undo('latest'), 'usage');
    await failure(() => undo(ids[5] ?? ''), 'not_found'); // it is still there
    expect(await keysOn('a', 'runs/')).toEqual(runs);
  });
});

describe('a prune', () => {
  const prune = async (graceMs: number, clock = atDay(7)) => {
    const repository = await agent.open();
    const run = await beginRun(repository, { kind: 'sweep', host: 'keeper', after: [] }, signer, agent.seams());
    const times = { graceMs, settleMs: 0, waitMs: 0 };
    const options = { run, signer, host: 'keeper', ...times, repackBytes: 0, presumeOver: [], check: async () => {} };
    return collect(repository, options, { ...agent.seams(), clock });
  };
  const undo = (what: string, clock = atDay(8)) =>
    undoForget({ backends, access, signer, folders, host: 'h', undo: what, settleMs: 0 }, agent.seams({ clock }));

  test('leaves the whole grace to a snapshot that came back and was forgotten again', async () => {
    const [first = '', second = ''] = ids;
    const { records } = await run({ snapshots: [first, second] });
    await undo(first, atDay(12));
    const again = await run({ snapshots: [first] }, { clock: atDay(12.9) });
    expect(again.records).toHaveLength(1);
    expect(again.records).not.toEqual(records);
    for (let times = 0; times < 3; times++) await prune(7 * DAY_MS, atDay(13.1));
    await failure(() => undo(second, atDay(13.1)), 'not_found');
    expect(seqs((await undo(first, atDay(13.1))).restored)).toEqual([0]);
    expect(await agent.verify('chunks')).toMatchObject({ damaged: [], complete: true });
  });

  test('within the grace takes nothing that could be put back', async () => {
    const { records } = await run();
    for (let times = 0; times < 3; times++) await prune(30 * DAY_MS);
    await undo(records[0] ?? '');
    expect(await agent.verify('chunks')).toMatchObject({ damaged: [], complete: true });
    expect((await list()).there).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('after it takes what only those needed, and undo says that it is too late', async () => {
    const before = (await keysOn('a', 'packs/')).length;
    const { records } = await run();
    for (let times = 0; times < 3; times++) await prune(0);
    expect((await keysOn('a', 'packs/')).length).toBeLessThan(before);
    expect((await failure(() => undo(records[0] ?? ''), 'not_found')).hint).toContain('holdfast prune');
    expect(await agent.verify('chunks')).toMatchObject({ damaged: [], complete: true });
    expect(await list()).toEqual({ there: [4, 5], warnings: [] });
  });
});

describe('a backend that is away', () => {
  test('is told, brings back what it still has, and forgets it the next time, with the chain whole all the while', async () => {
    storeOf(agent, 'b').plan({ effect: 'fail', on: 'any', key: /^snapshots/, times: 1 });
    const away = await run();
    expect(away).toMatchObject({ complete: false, backends: [{ state: 'done' }, { name: 'b', state: 'failed' }] });
    expect(away.warnings.map(({ code }) => code)).toContain('comes_back');
    await agent.sync();
    expect(await list()).toEqual({ there: [0, 1, 2, 3, 4, 5], warnings: [] });
    expect(seqs((await run()).forgotten)).toEqual([0, 1, 2, 3]);
    expect(await list()).toEqual({ there: [4, 5], warnings: [] });
    await expectLevel(agent);
    expect(await keysOn('a', 'condemned/')).toHaveLength(1);
  });

  test('during the forget is no reason to say that it is too late for an undo: a sync comes first', async () => {
    storeOf(agent, 'b').plan({ effect: 'fail', on: 'any', key: /^snapshots/, times: 1 });
    const { records } = await run();
    const options = { backends, access, signer, folders, host: 'h', undo: records[0] ?? '', settleMs: 0 };
    const undo = () => undoForget(options, agent.seams({ clock: atDay(6) }));
    const error = await failure(undo, 'not_found');
    expect([error.message, error.hint]).toEqual([
      expect.stringContaining('is not on backend b, only on others'),
      expect.stringContaining('holdfast sync'),
    ]);
    await agent.sync();
    expect((await list()).there).toEqual([0, 1, 2, 3, 4, 5]);
    expect(seqs((await undo()).restored)).toEqual([0, 1, 2, 3]);
    expect(await agent.verify('chunks')).toMatchObject({ damaged: [], complete: true });
    await expectLevel(agent);
  });

  test('has the condemned record before anything is deleted there, also when another run wrote it', async () => {
    storeOf(agent, 'b').plan({ effect: 'fail', on: 'any', key: /^snapshots/, times: 1 });
    await run();
    expect(await keysOn('b', 'condemned/')).toEqual([]);
    await run();
    expect(await keysOn('b', 'snapshots/')).toHaveLength(2);
    expect(await keysOn('b', 'condemned/')).toEqual(await keysOn('a', 'condemned/'));
  });

  test('where one backend does not let delete, the others are done and it is told', async () => {
    storeOf(agent, 'b').plan({ effect: 'fail', on: 'delete', times: Infinity });
    const result = await run();
    expect(result.complete).toBe(false);
    expect([(await keysOn('a', 'snapshots/')).length, (await keysOn('b', 'snapshots/')).length]).toEqual([2, 6]);
  });
});

describe('a snapshot that is gone without having been forgotten', () => {
  test.each([
    ['beside those that were', 4],
    ['and was the newest of those before them', 5],
  ])('is reported: %s', async (_, seq) => {
    await run({ rules: { last: 3 } }); // 3, 4 and 5 stay
    const [key = ''] = (await keysOn('a', 'snapshots/')).filter((one) => one.includes(ids[seq - 1] ?? ''));
    for (const name of ['a', 'b']) await storeOf(agent, name).inner.delete(key);
    expect((await list()).warnings).toMatchObject([{ code: 'chain', incomplete: true }]);
    expect((await agent.verify('listing')).damaged.map(({ problem }) => problem)).toEqual([
      expect.stringContaining('chain: its parent'),
      expect.stringContaining('chain: its parent'),
    ]);
  });
});

test('at whatever change a run is killed, nothing but what goes is gone, the chain is whole, and the next run ends it', async () => {
  const stores = () => [storeOf(agent, 'a'), storeOf(agent, 'b')] as const;
  const forgetTwo = () => run({ rules: { last: 4 } });
  const [counted, other] = stores();
  await forgetTwo();
  const changes = counted.count('mutating') + other.count('mutating');
  expect(changes).toBeGreaterThan(10);
  for (let nth = 1; nth <= changes; nth++) {
    for (const effect of ['fail', 'fail-after'] as const) {
      await putBack(agent, pristine);
      const [a, b] = stores();
      a.dieAt(nth, effect, [b]);
      await forgetTwo().catch(() => undefined);
      await putBack(agent, await contentsOf(agent));
      const look = async () => {
        const { there, warnings } = await list();
        return { there, warnings: warnings.filter(({ incomplete }) => incomplete) }; // what one has and not the other is none
      };
      const { there, warnings } = await look();
      expect({ nth, effect, there, warnings }).toEqual({
        ...{ nth, effect, warnings: [] },
        there: expect.arrayContaining([2, 3, 4, 5]) as number[],
      });
      expect((await forgetTwo()).complete).toBe(true);
      expect(await look()).toEqual({ there: [2, 3, 4, 5], warnings: [] });
      const [record] = (await readCondemned(await agent.open('writer'))).condemned;
      expect(record?.record.snapshots).toHaveLength(2);
    }
  }
});

test('with all snapshots gone that this host knows of, nothing is forgotten, and the list of them says so', async () => {
  for (const name of ['a', 'b'])
    for (const key of await keysOn(name, 'snapshots/')) await storeOf(agent, name).inner.delete(key);
  for (const dryRun of [true, false])
    expect((await failure(() => run({ dryRun }), 'damaged')).message).toContain('this host made snapshot');
  const { warnings } = await listSnapshots({ backends, access, folders }, agent.seams());
  expect(warnings).toMatchObject([{ code: 'rolled_back', incomplete: true }]);
});

test('a dry run says of no backend that it is done', async () => {
  expect((await run({ dryRun: true })).backends.map(({ state }) => state)).toEqual(['unchanged', 'unchanged']);
});
