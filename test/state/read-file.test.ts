import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { RawPath } from '../../src/raw-path.ts';
import { readFile, type ReadOptions, type ReadResult } from '../../src/state/read-file.ts';
import { removeFolder, temporaryFolder, touch, under } from './trees.ts';

const temporary = temporaryFolder();
afterAll(() => removeFolder(temporary));
const freshFolder = () => mkdtempSync(join(temporary, 'tree-'));
const raw = (path: string) => path as RawPath;

/** Reads to the end; `meanwhile` happens once, after the first piece. */
function read(
  root: string,
  path: string,
  meanwhile = () => {},
  options: ReadOptions = {},
): { pieces: Buffer[]; result: ReadResult } {
  const reading = readFile(root, raw(path), options);
  const pieces: Buffer[] = [];
  for (;;) {
    const step = reading.next();
    if (step.done) return { pieces, result: step.value };
    pieces.push(Buffer.from(step.value));
    if (pieces.length === 1) meanwhile();
  }
}

/** In pieces of four bytes. */
const small = (): ReadOptions => ({ buffer: new Uint8Array(4) });

describe('reading a file', () => {
  it('gives its bytes and what it was like', () => {
    const root = freshFolder();
    writeFileSync(under(root, 'odd\xff\n'), 'hello');
    const { pieces, result } = read(root, 'odd\xff\n');
    expect(Buffer.concat(pieces).toString()).toBe('hello');
    const { mtimeNs, ino } = statSync(under(root, 'odd\xff\n'), { bigint: true });
    expect(result).toMatchObject({ outcome: 'ok', file: { kind: 'file', path: 'odd\xff\n', size: 5, mtimeNs, ino } });
  });

  it('of no bytes gives no piece', () => {
    const root = freshFolder();
    writeFileSync(join(root, 'empty'), '');
    expect(read(root, 'empty')).toMatchObject({ pieces: [], result: { outcome: 'ok', file: { size: 0 } } });
  });

  it('of more than 2 GiB goes in pieces of 4 MiB through one buffer', () => {
    const root = freshFolder();
    const size = 2 ** 31 + 5;
    const fd = openSync(join(root, 'huge'), 'w');
    ftruncateSync(fd, size);
    writeSync(fd, 'end', size - 3);
    closeSync(fd);

    const reading = readFile(root, raw('huge'));
    const buffers = new Set<ArrayBufferLike>();
    let read = 0;
    let last = '';
    for (;;) {
      const step = reading.next();
      if (step.done) {
        expect(step.value).toMatchObject({ outcome: 'ok', file: { size } });
        break;
      }
      read += step.value.length;
      buffers.add(step.value.buffer);
      expect(step.value.length).toBeLessThanOrEqual(4 * 2 ** 20);
      last = Buffer.from(step.value.subarray(-3)).toString();
    }
    expect({ read, last, buffers: buffers.size }).toEqual({ read: size, last: 'end', buffers: 1 });
  });

  it('uses the given buffer and nothing beyond it', () => {
    const root = freshFolder();
    writeFileSync(join(root, 'file'), '0123456789');
    const { pieces } = read(root, 'file', undefined, small());
    expect(pieces.map(String)).toEqual(['0123', '4567', '89']);
  });

  it('leaves the access time alone', () => {
    const root = freshFolder();
    writeFileSync(join(root, 'file'), 'x');
    utimesSync(join(root, 'file'), 1, 2_000_000_000);
    read(root, 'file');
    expect(statSync(join(root, 'file')).atimeMs).toBe(1000);
  });

  it('closes the file at the end, after an early stop, and after an abort', () => {
    const root = freshFolder();
    writeFileSync(join(root, 'file'), '0123456789');
    const before = readdirSync('/proc/self/fd').length;
    read(root, 'file');
    for (const _ of readFile(root, raw('file'), small())) break;
    const stop = new AbortController();
    expect(() => read(root, 'file', () => stop.abort(), { ...small(), signal: stop.signal })).toThrow(
      expect.objectContaining({ code: 'interrupted' }),
    );
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });
});

