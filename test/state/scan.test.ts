import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { comparePaths, rawForDisplay, type RawPath } from '../../src/raw-path.ts';
import { scan, type ScanItem, type ScanOptions } from '../../src/state/scan.ts';
import { bytes, inventory, makeNastyTree, removeFolder, temporaryFolder, under } from './trees.ts';

const temporary = temporaryFolder();
afterAll(() => removeFolder(temporary));
const freshFolder = () => mkdtempSync(join(temporary, 'tree-'));

function scanAll(root: string, options?: ScanOptions) {
  const scanning = scan(root, options);
  const items: ScanItem[] = [];
  for (;;) {
    const step = scanning.next();
    if (step.done) return { items, summary: step.value };
    items.push(step.value);
  }
}

const pathsOf = (items: ScanItem[]) => items.flatMap((item) => (item.kind === 'problem' ? [] : [item.path as string]));
const warningsOf = (items: ScanItem[]) => items.flatMap((item) => (item.kind === 'problem' ? [item.warning] : []));
const write = (root: string, ...names: string[]) => {
  for (const name of names) {
    mkdirSync(join(root, name, '..'), { recursive: true });
    writeFileSync(join(root, name), name);
  }
};

/** An item in the form of `inventory`. */
function asFound(item: ScanItem): string {
  if (item.kind === 'problem') throw new Error(item.warning.message);
  const second = 1_000_000_000n;
  const nanoseconds = ((item.mtimeNs % second) + second) % second;
  const time = `${(item.mtimeNs - nanoseconds) / second}.${String(nanoseconds).padStart(9, '0')}0`;
  const type = { file: 'f', folder: 'd', symlink: 'l', fifo: 'p', device: 'c' }[item.kind];
  const target = item.kind === 'symlink' ? item.target : '';
  return `${item.path}\0${type} ${item.mode.toString(8)} ${time} ${item.uid} ${item.gid} ${target}`;
}

