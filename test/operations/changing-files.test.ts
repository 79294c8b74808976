/** Files that change, vanish or cannot be read while they are saved, and trees at the edge of what systems hold. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { BackupResult } from '../../src/operations/backup.ts';
import type { RestoreResult } from '../../src/operations/restore.ts';
import { seededNoise } from '../crypto/support.ts';
import { removeFolder } from '../state/trees.ts';
import { expectSameTree, makeAgent } from './support.ts';

const noise = seededNoise('changing');
/** Ten files of 1,000 bytes each, and what lies around them. */
function fillTen(state: string): void {
  mkdirSync(join(state, 'folder'));
  for (let i = 0; i < 10; i++) writeFileSync(join(state, i % 2 ? 'folder' : '.', `file-${i}`), noise.bytes(1000));
  symlinkSync('file-0', join(state, 'link'));
}

describe('a file', () => {
  /** A signal that is looked at between two pieces of a file: where another process would write to it. */
  function between(pieces: () => void): AbortSignal {
    const { signal } = new AbortController();
    Object.defineProperty(signal, 'aborted', {
      get() {
        pieces();
        return false;
      },
    });
    return signal;
  }
  const BIG = 9 * 2 ** 20;
  const withBig = () =>
    makeAgent({ backends: ['a'], fill: (state) => writeFileSync(join(state, 'big'), noise.bytes(BIG)) });
  /** Open for reading right now, as the system sees it. */
  const isOpen = (path: string) =>
    readdirSync('/proc/self/fd').some((fd) => {
      try {
        return statSync(`/proc/self/fd/${fd}`).ino === statSync(path).ino;
      } catch {
        return false;
      }
    });

  test('that is written to while it is read is read again, and saved as it is then', async () => {
    await using agent = await withBig();
    const path = join(agent.state, 'big');
    let times = 0;
    const signal = between(() => {
      if (times > 0 || !isOpen(path)) return;
      times++;
      appendFileSync(path, 'written meanwhile');
    });
    const result = await agent.backup({}, { signal });
    expect(times).toBe(1);
    expect(result).toMatchObject({ complete: true, warnings: [] });
    const target = join(agent.folder, 'out');
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });

  test('that is written to each time is saved as last read, and reported', async () => {
    await using agent = await withBig();
    const path = join(agent.state, 'big');
    const signal = between(() => {
      if (isOpen(path)) appendFileSync(path, 'again');
    });
    const result = await agent.backup({}, { signal });
    expect(result.complete).toBe(false);
    expect(result.warnings).toMatchObject([{ code: 'changed', path: 'big', incomplete: true }]);
    const target = join(agent.folder, 'out');
    expect(await agent.restore(target)).toMatchObject({ lost: [], complete: true });
    expect((await agent.verify('chunks')).damaged).toEqual([]);
    // The next run sees it anew: nothing of the mixture is taken for the file.
    expect((await agent.backup()).files).toMatchObject({ changed: 1 });
    await agent.restore(join(agent.folder, 'again'));
    expectSameTree(join(agent.folder, 'again'), agent.state);
  });

  test('that shrinks while it is read is saved as it is then', async () => {
    await using agent = await withBig();
    const path = join(agent.state, 'big');
    let done = false;
    const signal = between(() => {
      if (done || !isOpen(path)) return;
      done = true;
      truncateSync(path, 5 * 2 ** 20);
    });
    expect(await agent.backup({}, { signal })).toMatchObject({ complete: true, warnings: [] });
    const target = join(agent.folder, 'out');
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });

  test('that vanishes before it is read is reported, and the rest is saved', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    // The folder is listed before its files are read; progress is told after each file.
    const progress = () => rmSync(join(agent.state, 'folder', 'file-9'), { force: true });
    const result = await agent.backup({}, { progress });
    expect(result.files.total).toBe(9);
    const target = join(agent.folder, 'out');
    await agent.restore(target);
    expectSameTree(target, agent.state);
  });

  test('that is replaced by a link or a folder after it was seen is not followed', async () => {
    await using agent = await makeAgent({ backends: ['a'], fill: (state) => writeFileSync(join(state, 'file'), 'x') });
    const path = join(agent.state, 'file');
    let looks = 0;
    const signal = between(() => {
      // After the scan has seen the file, before it is opened: the reading looks at the signal first of all.
      if (++looks > 0 && new Error().stack?.includes('readFile')) {
        rmSync(path, { recursive: true, force: true });
        symlinkSync('/etc/passwd', path);
      }
    });
    const result = await agent.backup({}, { signal });
    expect(result).toMatchObject({ complete: false, files: { total: 0 } });
    expect(result.warnings).toMatchObject([{ code: 'vanished', path: 'file', incomplete: true }]);
  });

  test('that cannot be read is reported, and the rest is saved', () => {
    const program = fileURLToPath(new URL('as-nobody.ts', import.meta.url));
    const { stdout, stderr } = spawnSync(process.execPath, [program], { encoding: 'utf8' });
    expect(stderr.replace(/.*ExperimentalWarning.*\n.*\n/, '')).toBe('');
    const seen = JSON.parse(stdout) as {
      uid: number;
      backup: BackupResult;
      restore: RestoreResult;
      restored: string[];
    };
    expect(seen.uid).not.toBe(0);
    expect(seen.backup.complete).toBe(false);
    expect(seen.backup.files).toMatchObject({ total: 2, new: 2 });
    expect(seen.backup.warnings.map(({ code, path, incomplete }) => ({ code, path, incomplete }))).toEqual([
      { code: 'unreadable', path: 'closed', incomplete: true },
      { code: 'unreadable', path: 'open/m-unreadable', incomplete: true },
    ]);
    expect(seen.backup.backends.map(({ state }) => state)).toEqual(['committed', 'committed']);
    expect(seen.restore).toMatchObject({ complete: true, files: 2 });
    expect(seen.restored).toEqual(['', 'a-readable', 'closed', 'open', 'open/z-readable']);
  });
});

