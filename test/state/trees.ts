/** Real trees for tests: a nasty one, a copy made with scan, readFile and TreeWriter, and an independent comparison with `find` and `diff`. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  constants,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash, randomFillSync } from 'node:crypto';
import type { Warning } from '../../src/entry.ts';
import { readFile } from '../../src/state/read-file.ts';
import { scan, type ScanItem } from '../../src/state/scan.ts';
import { openTarget, type TargetOptions } from '../../src/state/write-tree.ts';

export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'holdfast-state-'));
}

/** Also what Node's own `rm` cannot remove: paths beyond PATH_MAX, folders without permissions. That one is tried first: it starts no programs. */
export function removeFolder(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
    if (!existsSync(path)) return;
  } catch {
    // the programs can
  }
  spawnSync('chmod', ['-R', 'u+rwX', path], { stdio: 'ignore' });
  execFileSync('rm', ['-rf', path]);
}

export const bytes = (text: string) => Buffer.from(text, 'latin1');
/** `folder/name` where the name is given as latin1 bytes. */
export const under = (folder: string, name: string) => Buffer.concat([Buffer.from(`${folder}/`), bytes(name)]);

export const ODD_NAMES = [
  'new\nline',
  'tab\tand "quotes" and \'single\'',
  'back\\slash',
  Buffer.from('emoji 🦔 and ünïcode').toString('latin1'),
  'not utf-8: \xff\xfe\x80',
  '-rf',
  '*',
  ' ',
  '...',
  '\x01\x7f',
  'n'.repeat(255),
  `${'\xc3\xa9'.repeat(127)}x`,
];

/** A name before and after `folder/` in byte order, to tell manifest order from sorting whole paths. */
const SIBLINGS = ['folder', 'folder!', 'folder-', 'folder.d', 'folder0'];

const TIMES = [
  '1950-02-03 04:05:06.123456789',
  '1969-12-31 23:59:59.999999999',
  '1970-01-01 00:00:00.000000001',
  '2026-07-08 09:10:11.987654321',
  '2107-01-02 03:04:05.000000007',
  '2400-12-31 23:59:59.111222333',
];

/** Sets the time with the `touch` command, of the thing itself. */
export function touch(path: string | Buffer, time: string): void {
  // A file name of arbitrary bytes cannot be an argument of Node's spawn; xargs takes it from standard input.
  const input = Buffer.concat([Buffer.isBuffer(path) ? path : Buffer.from(path), Buffer.from('\0')]);
  execFileSync('xargs', ['-0', 'touch', '--no-dereference', '--date', `${time} UTC`], { input });
}

/** Fills the empty folder `root`. As root, entries also get other owners. */
export function makeNastyTree(root: string): void {
  for (const name of ODD_NAMES) {
    writeFileSync(under(root, name), `I am ${name}`);
    mkdirSync(under(root, `d${name}`.slice(0, 255)));
    writeFileSync(under(root, `${`d${name}`.slice(0, 255)}/${name}`), '');
    symlinkSync(bytes(name), under(root, `l${name}`.slice(0, 255)));
  }
  for (const name of SIBLINGS) {
    mkdirSync(join(root, 'order', name), { recursive: true });
    writeFileSync(join(root, 'order', name, 'file'), name);
  }
  mkdirSync(join(root, ...Array.from({ length: 60 }, (_, depth) => `deep-${depth}`)), { recursive: true });
  mkdirSync(join(root, 'empty-folder'));
  writeFileSync(join(root, 'empty-file'), '');
  writeFileSync(join(root, 'big'), randomFillSync(new Uint8Array(9 * 2 ** 20 + 17)));

  mkdirSync(join(root, 'links'));
  for (const [name, target] of [
    ['dangling', 'nowhere/at/all'],
    ['absolute', join(root, 'big')],
    ['to-parent', '..'],
    ['to-root-of-tree', '../..'],
    ['to-folder', '../order/folder'],
    ['long', 'x/'.repeat(2000)],
  ] as const) {
    symlinkSync(target, join(root, 'links', name));
  }

  TIMES.forEach((time, index) => {
    writeFileSync(join(root, `time-${index}`), time);
    mkdirSync(join(root, `time-folder-${index}`));
    symlinkSync('x', join(root, `time-link-${index}`));
    for (const kind of ['time-', 'time-folder-', 'time-link-']) touch(join(root, `${kind}${index}`), time);
  });

  mkdirSync(join(root, 'owners'));
  if (process.geteuid?.() === 0) {
    writeFileSync(join(root, 'owners', 'file'), 'x');
    mkdirSync(join(root, 'owners', 'folder'));
    symlinkSync('x', join(root, 'owners', 'link'));
    writeFileSync(join(root, 'owners', 'setuid'), 'x');
    for (const name of ['file', 'folder', 'setuid']) chownSync(join(root, 'owners', name), 12_345, 54_321);
    lchownSync(join(root, 'owners', 'link'), 12_345, 54_321);
    chmodSync(join(root, 'owners', 'setuid'), 0o6755);
  }

  // Last, as they lock out who is not root. Only the owner's write permission would be needed to fill them.
  mkdirSync(join(root, 'modes'));
  for (const mode of [0o000, 0o111, 0o400, 0o444, 0o555, 0o600, 0o640, 0o755, 0o777, 0o1777, 0o2755, 0o4711, 0o7777]) {
    const name = mode.toString(8).padStart(4, '0');
    mkdirSync(join(root, 'modes', `folder-${name}`, 'inside'), { recursive: true });
    if (process.geteuid?.() === 0 || (mode & 0o400) !== 0) {
      writeFileSync(join(root, 'modes', `file-${name}`), name);
      chmodSync(join(root, 'modes', `file-${name}`), mode);
    }
    if (process.geteuid?.() === 0 || (mode & 0o500) === 0o500) chmodSync(join(root, 'modes', `folder-${name}`), mode);
  }
  for (const folder of ['order', 'links', 'empty-folder', 'modes', '.'])
    touch(join(root, folder), '2001-02-03 04:05:06.700000009');
  chmodSync(root, 0o2750);
}

