/** What the tree of files must look like. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAX_LINES = 500;
/** Folders of test/ that have no twin in src/: the frame itself, the documents, the golden repository. */
const TEST_ONLY = ['bench', 'frame', 'docs', 'golden', 'torture'];

function typeScriptBelow(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
}

/** The first folders of the paths, '' for a file at the top. */
function foldersOf(paths: readonly string[]): Set<string> {
  return new Set(paths.map((path) => (path.includes('/') ? path.slice(0, path.indexOf('/')) : '')));
}

it(`no source has more than ${MAX_LINES} lines`, () => {
  const files = typeScriptBelow('src');
  expect(files.length).toBeGreaterThan(40);
  const long = files.filter((name) => readFileSync(join(ROOT, 'src', name), 'utf8').split('\n').length > MAX_LINES + 1);
  expect(long).toEqual([]);
});

it('test/ mirrors src/: every folder of sources has tests, and every folder of tests has sources', () => {
  const sources = foldersOf(typeScriptBelow('src'));
  const tests = foldersOf(typeScriptBelow('test').filter((name) => name.endsWith('.test.ts')));
  expect(sources.size).toBeGreaterThan(5);
  expect([...sources].filter((folder) => !tests.has(folder))).toEqual([]);
  expect([...tests].filter((folder) => !sources.has(folder) && !TEST_ONLY.includes(folder))).toEqual([]);
});

it('docs/dependencies.md gives a reason for each dependency, and for no other', () => {
  const { dependencies, optionalDependencies, devDependencies } = JSON.parse(
    readFileSync(join(ROOT, 'package.json'), 'utf8'),
  ) as Record<string, Record<string, string>>;
  const names = Object.keys({ ...dependencies, ...optionalDependencies, ...devDependencies });
  const text = readFileSync(join(ROOT, 'docs/dependencies.md'), 'utf8');
  const explained = [...text.matchAll(/^\| `([^`]+)` +\| .{20,} +\|$/gm)].map((match) => match[1]);
  expect(new Set(explained)).toEqual(new Set(names));
});
