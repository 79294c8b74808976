import { mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it, test } from 'vitest';
import { findEntries, type FindOptions } from '../../src/operations/find.ts';
import { listEntries } from '../../src/operations/look.ts';
import { failure } from '../crypto/support.ts';
import { aheadClock, contentsOf, makeAgent, packKeysOf, putBack, storeOf } from './support.ts';

const agent = await makeAgent({ seed: 'find' });
afterAll(() => agent[Symbol.asyncDispose]());
const START = Date.parse('2050-05-01T10:00:00Z');
const at = (path: string) => join(agent.state, path);
const write = (path: string, text: string, time: string) => {
  writeFileSync(at(path), text);
  utimesSync(at(path), Date.parse(time) / 1000, Date.parse(time) / 1000);
};

/** Snapshots an hour apart. */
async function snapshots(...changes: (() => void)[]) {
  const made = [];
  for (const [hours, change] of changes.entries()) {
    change();
    const clock = { ...aheadClock, now: () => START + hours * 3_600_000 };
    made.push(await agent.backup({ tags: [`h${hours}`] }, { clock }));
  }
  return made.map(({ snapshot }) => snapshot.id);
}

const ids = await snapshots(
  () => {
    mkdirSync(at('memory'));
    write('memory/a.md', 'one', '2050-04-01T00:00:00Z');
    write('memory/gone.jsonl', '{}'.repeat(100), '2050-04-02T00:00:00Z');
    symlinkSync('a.md', at('memory/link'));
    write('\x1b[31mred.md', '', '2050-04-03T12:00:00Z');
  },
  () => write('memory/a.md', 'two', '2050-05-01T10:30:00Z'),
  () => {
    write('memory/a.md', 'one', '2050-05-01T11:30:00Z');
    rmSync(at('memory/gone.jsonl'));
  },
  () => symlinkSync('b.md', at('other.md')),
);
const pristine = await contentsOf(agent);
beforeEach(() => putBack(agent, pristine));

const secret = { kind: 'root', root: agent.root } as const;
const clock = { ...aheadClock, now: () => START + 4 * 3_600_000 };
const find = (patterns: string[], more: Partial<FindOptions> = {}) =>
  findEntries(
    { backends: agent.addresses, secret, patterns, in: { snapshot: 'latest' }, ...more },
    agent.seams({ clock }),
  );
const paths = async (patterns: string[], more: Partial<FindOptions> = {}) =>
  (await find(patterns, more)).entries.map(({ path }) => path);

describe('in one snapshot', () => {
  test.each<[string[], Partial<FindOptions>, string[]]>([
    [['*.md'], {}, ['\\x1b[31mred.md', 'memory/a.md', 'other.md']],
    [['memory/*'], {}, ['memory/a.md', 'memory/link']],
    [['*.md'], { paths: ['memory'] }, ['memory/a.md']],
    [['link', '*.jsonl'], {}, ['memory/link']],
    [['*'], { type: 'symlink' }, ['memory/link', 'other.md']],
    [[], { type: 'folder' }, ['.', 'memory']],
    [[], { larger: 2 }, ['memory/a.md']],
    [[], { larger: 3 }, []],
    [[], { smaller: 1 }, ['\\x1b[31mred.md']],
    [['*.md'], { type: 'file', newer: '2050-04-03' }, ['memory/a.md']],
    [['*.md'], { type: 'file', newer: '2050-04-03T11:00' }, ['\\x1b[31mred.md', 'memory/a.md']],
    [['*.md'], { type: 'file', newer: '2h' }, []],
    [['*.md'], { type: 'file', older: '2050-04-03' }, []],
    [['*.md'], { type: 'file', older: '2050-04-04' }, ['\\x1b[31mred.md']],
    [['*.jsonl'], { in: { snapshot: 'tag:h1' } }, ['memory/gone.jsonl']],
    [['*.jsonl'], { in: { snapshot: '@2050-05-01T11:59:59' } }, ['memory/gone.jsonl']],
    [['*.jsonl'], { in: { snapshot: '@2050-05-01' } }, []],
  ])('%j %j finds %j', async (patterns, options, found) => {
    expect(await paths(patterns, options)).toEqual(found);
  });

  it('each is told with its snapshot, type, size and time', async () => {
    const { entries, searched } = await find(['a.md']);
    const here = { id: ids[3], seq: 3, time: '2050-05-01T13:00:00.000Z' };
    expect(searched).toEqual([here]);
    expect(entries).toEqual([
      {
        path: 'memory/a.md',
        type: 'file',
        size: 3,
        mtime: '2050-05-01T11:30:00.000000000Z',
        first: here,
        last: here,
        snapshots: 1,
      },
    ]);
  });
});

