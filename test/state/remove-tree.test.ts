import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { rawFromText } from '../../src/raw-path.ts';
import { clearFlags, setFlags } from '../../src/state/attributes.ts';
import { removeTree } from '../../src/state/remove-tree.ts';
import { ODD_NAMES, removeFolder, temporaryFolder, under } from './trees.ts';

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(() => removeFolder(folder));

it('takes a tree away with odd names, links that lead out of it, and folders that forbid it', () => {
  const tree = join(folder, 'tree');
  mkdirSync(join(tree, 'closed', 'deeper'), { recursive: true });
  for (const name of ODD_NAMES) writeFileSync(under(tree, name), 'x');
  writeFileSync(join(folder, 'outside'), 'stays');
  symlinkSync(join(folder, 'outside'), join(tree, 'link'));
  symlinkSync(folder, join(tree, 'closed', 'link to a folder'));
  chmodSync(join(tree, 'closed', 'deeper'), 0o000);
  chmodSync(join(tree, 'closed'), 0o500);
  removeTree(tree);
  expect([existsSync(tree), existsSync(join(folder, 'outside'))]).toEqual([false, true]);
  removeTree(tree); // what is not there is no error
});

it('takes away what is immutable, where the user may', ({ skip }) => {
  const tree = join(folder, 'tree');
  mkdirSync(join(tree, 'in'), { recursive: true });
  const file = rawFromText(join(tree, 'in', 'file'));
  writeFileSync(join(tree, 'in', 'file'), 'x');
  if (!setFlags(file, ['immutable'])) skip('no flags here');
  setFlags(rawFromText(join(tree, 'in')), ['append']);
  try {
    removeTree(tree);
    expect(existsSync(tree)).toBe(false);
  } finally {
    for (const path of [join(tree, 'in'), join(tree, 'in', 'file')])
      if (existsSync(path)) clearFlags(rawFromText(path));
  }
});
