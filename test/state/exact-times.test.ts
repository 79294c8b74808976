import { closeSync, fstatSync, lstatSync, openSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { rawFromText, type RawPath } from '../../src/raw-path.ts';
import { exactTimes, nodeTimes } from '../../src/state/exact-times.ts';
import { libc, loadLibc } from '../../src/state/libc.ts';
import { bytes, removeFolder, temporaryFolder, touch, under } from './trees.ts';

const folder = temporaryFolder();
afterAll(() => removeFolder(folder));

const TIMES_NS = [
  0n,
  1n,
  -1n,
  1_784_000_000_123_456_789n,
  -626_000_000_123_456_789n,
  -1_000_000_000n,
  4_323_000_000_000_000_007n,
];

describe('times', () => {
  it.each(TIMES_NS)('%d ns can be set exactly, on a descriptor and on a path of any bytes', (mtimeNs) => {
    const path = under(folder, 'file \xff\n');
    writeFileSync(path, 'x');
    const fd = openSync(path, 'r+');
    exactTimes().ofFile(fd, mtimeNs);
    expect(fstatSync(fd, { bigint: true })).toMatchObject({ mtimeNs, atimeNs: mtimeNs });
    closeSync(fd);

    exactTimes().ofPath(path.toString('latin1') as RawPath, mtimeNs + 1n);
    expect(lstatSync(path, { bigint: true }).mtimeNs).toBe(mtimeNs + 1n);
  });

  it.each(TIMES_NS)('%d ns can be set to within a microsecond without the C library', (mtimeNs) => {
    const path = `${folder}/plain`;
    writeFileSync(path, 'x');
    const fd = openSync(path, 'r+');
    nodeTimes.ofFile(fd, mtimeNs);
    const byFile = fstatSync(fd, { bigint: true }).mtimeNs;
    closeSync(fd);
    nodeTimes.ofPath(rawFromText(path), mtimeNs);
    for (const now of [byFile, lstatSync(path, { bigint: true }).mtimeNs])
      expect(Math.abs(Number(now - mtimeNs))).toBeLessThan(1000);
  });

  it.each([
    ['exact', exactTimes()],
    ['plain', nodeTimes],
  ])('of a link are its own (%s)', (name, times) => {
    writeFileSync(`${folder}/target`, 'x');
    touch(`${folder}/target`, '2020-01-01 00:00:00');
    const link = under(folder, `link-${name}`);
    symlinkSync(bytes('target'), link);
    times.ofPath(rawFromText(String(link)), 1_000_000_000_000_000_000n);
    expect(lstatSync(link, { bigint: true }).mtimeNs).toBe(1_000_000_000_000_000_000n);
    expect(statSync(link).mtime.toISOString()).toBe('2020-01-01T00:00:00.000Z');
  });

  it.each([
    ['exact', exactTimes()],
    ['plain', nodeTimes],
  ])('of what is not there give a system error (%s)', (_, times) => {
    expect(() => times.ofPath(rawFromText(`${folder}/nothing`), 0n)).toThrow(
      expect.objectContaining({ code: 'ENOENT' }),
    );
  });
});

describe('the C library', () => {
  it('is there in development, so that the exact path is what these tests run', () => {
    expect(libc()).toBeDefined();
  });

  it('is done without where its binding is missing or the machine is a 32-bit one', () => {
    const missing = () => {
      throw new Error('Cannot find module');
    };
    expect(loadLibc(missing)).toBeUndefined();
    expect(loadLibc(() => ({ sizeof: () => 4 }))).toBeUndefined();
    expect(loadLibc(() => ({}))).toBeUndefined();
  });
});
