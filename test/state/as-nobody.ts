/**
 * A program for tests that need a user without privileges: it becomes `nobody` when started by root (after everything it needs is loaded), and
 * prints what it saw as JSON. Argument: a folder with a file `not-mine` that anybody may read.
 */
import { chmodSync, lstatSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemErrorCode, isHoldfastError } from '../../src/errors.ts';
import { rawFromText } from '../../src/raw-path.ts';
import { exactTimes } from '../../src/state/exact-times.ts';
import { cString, linux } from '../../src/state/linux.ts';
import { readFile } from '../../src/state/read-file.ts';
import { scan } from '../../src/state/scan.ts';
import { openTarget } from '../../src/state/write-tree.ts';
import { becomeNobody } from '../become-nobody.ts';
import { contentDifference, copyTree, inventory, makeNastyTree, removeFolder, temporaryFolder } from './trees.ts';

exactTimes();
linux();
const folderOfOthers = process.argv[2] ?? '';
becomeNobody();
const uid = process.geteuid?.() ?? 0;
const gid = process.getegid?.() ?? 0;

const temporary = temporaryFolder();
try {
  console.log(
    JSON.stringify({
      uid,
      unreadable: unreadable(),
      notMine: readNotMine(),
      roots: roots(),
      copy: await copy(),
      foreign: await foreign(),
      special: await special(),
    }),
  );
} finally {
  removeFolder(temporary);
}

function unreadable() {
  const root = join(temporary, 'unreadable');
  for (const name of ['list-only', 'closed', 'search-only']) mkdirSync(join(root, name, 'inside'), { recursive: true });
  for (const name of ['a-readable', 'z-unreadable']) writeFileSync(join(root, name), name);
  chmodSync(join(root, 'z-unreadable'), 0o000);
  chmodSync(join(root, 'closed'), 0o000);
  chmodSync(join(root, 'list-only'), 0o444);
  chmodSync(join(root, 'search-only'), 0o111);
  return [...scan(root)].map((item) => {
    if (item.kind === 'problem')
      return `${item.warning.code}${item.warning.incomplete ? '!' : ''} ${item.warning.path}`;
    if (item.kind !== 'file') return `${item.kind} ${item.path}`;
    const reading = readFile(root, item.path);
    let step = reading.next();
    while (!step.done) step = reading.next();
    return `file ${item.path} ${step.value.outcome} ${'reason' in step.value ? step.value.reason : ''}`.trim();
  });
}

/** O_NOATIME is for the owner only. */
function readNotMine() {
  const reading = readFile(folderOfOthers, rawFromText('not-mine'));
  const first = reading.next();
  const last = reading.next();
  return [first.done ? '' : Buffer.from(first.value).toString(), last.done ? last.value.outcome : ''];
}

function roots() {
  const closed = join(temporary, 'closed');
  mkdirSync(join(closed, 'inside'), { recursive: true });
  chmodSync(closed, 0o000);
  return [closed, join(closed, 'inside')].map((root) => {
    try {
      scan(root).next();
      return 'scanned';
    } catch (error) {
      return isHoldfastError(error) ? error.code : systemErrorCode(error);
    }
  });
}

/** Closed and read-only folders are filled while they are restored. */
async function copy() {
  const source = join(temporary, 'source');
  const target = join(temporary, 'target');
  mkdirSync(source);
  makeNastyTree(source);
  for (const [mode, name] of [
    [0o555, 'read-only'],
    [0o500, 'mine-only'],
  ] as const) {
    mkdirSync(join(source, name, 'deeper'), { recursive: true });
    writeFileSync(join(source, name, 'deeper', 'file'), 'x');
    symlinkSync('deeper', join(source, name, 'link'));
    chmodSync(join(source, name, 'deeper'), mode);
    chmodSync(join(source, name), mode);
  }
  const { warnings } = await copyTree(source, target);
  const before = inventory(source);
  const after = inventory(target);
  return {
    warnings,
    entries: before.length,
    same: before.join() === after.join(),
    difference: contentDifference(source, target),
  };
}

/** Attributes, flags and things that only root may make. */
async function special() {
  const target = join(temporary, 'special');
  const writer = await openTarget(target);
  const at = (path: string) => ({ path: rawFromText(path), mode: 0o640, mtimeNs: 5n, uid, gid });
  const value = Buffer.from('x');
  writer.writeFile(
    { ...at('file'), size: 1, xattrs: { 'user.tag': value, 'security.capability': value, 'trusted.tag': value } },
    [value],
  );
  writer.writeFile({ ...at('closed'), mode: 0, size: 0, xattrs: { 'user.tag': value } }, []);
  writer.writeFile({ ...at('flagged'), size: 0, flags: ['immutable'] }, []);
  writer.writeFile({ ...at('no dump'), size: 0, flags: ['nodump'] }, []);
  writer.addSpecial({ ...at('fifo'), type: 'fifo' });
  writer.addSpecial({ ...at('device'), type: 'device', device: { kind: 'character', major: 1, minor: 5 } });
  const warnings = await writer.finish();
  const buffer = new Uint8Array(9);
  return {
    warnings: warnings.map(({ code, path, incomplete }) => `${code}${incomplete ? '!' : ''} ${path}`),
    tag: linux()?.getXattr(cString(join(target, 'file')), 'user.tag', buffer),
    names: readdirSync(target),
    fifo: lstatSync(join(target, 'fifo')).isFIFO(),
  };
}

/** Entries that belonged to others, below a folder that ends up closed. */
async function foreign() {
  const target = join(temporary, 'foreign');
  const writer = await openTarget(target);
  const common = { mtimeNs: 5n, uid: uid + 1, gid };
  writer.addFolder({ ...common, path: rawFromText('closed'), mode: 0o000 });
  writer.addFolder({ ...common, path: rawFromText('closed/inside'), mode: 0o000 });
  writer.writeFile({ ...common, path: rawFromText('closed/setuid'), mode: 0o4755, size: 1 }, [Buffer.from('x')]);
  writer.addSymlink({ ...common, path: rawFromText('closed/link'), mode: 0o777, target: rawFromText('x') });
  const warnings = await writer.finish();
  const closed = statSync(join(target, 'closed')).mode & 0o7777;
  chmodSync(join(target, 'closed'), 0o700);
  return { warnings, modes: [closed, statSync(join(target, 'closed/setuid')).mode & 0o7777] };
}
