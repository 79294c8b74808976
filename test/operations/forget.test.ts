/** Forgetting snapshots: what goes, what stays, and what is left to be put back. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import { forget, type ForgetOptions } from '../../src/operations/forget.ts';
import { listSnapshots } from '../../src/operations/look.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { readCondemned } from '../../src/repository/repository.ts';
import { DAY_MS } from '../../src/units.ts';
import { failure } from '../crypto/support.ts';
import { aheadClock, contentsOf, expectLevel, leavingBackends, makeAgent, putBack, storeOf } from './support.ts';

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