describe('a tree at the edge of what systems hold', () => {
  // Some file systems keep any time; a program that gives milliseconds for seconds makes one of the year 55,000.
  test.skipIf(!existsSync('/dev/shm'))('has times far from ours, and they come back', async () => {
    await using agent = await makeAgent();
    const state = mkdtempSync('/dev/shm/holdfast-times-');
    try {
      for (const time of ['1767225600000', '-1767225600000', '99999999999999'])
        spawnSync('touch', ['-d', `@${time}`, join(state, `file${time}`)]);
      expect(readdirSync(state)).toHaveLength(3);
      await agent.backup({ state: { root: state, exclude: [], keepOut: [] } });
      const target = `${state}-out`;
      const { lost, complete } = await agent.restore(target);
      expect({ lost, complete }).toEqual({ lost: [], complete: true });
      expectSameTree(target, state);
    } finally {
      removeFolder(`${state}-out`);
      removeFolder(state);
    }
  });

  test('has paths that no call takes whole: they cost themselves, never the snapshot', async () => {
    await using agent = await makeAgent({ fill: fillTen });
    // Deeper than any path that a restore takes: made step by step, as no call takes it whole.
    const deeper = `for (let i = 0; i < 20; i++) {
      fs.mkdirSync('n'.repeat(250));
      process.chdir('n'.repeat(250));
      fs.writeFileSync('file', 'x');
    }`;
    const { status } = spawnSync(process.execPath, ['-e', deeper], { cwd: agent.state });
    expect(status).toBe(0);
    const result = await agent.backup();
    expect(result.complete).toBe(false);
    const target = join(agent.folder, 'out');
    const restored = await agent.restore(target);
    expect(restored.files).toBe(result.files.total);
    expect(result.files.total).toBeGreaterThan(20);
    expect((await agent.verify('chunks')).damaged).toEqual([]);
  });
});