describe('in all snapshots', () => {
  it('each content is told once, with the first and the last snapshot that have it', async () => {
    const { entries, searched } = await find(['a.md', '*.jsonl', 'link'], { in: {} });
    expect(searched.map(({ id }) => id)).toEqual(ids);
    expect(entries.map(({ path, first, last, snapshots: n, size }) => [path, first.id, last.id, n, size])).toEqual([
      ['memory/a.md', ids[0], ids[3], 3, 3],
      ['memory/a.md', ids[1], ids[1], 1, 3],
      ['memory/gone.jsonl', ids[0], ids[1], 2, 200],
      ['memory/link', ids[0], ids[3], 4, 0],
    ]);
  });

  it('since and until say which', async () => {
    const searched = async (since?: string, until?: string) =>
      (await find(['a.md'], { in: { since, until } })).searched.map(({ id }) => ids.indexOf(id));
    expect(await searched('2050-05-01')).toEqual([0, 1, 2, 3]);
    expect(await searched('2050-05-01T11:00', '2h')).toEqual([1, 2]);
    expect(await searched('90m')).toEqual([3]);
    expect(await searched(undefined, '2050-04-30')).toEqual([]);
  });

  it('one whose list of files is lost is told, and the others are searched', async () => {
    const [of0] = await packKeysOf(agent, 'manifest');
    for (const name of ['a', 'b']) await storeOf(agent, name).inner.delete(of0 ?? '');
    const { entries, searched, warnings } = await find(['link'], { in: {} });
    expect(searched.length).toBeLessThan(4);
    expect(warnings).toContainEqual(expect.objectContaining({ code: 'not_searched', incomplete: true }));
    expect(entries.length).toBe(searched.length > 0 ? 1 : 0);
  });
});

it('a time that is none, and a path that leads out, are refused before anything is read', async () => {
  for (const options of [{ newer: 'soon' }, { in: { since: '2050-13-01' } }, { paths: ['../x'] }])
    await failure(() => find(['*'], options), 'usage');
  await failure(() => find(['a/../b']), 'usage');
});

it('a listing goes as deep as it is told', async () => {
  const list = async (path: string, depth?: number) =>
    (
      await listEntries({ backends: agent.addresses, secret, snapshot: 'latest', path, depth }, agent.seams())
    ).entries.map((entry) => entry.path);
  expect(await list('', 1)).toEqual(['.', '\\x1b[31mred.md', 'memory', 'other.md']);
  expect(await list('memory', 0)).toEqual(['memory']);
  expect(await list('memory', 1)).toEqual(await list('memory'));
});

describe('what is kept apart', () => {
  it('is counted, and searched instead of the rest when that is asked for', async () => {
    await using own = await makeAgent({
      seed: 'find apart',
      fill: (state) => {
        mkdirSync(join(state, 'deep'));
        for (const name of ['.env', 'deep/.env', 'deep/note.md']) writeFileSync(join(state, name), name);
      },
    });
    const look = { backends: own.addresses, secret: { kind: 'root', root: own.root } } as const;
    const within = (patterns: string[], more: Partial<FindOptions> = {}) =>
      findEntries({ ...look, patterns, in: { snapshot: 'latest' }, ...more }, own.seams());
    const secretState = { patterns: ['.env'], handling: 'apart' } as const;
    const state = { root: own.state, exclude: [], keepOut: [], secret: secretState };
    await own.backup({ state });
    expect(await within(['.env'])).toMatchObject({ entries: [], secrets: 2 });
    const found = await within(['.env'], { secrets: true });
    expect(found.entries.map(({ path }) => path)).toEqual(['.env', 'deep/.env']);
    expect(found.secrets).toBe(2);
    expect((await within(['*.md'], { secrets: true })).entries).toEqual([]);
    writeFileSync(join(own.state, '.env'), 'changed');
    await own.backup({ state });
    const all = await within(['.env'], { secrets: true, in: {} });
    expect(all.entries.map(({ path, snapshots }) => [path, snapshots])).toEqual([
      ['.env', 1],
      ['.env', 1],
      ['deep/.env', 2],
    ]);
  });
});