/** The whole of one file. */
export function contentsOf(root: string, path: Parameters<typeof readFile>[1]): Buffer {
  const pieces: Buffer[] = [];
  const reading = readFile(root, path);
  for (;;) {
    const step = reading.next();
    if (!step.done) pieces.push(Buffer.from(step.value));
    else if (step.value.outcome === 'ok') return Buffer.concat(pieces);
    else throw new Error(step.value.reason);
  }
}

/** Scans `source` and writes everything to `target`, some files whole, others in pieces from the last to the first. */
export async function copyTree(
  source: string,
  target: string,
  options: TargetOptions = {},
): Promise<{ items: ScanItem[]; warnings: Warning[] }> {
  const writer = await openTarget(target, options);
  const items = [...scan(source)];
  let files = 0;
  for (const item of items) {
    if (item.kind === 'folder') writer.addFolder(item);
    else if (item.kind === 'symlink') writer.addSymlink(item);
    else if (item.kind === 'file') {
      const contents = contentsOf(source, item.path);
      if (files++ % 2 === 0) {
        writer.writeFile(item, [contents.subarray(0, 5), contents.subarray(5)]);
        continue;
      }
      const ref = writer.createFile(item);
      const step = Math.max(1, Math.ceil(contents.length / 3));
      for (let offset = step * 2; offset >= 0; offset -= step) {
        if (offset < contents.length) writer.write(ref, offset, contents.subarray(offset, offset + step));
      }
      writer.closeFile(ref);
    }
  }
  return { items, warnings: await writer.finish() };
}

/** What `find` says of a tree, one record an entry: path, type, mode, time to the nanosecond, owner, group, link target. */
export function inventory(root: string): string[] {
  const format = '%P\\0%y %m %T@ %U %G %l\\0\\0';
  const output = execFileSync('find', [root, '-printf', format], { maxBuffer: 2 ** 28 }).toString('latin1');
  return output.split('\0\0').filter(Boolean).sort();
}

/** The differences in contents that `diff` finds, '' for none. */
export function contentDifference(a: string, b: string): string {
  const { stdout, stderr } = spawnSync('diff', ['--recursive', '--brief', '--no-dereference', a, b], {
    encoding: 'latin1',
  });
  return stdout + stderr;
}

/**
 * What both look at, in this process, for tests that compare hundreds of trees: a record of each thing, `root` too: path, type and mode, time to the
 * nanosecond, owner, group, and link target or hash of the content. Names are latin1.
 */
export function treeOf(root: string): string[] {
  const records: string[] = [];
  const visit = (at: Buffer, path: string): void => {
    const { mode, mtimeNs, uid, gid } = lstatSync(at, { bigint: true });
    const type = Number(mode) & constants.S_IFMT;
    let content = '';
    if (type === constants.S_IFLNK) content = readlinkSync(at, { encoding: 'buffer' }).toString('latin1');
    else if (type === constants.S_IFREG) content = createHash('sha256').update(readFileSync(at)).digest('hex');
    records.push([path, mode.toString(8), mtimeNs, uid, gid, content].join('\0'));
    if (type !== constants.S_IFDIR) return;
    for (const name of readdirSync(at, { encoding: 'buffer' }))
      visit(Buffer.concat([at, Buffer.from('/'), name]), `${path}/${name.toString('latin1')}`);
  };
  visit(Buffer.from(root), '');
  return records.sort();
}
