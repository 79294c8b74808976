/** Append-only logs: what is stored ends with a whole line, and what happens to old lines is told. */
import { appendFileSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import type { BackupOptions } from '../../src/operations/backup.ts';
import { aheadClock, makeAgent, type TestAgent } from './support.ts';

const HOUR_MS = 3_600_000;
/** A clock by which what is written now was written just now. */
const clock: Clock = { ...aheadClock, now: () => aheadClock.now() - HOUR_MS };

let restores = 0;
async function contentIn(agent: TestAgent, name: string): Promise<string> {
  const target = join(agent.folder, `out-${restores++}`);
  await agent.restore(target);
  return readFileSync(join(target, name), 'utf8');
}
const lines = (from: number, to: number) =>
  Array.from(
    { length: to - from },
    (_, i) => `{"line":${from + i},"text":"${String((from + i) * 7919).repeat(100)}"}\n`,
  ).join('');

test('a line that is being written is left out, and comes with the next snapshot', async () => {
  await using agent = await makeAgent({ backends: ['a'] });
  const path = join(agent.state, 'session.jsonl');
  writeFileSync(path, '{"n":1}\n{"n":2}\n{"n":');
  expect(await agent.backup({}, { clock })).toMatchObject({ complete: true, warnings: [] });
  expect(await contentIn(agent, 'session.jsonl')).toBe('{"n":1}\n{"n":2}\n');
  appendFileSync(path, '3}\n{');
  expect(await agent.backup({}, { clock })).toMatchObject({ complete: true, warnings: [] });
  expect(await contentIn(agent, 'session.jsonl')).toBe('{"n":1}\n{"n":2}\n{"n":3}\n');
});

test('a log whose last line has no end is taken whole once nobody has written to it for a minute', async () => {
  await using agent = await makeAgent({ backends: ['a'] });
  const path = join(agent.state, 'session.jsonl');
  writeFileSync(path, 'one\ntwo');
  await agent.backup({}, { clock });
  expect(await contentIn(agent, 'session.jsonl')).toBe('one\n');
  expect(await agent.backup()).toMatchObject({ files: { changed: 1 }, warnings: [] }); // by a clock that is an hour ahead
  expect(await contentIn(agent, 'session.jsonl')).toBe('one\ntwo');
  const future = Date.now() / 1000 + 1e6;
  utimesSync(path, future, future);
  await agent.backup({}, { clock });
  expect(await contentIn(agent, 'session.jsonl')).toBe('one\ntwo');
});

test.each([
  ['a log without any line feed', 'session.jsonl', 'only a beginning', {}, 'only a beginning'],
  ['an empty log', 'session.jsonl', '', {}, ''],
  ['a file that is no log', 'session.json', 'one\ntwo', {}, 'one\ntwo'],
  ['a log by another pattern', 'app.log', 'one\ntwo', { appendOnly: ['*.log'] }, 'one\n'],
  ['what is no log by other patterns', 'session.jsonl', 'one\ntwo', { appendOnly: [] }, 'one\ntwo'],
])('%s is stored as it should be', async (_, name, content, options, stored) => {
  await using agent = await makeAgent({ backends: ['a'] });
  writeFileSync(join(agent.state, name), content);
  const state: BackupOptions['state'] = { root: agent.state, exclude: [], keepOut: [], ...options };
  expect(await agent.backup({ state }, { clock })).toMatchObject({ complete: true, warnings: [] });
  expect(await contentIn(agent, name)).toBe(stored);
});

test('whatever its length and wherever its lines end, what is stored ends with the last of them', async () => {
  await using agent = await makeAgent({ backends: ['a'] });
  const path = join(agent.state, 'session.jsonl');
  const piece = fc.tuple(fc.nat(100_000), fc.constantFrom('', '\n'));
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 4 }), async (pieces) => {
      const text = pieces.map(([length, end]) => 'x'.repeat(length) + end).join('');
      writeFileSync(path, text);
      await agent.backup({}, { clock });
      const end = text.lastIndexOf('\n') + 1;
      expect((await contentIn(agent, 'session.jsonl')) === (end === 0 ? text : text.slice(0, end))).toBe(true);
    }),
    { numRuns: 8 },
  );
});

test('a log that grows while it is read is complete, without a warning', async () => {
  await using agent = await makeAgent({ backends: ['a'] });
  const path = join(agent.state, 'session.jsonl');
  const before = lines(0, 9000); // more than is read at once
  writeFileSync(path, before);
  let appended = 0;
  const { signal } = new AbortController();
  Object.defineProperty(signal, 'aborted', {
    get() {
      if (new Error().stack?.includes('readFile')) appendFileSync(path, `more ${appended++}\n`);
      return false;
    },
  });
  expect(await agent.backup({}, { clock, signal })).toMatchObject({ complete: true, warnings: [] });
  expect(appended).toBeGreaterThan(1);
  expect((await contentIn(agent, 'session.jsonl')).startsWith(before)).toBe(true);
});

test('a log whose part of a line was left out is not read again while nothing changes', async () => {
  await using agent = await makeAgent({ backends: ['a'] });
  const path = join(agent.state, 'session.jsonl');
  writeFileSync(path, 'one\ntwo');
  // Ten seconds later: long enough to trust the times of the file, too short to take the line for whole.
  const later: Clock = { ...clock, now: () => clock.now() + 10_000 };
  expect(await agent.backup({}, { clock: later })).toMatchObject({ bytes: { read: 4 } });
  expect(await agent.backup({}, { clock: later })).toMatchObject({ bytes: { read: 0 }, files: { unmodified: 1 } });
  expect(await contentIn(agent, 'session.jsonl')).toBe('one\n');
});

test.each([
  ['small', 3, 6],
  ['large', 1000, 3000],
])('a %s log that only grows is no reason for a warning', async (_, first, second) => {
  await using agent = await makeAgent({ backends: ['a'] });
  const path = join(agent.state, 'session.jsonl');
  writeFileSync(path, lines(0, first));
  await agent.backup({}, { clock });
  for (const text of [lines(first, second), 'a part', ' and its end\n']) {
    appendFileSync(path, text);
    expect(await agent.backup({}, { clock })).toMatchObject({ complete: true, warnings: [] });
  }
});

test.each([
  ['small', 10],
  ['large', 2000],
])('that a %s log shrank or was rewritten is told, and the older snapshot keeps it', async (_, count) => {
  await using agent = await makeAgent({ backends: ['a'] });
  const path = join(agent.state, 'session.jsonl');
  const original = lines(0, count);
  writeFileSync(path, original);
  const { snapshot } = await agent.backup({}, { clock });
  const told = (code: string) => ({ complete: true, warnings: [{ code, path: 'session.jsonl' }] });

  writeFileSync(path, original.slice(0, original.length / 2));
  expect(await agent.backup({}, { clock })).toMatchObject(told('log_shrank'));
  writeFileSync(path, original);
  expect(await agent.backup({}, { clock })).toMatchObject({ complete: true, warnings: [] });
  // One byte of the last line, and more lines after it.
  writeFileSync(path, `${original.slice(0, -4)}x${original.slice(-3)}${lines(0, 5)}`);
  expect(await agent.backup({}, { clock })).toMatchObject(told('log_rewritten'));
  writeFileSync(path, `x${original.slice(1)}${lines(0, 9)}`);
  expect(await agent.backup({}, { clock })).toMatchObject(told('log_rewritten'));

  const target = join(agent.folder, 'first');
  await agent.restore(target, { snapshot: snapshot.id });
  expect(readFileSync(join(target, 'session.jsonl'), 'utf8') === original).toBe(true);
});
