import { posix } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RawPath } from '../../src/raw-path.ts';
import { checkEntryPath } from '../../src/state/tree-path.ts';

const raw = (path: string) => path as RawPath;
const isAccepted = (path: string) => {
  try {
    checkEntryPath(raw(path));
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: 'damaged', hint: expect.any(String) as string });
    return false;
  }
};

describe('a path of an entry', () => {
  it.each([
    ['', 'is empty'],
    ['/', 'absolute'],
    ['/etc/passwd', 'absolute'],
    ['.', '"."'],
    ['..', '".."'],
    ['../x', '".."'],
    ['a/../b', '".."'],
    ['a/..', '".."'],
    ['a/./b', '"."'],
    ['a//b', 'empty name'],
    ['a/', 'empty name'],
    ['a\0b', 'NUL'],
    ['\u0100', 'no bytes'],
    ['n'.repeat(256), '255'],
    [`${'n'.repeat(200)}/`.repeat(21), '4096'],
  ])('%j is refused', (path, why) => {
    expect(() => checkEntryPath(raw(path))).toThrow(
      expect.objectContaining({ code: 'damaged', message: expect.stringContaining(why) as string }),
    );
  });

  it.each([
    'a',
    '...',
    '..a',
    'a..',
    ' ',
    '-',
    '\n',
    '\xff',
    'n'.repeat(255),
    `${'n'.repeat(255)}/`.repeat(15) + 'x',
    '~',
    'C:\\x',
    '\\..\\x',
  ])('%j is accepted', (path) => {
    expect(isAccepted(path)).toBe(true);
  });

  it('is accepted exactly when it is made of proper names', () => {
    const name = fc.string({
      unit: fc
        .integer({ min: 1, max: 255 })
        .filter((byte) => byte !== 0x2f)
        .map((byte) => String.fromCharCode(byte)),
      minLength: 1,
    });
    fc.assert(
      fc.property(fc.array(name, { minLength: 1, maxLength: 8 }), (names) => {
        expect(isAccepted(names.join('/'))).toBe(!names.some((one) => one === '.' || one === '..'));
      }),
    );
  });

  it('never leads out of its tree, or to a place that another path names', () => {
    const unit = fc.constantFrom('/', '.', '..', 'a', '\0', '\n', '\xff', '\u0101');
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 12 }), (path) => {
        if (isAccepted(path)) expect(posix.resolve('/base', path)).toBe(`/base/${path}`);
      }),
      { numRuns: 1000 },
    );
  });
});
