/** I9: memory is bounded by the number of chunks, never by the size of a file or the number of files. HOLDFAST_LONG=1 takes twice as much of all. */
import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BackupResult } from '../../src/operations/backup.ts';
import type { RestoreResult } from '../../src/operations/restore.ts';
import { contentDifference, inventory, removeFolder, temporaryFolder } from '../state/trees.ts';

const IS_LONG = process.env['HOLDFAST_LONG'] === '1';
const MiB = 2 ** 20;
const CHILD = fileURLToPath(new URL('./memory-child.ts', import.meta.url));
/** Large enough that a file or a pack of the run does not fit in it twice, and far too small for the tree. */
const HEAP_MB = 48;
/** Sparse. In its first part, a mark at each of these distances makes all chunks differ; the rest is one chunk over and over. */
const BIG_BYTES = (IS_LONG ? 1024 : 512) * MiB;
const MARKED_BYTES = (IS_LONG ? 512 : 192) * MiB;
const MARK_BYTES = MiB / 4;
const SMALL_FILES = IS_LONG ? 10_000 : 4000;

let folder: string;
beforeAll(() => {
  folder = temporaryFolder();
  mkdirSync(join(folder, 'state', 'many'), { recursive: true });
  for (let i = 0; i < SMALL_FILES; i++) writeFileSync(join(folder, 'state', 'many', `${i}.md`), `memory ${i}\n`);
  const big = openSync(join(folder, 'state', 'big'), 'w');
  ftruncateSync(big, BIG_BYTES);
  const mark = Buffer.alloc(4);
  for (let at = 0; at < MARKED_BYTES; at += MARK_BYTES) {
    mark.writeUInt32BE(at / MARK_BYTES + 1);
    writeSync(big, mark, 0, mark.length, at);
  }
  closeSync(big);
});
afterAll(() => removeFolder(folder));

it('a file of half a GiB or more and thousands of small ones are saved and restored with a heap of 48 MB', () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [`--max-old-space-size=${HEAP_MB}`, CHILD, join(folder, 'state'), join(folder, 'run')],
    { encoding: 'utf8' },
  );
  expect({ status, stderr: stderr.slice(-2000) }).toEqual({ status: 0, stderr: '' });
  const { saved, restored, peakBytes } = JSON.parse(stdout) as {
    saved: BackupResult;
    restored: RestoreResult;
    peakBytes: number;
  };
  expect(saved).toMatchObject({ complete: true, files: { total: SMALL_FILES + 1 }, warnings: [] });
  expect(saved.bytes.added).toBeGreaterThan(MARKED_BYTES); // the chunks did differ
  expect(restored).toMatchObject({ complete: true, files: SMALL_FILES + 1, lost: [] });
  // Buffers lie outside the heap: neither do they hold the file, or its chunks.
  expect(peakBytes).toBeLessThan(BIG_BYTES * 0.75);
  expect(inventory(join(folder, 'run', 'restored'))).toEqual(inventory(join(folder, 'state')));
  expect(contentDifference(join(folder, 'run', 'restored'), join(folder, 'state'))).toBe('');
});