describe('a file that changes', () => {
  /** A file of ten bytes with times long ago, changed after its first piece. */
  function readWhile(change: (path: string) => void) {
    const root = freshFolder();
    const path = join(root, 'file');
    writeFileSync(path, '0123456789');
    touch(path, '2020-01-01 00:00:00.000000001');
    const { pieces, result } = read(root, 'file', () => change(path), small());
    return { text: Buffer.concat(pieces).toString(), result };
  }
  const LONG_AGO_NS = 1_577_836_800_000_000_001n;

  it('by growing ends at the size it had, as changed', () => {
    expect(readWhile((path) => appendFileSync(path, 'more'))).toMatchObject({
      text: '0123456789',
      result: { outcome: 'changed', file: { size: 10, mtimeNs: LONG_AGO_NS }, reason: 'grew while it was read' },
    });
  });

  it('by being cut ends early, as changed, with the size that was read', () => {
    expect(readWhile((path) => truncateSync(path, 6))).toMatchObject({
      text: '012345',
      result: { outcome: 'changed', file: { size: 6, mtimeNs: LONG_AGO_NS } },
    });
  });

  it('in place, at the same size, is changed', () => {
    expect(readWhile((path) => writeFileSync(path, 'abcdefghij')).result).toMatchObject({
      outcome: 'changed',
      reason: 'was written to while it was read',
    });
  });

  it('in place, with its time put back, is changed all the same', () => {
    const { result } = readWhile((path) => {
      writeFileSync(path, 'abcdefghij');
      touch(path, '2020-01-01 00:00:00.000000001');
    });
    expect(result).toMatchObject({ outcome: 'changed', reason: 'was touched while it was read' });
  });

  it('by being replaced with a new file is read to the end as it was', () => {
    expect(
      readWhile((path) => {
        writeFileSync(`${path}.new`, 'new');
        rmSync(path);
        renameSync(`${path}.new`, path);
      }).text,
    ).toBe('0123456789');
  });

  it('before it is read is read as it is then', () => {
    const root = freshFolder();
    writeFileSync(join(root, 'file'), 'new contents');
    expect(read(root, 'file').result).toMatchObject({ outcome: 'ok', file: { size: 12 } });
  });
});

describe('what is no regular file any more', () => {
  const root = freshFolder();
  writeFileSync(join(root, 'secret'), 'secret');

  it.each([
    ['nothing', () => {}],
    ['a folder', (path: string) => mkdirSync(path)],
    ['a link to a file', (path: string) => symlinkSync('../secret', path)],
    ['a FIFO that nobody writes to', (path: string) => void execFileSync('mkfifo', [path])],
  ])('%s gives vanished, and no bytes', (_, make) => {
    const path = join(mkdtempSync(join(root, 'case-')), 'x');
    make(path);
    const { pieces, result } = read(root, path.slice(root.length + 1));
    expect({ pieces, outcome: result.outcome }).toEqual({ pieces: [], outcome: 'vanished' });
  });

  it('gives vanished when its folder became a file', () => {
    expect(read(root, 'secret/below').result.outcome).toBe('vanished');
  });

  it('gives unreadable when the path is too long', () => {
    const { result } = read(root, `${'n'.repeat(300)}`);
    expect(result).toMatchObject({ outcome: 'unreadable', reason: expect.stringContaining('ENAMETOOLONG') as string });
  });

  it('does not disturb reading on when it is removed meanwhile', () => {
    writeFileSync(join(root, 'going'), '0123456789');
    chmodSync(join(root, 'going'), 0o400);
    const { pieces } = read(root, 'going', () => unlinkSync(join(root, 'going')), small());
    expect(Buffer.concat(pieces).toString()).toBe('0123456789');
  });
});
