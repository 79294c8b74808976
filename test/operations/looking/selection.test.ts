import { describe, expect, it, test } from 'vitest';
import { globMatcher, Selection } from '../../../src/operations/looking/selection.ts';
import { rawFromBytes, rawFromText, ROOT, type RawPath } from '../../../src/raw-path.ts';
import { failure } from '../../crypto/support.ts';

const TREE = [
  '',
  'MEMORY.md',
  'a[1]',
  'a1',
  'memory',
  'memory/.draft.md',
  'memory/2026',
  'memory/2026/a.jsonl',
  'memory/b.md',
  'memory/naïve.md',
  'new\nline.md',
  'star*',
  'starry',
].map(rawFromText);
const notText = rawFromBytes(Uint8Array.of(0x66, 0xff, 0x2e, 0x6d, 0x64)); // f\xff.md

async function selected(...patterns: string[]): Promise<string[]> {
  const selection = await Selection.of(patterns);
  return [...TREE, notText].filter((path) => selection.has(path)).map((path) => Buffer.from(path, 'latin1').toString());
}

test.each([
  [['memory/*.md'], ['memory/.draft.md', 'memory/b.md', 'memory/naïve.md']],
  [['*.md'], ['MEMORY.md', 'new\nline.md', 'f\ufffd.md']],
  [['**/*.jsonl'], ['memory/2026/a.jsonl']],
  [['memory/na?ve.md'], ['memory/naïve.md']],
  [['./memory/2026/'], ['memory/2026', 'memory/2026/a.jsonl']],
  [['mem*'], ['memory', 'memory/.draft.md', 'memory/2026', 'memory/2026/a.jsonl', 'memory/b.md', 'memory/naïve.md']],
  [['{MEMORY,memory/b}.md'], ['MEMORY.md', 'memory/b.md']],
  [['star\\*'], ['star*']],
  [['star*'], ['star*', 'starry']],
  [['a[1]'], ['a[1]', 'a1']],
  [['a\\[1\\]'], ['a[1]']],
  [
    ['MEMORY.md', 'a1'],
    ['MEMORY.md', 'a1'],
  ],
])('%j selects %j', async (patterns, wanted) => {
  expect((await selected(...patterns)).sort()).toEqual(wanted.sort());
});

describe('a selection', () => {
  it('of nothing, of the root and of ** is everything', async () => {
    for (const patterns of [[], ['.'], ['']]) expect(await selected(...patterns)).toHaveLength(TREE.length + 1);
    expect(await selected('**')).toHaveLength(TREE.length); // but for the root's own entry
  });

  it('knows which of its patterns found nothing', async () => {
    const selection = await Selection.of(['memory', 'memory/*.txt']);
    for (const path of TREE) selection.has(path);
    const error = await failure(async () => selection.checkAllFound(), 'not_found');
    expect(error.message).toContain('memory/*.txt');
  });

  it('counts a path as found that lies below another one that was asked for', async () => {
    const selection = await Selection.of(['memory', 'memory/2026/*.jsonl', 'memory/b.md']);
    for (const path of TREE) selection.has(path);
    selection.checkAllFound();
  });

  it('cannot lead out of the state', async () => {
    for (const pattern of ['../x', 'a/../*.md', '..']) await failure(() => Selection.of([pattern]), 'usage');
  });
});

it('a pattern of find without a slash matches names, one with a slash whole paths', async () => {
  const found = async (pattern: string) => {
    const matches = await globMatcher(pattern, { anywhere: true });
    return TREE.filter((path: RawPath) => matches(path));
  };
  expect(await found('*.jsonl')).toEqual(['memory/2026/a.jsonl']);
  expect(await found('a*')).toEqual(['a[1]', 'a1', 'memory/2026/a.jsonl']);
  expect(await found('2026/*')).toEqual([]);
  expect(await found('**/2026/*')).toEqual(['memory/2026/a.jsonl']);
  expect((await globMatcher('**'))(ROOT)).toBe(false);
});