describe('a scan', () => {
  it('sees what find sees, to the byte and the nanosecond', () => {
    const root = freshFolder();
    makeNastyTree(root);
    expect(scanAll(root).items.map(asFound).sort()).toEqual(inventory(root));
  });

  it('comes in manifest order, the root first', () => {
    const root = freshFolder();
    makeNastyTree(root);
    const paths = pathsOf(scanAll(root).items) as RawPath[];
    expect(paths[0]).toBe('');
    expect(paths).toEqual([...paths].sort(comparePaths));
    expect(paths.indexOf('order/folder/file' as RawPath)).toBe(paths.indexOf('order/folder' as RawPath) + 1);
  });

  it('comes in manifest order whatever the names', () => {
    const name = fc
      .string({ unit: fc.constantFrom('a', 'b', '-', '!', '.', '0', '\n', '\xff', '\x80'), minLength: 1, maxLength: 4 })
      .filter((one) => one !== '.' && one !== '..');
    const path = fc.array(name, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(path, { maxLength: 12 }), (wanted) => {
        const root = freshFolder();
        for (const names of wanted) mkdirSync(under(root, names.join('/')), { recursive: true });
        const prefixes = wanted.flatMap((names) => names.map((_, index) => names.slice(0, index + 1).join('/')));
        const expected = [...new Set(['', ...prefixes])].sort((a, b) => comparePaths(a as RawPath, b as RawPath));
        expect(pathsOf(scanAll(root).items)).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });

  it('records links and does not follow them', () => {
    const root = freshFolder();
    write(root, 'folder/file');
    symlinkSync('folder', join(root, 'link'));
    symlinkSync('.', join(root, 'loop'));
    symlinkSync(bytes('\xff\n'), join(root, 'odd'));
    const { items } = scanAll(root);
    expect(pathsOf(items)).toEqual(['', 'folder', 'folder/file', 'link', 'loop', 'odd']);
    expect(items.at(-1)).toMatchObject({ kind: 'symlink', target: '\xff\n' });
  });

  it('follows a root that is a link', () => {
    const root = freshFolder();
    write(root, 'real/file');
    symlinkSync('real', join(root, 'link'));
    const { items } = scanAll(join(root, 'link'));
    expect(pathsOf(items)).toEqual(['', 'file']);
    expect(items[0]?.kind).toBe('folder');
  });

  it('does not take FIFOs and sockets, says so, and stays complete', async () => {
    const root = freshFolder();
    execFileSync('mkfifo', [join(root, 'fifo')]);
    const server = createServer();
    await new Promise<void>((done) => server.listen(join(root, 'socket'), done));
    const { items } = scanAll(root);
    await new Promise((done) => server.close(done));
    expect(pathsOf(items)).toEqual(['']);
    expect(warningsOf(items)).toMatchObject([
      { code: 'special_skipped', path: 'fifo', incomplete: false, message: expect.stringContaining('FIFO') as string },
      {
        code: 'special_skipped',
        path: 'socket',
        incomplete: false,
        message: expect.stringContaining('socket') as string,
      },
    ]);
  });

  it('reports an entry that no path can reach, and takes the rest', () => {
    const root = freshFolder();
    write(root, 'z');
    // Twenty folders with names of 250 bytes: a path beyond PATH_MAX, made one step at a time.
    execFileSync('bash', [
      '-c',
      'cd "$1" && for i in {1..20}; do mkdir "$2" && cd -P "$2" || exit 1; done',
      '-',
      root,
      'd'.repeat(250),
    ]);
    const { items } = scanAll(root);
    expect(pathsOf(items).at(-1)).toBe('z');
    expect(warningsOf(items)).toMatchObject([
      { code: 'unreadable', incomplete: true, message: expect.stringContaining('ENAMETOOLONG') as string },
    ]);
  });

  it('shows no control character of a name in a warning', () => {
    const root = freshFolder();
    execFileSync('mkfifo', [join(root, 'a\x1b[2J\nb')]);
    for (const { path, message } of warningsOf(scanAll(root).items)) expect(path + message).not.toMatch(/[\x00-\x1f]/);
  });

  it('refuses to take an unfinished restore for a whole tree', () => {
    const root = freshFolder();
    write(root, '.holdfast-restore-incomplete', 'a', 'sub/.holdfast-restore-incomplete');
    const { items } = scanAll(root);
    expect(pathsOf(items)).toEqual(['', 'a', 'sub', 'sub/.holdfast-restore-incomplete']);
    expect(warningsOf(items)).toMatchObject([{ code: 'unfinished_restore', incomplete: true }]);
  });
});

describe('a root that cannot be scanned', () => {
  const first = (root: string, options?: ScanOptions) => () => scan(root, options).next();
  const unreadable = (what: string) =>
    expect.objectContaining({
      code: 'source_unreadable',
      message: expect.stringContaining(what) as string,
      hint: expect.any(String) as string,
    });

  it('is missing', () => {
    expect(first(join(temporary, 'nowhere'))).toThrow(unreadable('does not exist'));
    symlinkSync('nowhere', join(temporary, 'dangling'));
    expect(first(join(temporary, 'dangling'))).toThrow(unreadable('does not exist'));
  });

  it('is no folder', () => {
    const root = freshFolder();
    write(root, 'file');
    expect(first(join(root, 'file'))).toThrow(unreadable('is not a folder'));
    expect(first(join(root, 'file', 'below'))).toThrow(unreadable('does not exist'));
  });

  it('is a folder of keys or backups, or lies in one', () => {
    const root = freshFolder();
    mkdirSync(join(root, 'inner'));
    symlinkSync(root, join(temporary, 'elsewhere'));
    expect(first(root, { keepOut: [join(temporary, 'elsewhere')] })).toThrow(unreadable('keys or backups'));
    expect(first(join(root, 'inner'), { keepOut: [root] })).toThrow(unreadable('keys or backups'));
  });

  it('is not looked at after an abort', () => {
    expect(first(freshFolder(), { signal: AbortSignal.abort() })).toThrow(
      expect.objectContaining({ code: 'interrupted' }),
    );
  });
});

describe('exclusion', () => {
  it('follows gitignore and is counted, not reported', () => {
    const root = freshFolder();
    write(
      root,
      'a.tmp',
      'A.TMP',
      'keep/a.tmp',
      'keep/b',
      'build/x',
      'sub/build/y',
      'logs/1',
      'logs/important',
      'not-a-folder',
      'cache/x',
    );
    const { items, summary } = scanAll(root, {
      exclude: ['*.tmp', '/build', 'logs/*', '!logs/important', 'not-a-folder/', 'cache/', '# x', ''],
    });
    expect(pathsOf(items)).toEqual([
      '',
      'A.TMP',
      'keep',
      'keep/b',
      'logs',
      'logs/important',
      'not-a-folder',
      'sub',
      'sub/build',
      'sub/build/y',
    ]);
    expect(warningsOf(items)).toEqual([]);
    expect(summary).toEqual({ excluded: 5 });
  });

  it('matches text in UTF-8, and the displayed form of what is none', () => {
    const root = freshFolder();
    const text = Buffer.from('größe.txt').toString('latin1');
    for (const name of [text, 'raw\xff', 'new\nline']) writeFileSync(under(root, name), '');
    expect(rawForDisplay('raw\xff' as RawPath)).toBe('raw\\xff');
    expect(pathsOf(scanAll(root, { exclude: ['gr??e.txt', 'raw\\\\xff', 'new?line'] }).items)).toEqual(['']);
  });

  it('holds for more entries than the matcher is asked to remember', () => {
    const root = freshFolder();
    const names = Array.from({ length: 1050 }, (_, index) => `${index}.${index % 2 ? 'tmp' : 'md'}`);
    for (const name of names) writeFileSync(join(root, name), '');
    const { items, summary } = scanAll(root, { exclude: ['*.tmp'] });
    expect(items).toHaveLength(1 + 525);
    expect(summary).toEqual({ excluded: 525 });
  });
});

describe('what is kept out', () => {
  it('is not taken under any of its names, and is named in a warning that leaves the scan complete', () => {
    const root = freshFolder();
    write(root, 'keys/writer.key', 'backups/holdfast.json', 'backups/packs/x', 'a');
    linkSync(join(root, 'keys/writer.key'), join(root, 'hard-link'));
    symlinkSync('keys/writer.key', join(root, 'sym-link'));
    const keepOut = [join(root, 'sym-link'), join(root, 'backups'), join(root, 'not-there')];
    const { items } = scanAll(root, { keepOut });
    expect(pathsOf(items)).toEqual(['', 'a', 'keys', 'sym-link']);
    expect(warningsOf(items)).toMatchObject([
      { code: 'kept_apart', path: 'backups', incomplete: false },
      { code: 'kept_apart', path: 'hard-link', incomplete: false },
      { code: 'kept_apart', path: 'keys/writer.key', incomplete: false },
    ]);
  });

  it('stays out when it is replaced by a new file during the scan', () => {
    const root = freshFolder();
    write(root, 'a', 'key');
    const scanning = scan(root, { keepOut: [join(root, 'key')] });
    scanning.next();
    write(root, 'new-key');
    renameSync(join(root, 'new-key'), join(root, 'key'));
    expect(pathsOf([...scanning])).toEqual(['a']);
  });

  it('works for a root that was reached through a link', () => {
    const root = freshFolder();
    write(root, 'real/key', 'real/a');
    symlinkSync('real', join(root, 'link'));
    const scanning = scan(join(root, 'link'), { keepOut: [join(root, 'real/key')] });
    scanning.next();
    rmSync(join(root, 'real/key'));
    write(root, 'real/key');
    expect(pathsOf([...scanning])).toEqual(['a']);
  });
});

describe('a tree that changes during the scan', () => {
  /** Scans until `path` came, lets `change` happen, and returns what comes after. */
  function scanWith(root: string, path: string, change: () => void): ScanItem[] {
    const scanning = scan(root);
    for (let step = scanning.next(); ; step = scanning.next()) {
      if (step.done) throw new Error(`${path} was not seen`);
      if (step.value.kind !== 'problem' && step.value.path === path) break;
    }
    change();
    return [...scanning];
  }

  it('loses a file that nobody has seen yet without a word', () => {
    const root = freshFolder();
    write(root, 'a', 'b', 'c/d', 'e');
    const rest = scanWith(root, 'a', () => {
      unlinkSync(join(root, 'b'));
      rmSync(join(root, 'c'), { recursive: true });
    });
    expect(rest).toMatchObject([{ kind: 'file', path: 'e' }]);
  });

  it('reports a folder that goes away half seen', () => {
    const root = freshFolder();
    write(root, 'f/a', 'f/b', 'g');
    const rest = scanWith(root, 'f/a', () => rmSync(join(root, 'f'), { recursive: true }));
    expect(pathsOf(rest)).toEqual(['g']);
    expect(warningsOf(rest)).toMatchObject([{ code: 'vanished', path: 'f', incomplete: true }]);
  });

  it('says nothing of a folder that goes away when all of it was seen', () => {
    const root = freshFolder();
    write(root, 'f/a', 'f/b', 'g');
    const rest = scanWith(root, 'f/b', () => rmSync(join(root, 'f'), { recursive: true }));
    expect(rest).toMatchObject([{ kind: 'file', path: 'g' }]);
  });

  it('reports a root that goes away', () => {
    const root = freshFolder();
    write(root, 'f/a', 'f/b', 'g');
    const rest = scanWith(root, 'f/a', () => rmSync(root, { recursive: true }));
    expect(warningsOf(rest)).toMatchObject([
      { code: 'vanished', path: 'f' },
      { code: 'vanished', path: '.', incomplete: true },
    ]);
  });

  it('reports a folder that is swapped for a link while it is walked', () => {
    const root = freshFolder();
    write(root, 'f/a', 'f/b', 'g', '../other/a', '../other/b');
    const rest = scanWith(root, 'f/a', () => {
      renameSync(join(root, 'f'), join(root, 'h'));
      symlinkSync('../other', join(root, 'f'));
    });
    expect(warningsOf(rest)).toMatchObject([{ code: 'vanished', path: 'f', incomplete: true }]);
  });

  it('sees a link, and not what it leads to, where a folder was', () => {
    const root = freshFolder();
    write(root, 'a', 'f/secret', 'g');
    const rest = scanWith(root, 'a', () => {
      rmSync(join(root, 'f'), { recursive: true });
      symlinkSync('/', join(root, 'f'));
    });
    expect(rest).toMatchObject([{ kind: 'symlink', path: 'f', target: '/' }, { path: 'g' }]);
  });

  it('stops at an abort', () => {
    const root = freshFolder();
    write(root, 'a', 'b');
    const stop = new AbortController();
    const scanning = scan(root, { signal: stop.signal });
    scanning.next();
    stop.abort();
    expect(() => scanning.next()).toThrow(expect.objectContaining({ code: 'interrupted' }));
  });

  it('leaves no descriptor open', () => {
    const root = freshFolder();
    write(root, 'a/b/c', 'd');
    chmodSync(join(root, 'a'), 0o755);
    const before = readdirSync('/proc/self/fd').length;
    const scanning = scan(root);
    scanning.next();
    scanning.next();
    scanning.return({ excluded: 0 });
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });
});
