import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FILE_FLAGS, type ChunkId, type Entry } from '../../../src/entry.ts';
import { isHoldfastError } from '../../../src/errors.ts';
import { comparePaths, rawFromBytes, rawFromText, ROOT, type RawPath } from '../../../src/raw-path.ts';
import { LineSplitter } from '../../../src/lines.ts';
import {
  chunksInLine,
  entryLine,
  fileLineHead,
  glanceAtLine,
  parseEntryLine,
  readEntries,
} from '../../../src/repository/records/manifest.ts';
import { failure } from '../../crypto/support.ts';

const ID = 'ab'.repeat(32) as ChunkId;
const common = { mode: 0o644, mtimeNs: 1_700_000_000_123_456_789n, uid: 1000, gid: 1000 };
const raw = rawFromText;
const folder = (path: string): Entry => ({ ...common, path: raw(path), type: 'folder', mode: 0o755 });
const file = (path: string): Entry => ({ ...common, path: raw(path), type: 'file', size: 5, chunks: [ID] });
const link = (path: string, target = 'x'): Entry => ({
  ...common,
  path: raw(path),
  type: 'symlink',
  target: raw(target),
});
const root = folder('');

async function* inPieces(text: string | Uint8Array, length = 7): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

async function read(text: string | Uint8Array, length?: number): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of readEntries(inPieces(text, length))) entries.push(entry);
  return entries;
}

const textOf = (entries: readonly Entry[]) => entries.map((entry) => `${entryLine(entry)}\n`).join('');
/** The line of a good entry with some fields changed. */
const lineWith = (fields: Record<string, unknown>, of: Entry = file('a')) =>
  `${JSON.stringify({ ...(JSON.parse(entryLine(of)) as object), ...fields })}\n`;

/** A name of bytes, with those that mean something in JSON, UTF-8 and terminals more often than others. */
const anyName = fc
  .oneof(
    fc.uint8Array({ minLength: 1, maxLength: 12 }),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 6 }).map((text) => Buffer.from(text)),
    fc
      .constantFrom('\n', '"', '\\', ' ', '...', '\r\n', '\u2028', '\ufeff', '\ud800', '\xff', '-')
      .map((text) => Buffer.from(text, 'latin1')),
  )
  .map((bytes) => rawFromBytes(bytes).replace(/[/\0]/g, '_') as RawPath)
  .filter((name) => name !== '.' && name !== '..');
const anyPath = fc.array(anyName, { minLength: 1, maxLength: 4 }).map((names) => names.join('/') as RawPath);
const anyCommon = {
  mode: fc.integer({ min: 0, max: 0o7777 }),
  mtimeNs: fc.bigInt({ min: -(2n ** 63n) * 10n ** 9n, max: 2n ** 63n * 10n ** 9n - 1n }),
  uid: fc.nat(0xffff_ffff),
  gid: fc.nat(0xffff_ffff),
};
const anyChunk = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => Buffer.from(bytes).toString('hex') as ChunkId);
const anyWord = fc.stringMatching(/^[a-z_]{1,9}$/);
const anyExtras = {
  xattrs: fc.dictionary(anyWord, fc.uint8Array({ maxLength: 20 })),
  flags: fc.subarray([...FILE_FLAGS], { minLength: 1 }),
};
const anyFileExtras = {
  ...anyExtras,
  sqlite: fc.record({ rows: fc.dictionary(anyWord, fc.nat()) }),
  hardlink: fc.constant('!' as RawPath),
  holes: fc.constant([{ offset: 0, length: 4096 }]),
};
const anyDevice = fc.record({
  kind: fc.constantFrom('block' as const, 'character' as const),
  major: fc.nat(2 ** 31 - 1),
  minor: fc.nat(2 ** 31 - 1),
});
const anyEntryAt = (path: fc.Arbitrary<RawPath>): fc.Arbitrary<Entry> =>
  fc.oneof(
    fc.record({ path, type: fc.constant('folder' as const), ...anyCommon }),
    fc.record({
      path,
      type: fc.constant('file' as const),
      size: fc.maxSafeNat(),
      chunks: fc.array(anyChunk, { maxLength: 3 }),
      ...anyCommon,
    }),
    fc.record({ path, type: fc.constant('symlink' as const), target: anyPath, ...anyCommon }),
    fc.record({ path, type: fc.constant('fifo' as const), ...anyCommon }),
    fc.record({ path, type: fc.constant('device' as const), device: anyDevice, ...anyCommon }),
  );

describe('an entry', () => {
  test('comes back as it was, whatever bytes its names have', () => {
    fc.assert(
      fc.property(anyEntryAt(anyPath), (entry) => {
        const line = entryLine(entry);
        expect(line).not.toContain('\n');
        expect(glanceAtLine(line)).toEqual({ path: entry.path, isFile: entry.type === 'file' });
        expect(parseEntryLine(line)).toEqual(entry);
        expect(parseEntryLine(Buffer.from(line, 'utf8').toString('utf8'))).toEqual(entry);
      }),
      { seed: 7, numRuns: 1000 },
    );
  });

  test('comes back with all that it may have besides, which stands at the end of its line', () => {
    const anyFile = fc.record(
      {
        ...anyCommon,
        path: anyPath,
        type: fc.constant('file' as const),
        size: fc.nat().map((n) => n + 4096),
        chunks: fc.array(anyChunk),
        ...anyFileExtras,
      },
      { requiredKeys: ['path', 'type', 'mode', 'mtimeNs', 'uid', 'gid', 'size', 'chunks'] },
    );
    const anyFolder = fc.record(
      { ...anyCommon, path: anyPath, type: fc.constant('folder' as const), ...anyExtras },
      { requiredKeys: ['path', 'type', 'mode', 'mtimeNs', 'uid', 'gid'] },
    );
    fc.assert(
      fc.property(fc.oneof(anyFile, anyFolder), (made) => {
        const entry = made as Entry;
        fc.pre(entry.type !== 'file' || comparePaths('!' as RawPath, entry.path) < 0);
        const line = entryLine(entry);
        expect(parseEntryLine(line)).toEqual(entry);
        if (entry.type === 'file') expect(chunksInLine(line, fileLineHead(entry))).toEqual(entry.chunks);
      }),
      { seed: 7, numRuns: 500 },
    );
  });

  test.each([
    undefined,
    [],
    { kind: 'pipe', major: 1, minor: 2 },
    { kind: 'block', major: 1 },
    { kind: 'block', major: -1, minor: 2 },
    { kind: 'character', major: '1', minor: 2 },
    { kind: 'character', major: 1, minor: 2 ** 32 },
  ])('of a device whose numbers are none is refused: %j', async (device) => {
    const of: Entry = { ...common, path: raw('a'), type: 'device', device: { kind: 'block', major: 1, minor: 2 } };
    expect(await read(textOf([root, of]))).toHaveLength(2);
    await failure(() => read(`${textOf([root])}${lineWith({ device }, of)}`), 'damaged');
  });

  test.each([
    { xattrs: [] },
    { xattrs: { a: 1 } },
    { xattrs: { '': '' } },
    { xattrs: { a: '*' } },
    { flags: 'immutable' },
    { flags: [1] },
    { holes: {} },
    { holes: [[0]] },
    { holes: [[0, 0]] },
    { holes: [[4, 2]] },
    {
      holes: [
        [0, 1],
        [1, 1],
      ],
    },
    {
      holes: [
        [2, 1],
        [0, 1],
      ],
    },
    { hardlink: '', path: '' },
    { hardlink: 'z' },
    { hardlink: '../a' },
    { hardlinkBase64: '' },
    { sqlite: {} },
    { sqlite: { rows: { a: -1 } } },
  ])('is refused with %j', async (fields) => {
    await failure(() => parseEntryLine(lineWith(fields).trimEnd()), 'damaged');
  });

  test('of a version to come keeps what is known of it', () => {
    const line = lineWith({ flags: ['immutable', 'quantum'], colour: 'red' }).trimEnd();
    expect(parseEntryLine(line)).toMatchObject({ flags: ['immutable'] });
    expect(parseEntryLine(line)).not.toHaveProperty('colour');
  });

  test('is written as docs and jq expect it', () => {
    expect(entryLine(file('a ü'))).toBe(
      `{"path":"a ü","type":"file","mode":"0644","mtime":"1700000000.123456789","uid":1000,"gid":1000,"size":5,"chunks":["${ID}"]}`,
    );
    expect(entryLine({ ...folder('d'), mtimeNs: -1n })).toBe(
      '{"path":"d","type":"folder","mode":"0755","mtime":"-0.000000001","uid":1000,"gid":1000}',
    );
    expect(entryLine({ ...common, type: 'symlink', path: '\xff' as RawPath, target: '\xfe' as RawPath })).toBe(
      '{"pathBase64":"/w==","type":"symlink","mode":"0644","mtime":"1700000000.123456789","uid":1000,"gid":1000,"targetBase64":"/g=="}',
    );
  });

  test.each([
    ['an absolute path', { path: '/etc/passwd' }],
    ['a path that climbs', { path: '../x' }],
    ['a path that climbs inside', { path: 'a/../../x' }],
    ['a path that ends by climbing', { path: 'a/..' }],
    ['a dot for a name', { path: './a' }],
    ['a dot inside', { path: 'a/./b' }],
    ['an empty name', { path: 'a//b' }],
    ['a slash at the end', { path: 'a/' }],
    ['only a slash', { path: '/' }],
    ['a NUL', { path: 'a\0b' }],
    ['a name of 256 bytes', { path: 'n'.repeat(256) }],
    ['a name of 256 bytes in fewer letters', { path: `${'ü'.repeat(128)}` }],
    ['a path of 4,097 bytes', { path: `${'n'.repeat(240)}/`.repeat(17) + 'n' }],
    ['no path', { path: undefined }],
    ['a path that is a number', { path: 7 }],
    ['a path in base64 that climbs', { path: undefined, pathBase64: Buffer.from('../x').toString('base64') }],
    ['a path in base64 that is absolute', { path: undefined, pathBase64: Buffer.from('/x').toString('base64') }],
    ['a path in base64 with a NUL', { path: undefined, pathBase64: Buffer.from('x\0').toString('base64') }],
    ['a path in no base64', { path: undefined, pathBase64: '*' }],
    ['a path in empty base64', { path: undefined, pathBase64: '' }],
    ['another type', { type: 'device' }],
    ['no type', { type: undefined }],
    ['a mode of five digits', { mode: '10644' }],
    ['a mode that is a number', { mode: 420 }],
    ['a mode in decimal', { mode: '0648' }],
    ['a time without nanoseconds', { mtime: '1700000000' }],
    ['a time that is a number', { mtime: 1_700_000_000 }],
    ['a time with too many digits', { mtime: `${'1'.repeat(20)}.000000000` }],
    ['a negative owner', { uid: -1 }],
    ['a broken group', { gid: 1.5 }],
    ['a negative size', { size: -5 }],
    ['a size beyond exact numbers', { size: 2 ** 53 }],
    ['no size', { size: undefined }],
    ['no chunks', { chunks: undefined }],
    ['a chunk that is none', { chunks: ['x'] }],
    ['a chunk in capitals', { chunks: ['AB'.repeat(32)] }],
    ['chunks that are an object', { chunks: {} }],
  ])('with %s is refused', async (_, fields) => {
    await failure(() => parseEntryLine(lineWith(fields).trimEnd()), 'damaged');
  });

  test.each([
    ['no target', { target: undefined }],
    ['an empty target', { target: '' }],
    ['a target with a NUL', { target: 'a\0' }],
    ['a target that is a number', { target: 1 }],
  ])('that is a link with %s is refused', async (_, fields) => {
    await failure(() => parseEntryLine(lineWith(fields, link('l')).trimEnd()), 'damaged');
  });

  test('changed anywhere is read as something else or refused as damaged, never otherwise', () => {
    const lines = [file('some/file'), folder('some'), link('some/link', '../x')].map(entryLine);
    fc.assert(
      fc.property(
        fc.constantFrom(...lines),
        fc.nat(300),
        fc.string({ unit: 'binary', maxLength: 3 }),
        fc.nat(3),
        (line, at, put, drop) => {
          try {
            const { path } = parseEntryLine(line.slice(0, at) + put + line.slice(at + drop));
            expect(path.split('/')).not.toContain('..');
            expect(path.startsWith('/')).toBe(false);
          } catch (error) {
            if (!isHoldfastError(error, 'damaged')) throw error;
          }
        },
      ),
      { seed: 8, numRuns: 3000 },
    );
    fc.assert(
      fc.property(fc.json(), (text) => {
        try {
          parseEntryLine(text);
        } catch (error) {
          if (!isHoldfastError(error, 'damaged')) throw error;
        }
      }),
      { seed: 9, numRuns: 500 },
    );
  });

  test('does not repeat a name raw: an error may be shown on a terminal', async () => {
    const error = await failure(() => parseEntryLine(lineWith({ path: '../\x1b[2J' }).trimEnd()), 'damaged');
    expect(error.message).not.toContain('\x1b');
  });
});

describe('a manifest', () => {
  test('comes back as it was, in whatever pieces', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(anyPath, { maxLength: 12 }),
        fc.integer({ min: 1, max: 200 }),
        async (paths, length) => {
          const all = new Map<RawPath, Entry>([[ROOT, root]]);
          for (const path of paths) {
            const names = path.split('/');
            for (let depth = 1; depth < names.length; depth++) {
              const above = names.slice(0, depth).join('/') as RawPath;
              all.set(above, { ...common, path: above, type: 'folder' });
            }
            if (!all.has(path)) all.set(path, { ...common, path, type: 'file', size: 0, chunks: [] });
          }
          const entries = [...all.values()].toSorted((a, b) => comparePaths(a.path, b.path));
          expect(await read(textOf(entries), length)).toEqual(entries);
        },
      ),
      { seed: 10, numRuns: 150 },
    );
  });

  test('is in the order of a walk: all that a folder holds comes at once after it', async () => {
    const entries = [
      root,
      folder('a'),
      file('a/b'),
      folder('a/c'),
      file('a/c/d'),
      file('a/e'),
      file('a!'),
      file('a-'),
      folder('b'),
    ];
    expect((await read(textOf(entries))).map(({ path }) => path)).toEqual(entries.map(({ path }) => path));
  });

  test.each<[string, Entry[]]>([
    ['nothing', []],
    ['no root', [file('a')]],
    ['a root that is a file', [file('')]],
    ['a root that is a link', [link('')]],
    ['two roots', [root, root]],
    ['a child of a link', [root, link('a', '/etc'), file('a/b')]],
    ['a child of a link, once a folder', [root, folder('a'), link('a/b', '/etc'), file('a/b/c')]],
    ['a child of a file', [root, file('a'), file('a/b')]],
    ['a child of nothing', [root, file('a/b')]],
    ['a grandchild of nothing', [root, folder('a'), file('a/b/c')]],
    ['a child of a folder that is over', [root, folder('a'), file('b'), file('a/b')]],
    ['a path twice', [root, file('a'), file('a')]],
    ['a folder and a link of one name', [root, folder('a'), link('a')]],
    ['paths out of order', [root, file('b'), file('a')]],
    ['whole paths sorted as texts', [root, folder('a'), file('a!'), file('a/b')]],
  ])('with %s is refused', async (_, entries) => {
    await failure(() => read(textOf(entries)), 'damaged');
  });

  test('gives the entries before a fault, and none after it', async () => {
    const seen: string[] = [];
    await failure(async () => {
      for await (const { path } of readEntries(inPieces(textOf([root, file('a'), file('c'), file('b'), file('d')]))))
        seen.push(path);
    }, 'damaged');
    expect(seen).toEqual(['', 'a', 'c']);
  });

  test.each([1, 20, 50])('with %i bytes cut off its last line is refused', async (missing) => {
    await failure(() => read(Buffer.from(textOf([root, file('a')])).subarray(0, -missing)), 'damaged');
  });

  test('with an empty line is refused', async () => {
    await failure(() => read(`${textOf([root])}\n`), 'damaged');
  });

  test('with a line of no end is refused before it fills the memory', async () => {
    let given = 0;
    async function* endless() {
      for (;;) {
        given += 1000;
        yield new Uint8Array(1000).fill(0x61);
      }
    }
    const splitter = new LineSplitter(50_000);
    await failure(async () => {
      for await (const piece of endless()) expect(splitter.push(piece)).toEqual([]);
    }, 'damaged');
    expect(given).toBeLessThanOrEqual(52_000);
  });

  test('of any bytes at all is read or refused, never otherwise', async () => {
    const good = Buffer.from(textOf([root, folder('a'), file('a/b'), link('a/c'), file('d')]));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        async (changes) => {
          const changed = Uint8Array.from(good);
          for (const [at, value] of changes) changed[at] = value;
          try {
            for (const { path } of await read(changed, 64)) expect(path.split('/')).not.toContain('..');
          } catch (error) {
            if (!isHoldfastError(error, 'damaged')) throw error;
          }
        },
      ),
      { seed: 11, numRuns: 600 },
    );
  });
});

describe('a line, without being parsed', () => {
  const anyFile = fc.record({
    path: fc.constantFrom('a', 'a/b', 'é', 'a"b', 'a\\b', '\xff', ' ').map((name) => name as RawPath),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    mtimeNs: fc.bigInt({ min: -(10n ** 19n), max: 10n ** 19n }),
    uid: fc.nat(),
    gid: fc.nat(),
    size: fc.nat(),
    chunks: fc.array(
      fc.nat().map((n) => n.toString(16).padStart(64, '0') as ChunkId),
      { maxLength: 4 },
    ),
  });

  test('shows the chunks, path and kind that parsing it shows', () => {
    fc.assert(
      fc.property(anyFile, (file) => {
        const line = entryLine({ type: 'file', ...file });
        expect(JSON.parse(line)).toMatchObject({ type: 'file', size: file.size });
        expect(chunksInLine(line, fileLineHead(file))).toEqual(file.chunks);
        expect(glanceAtLine(line)).toEqual({ path: file.path, isFile: true });
        expect(parseEntryLine(line)).toEqual({ type: 'file', ...file });
      }),
    );
  });

  test('shows no chunks when anything in the list of them is wrong', () => {
    fc.assert(
      fc.property(anyFile, fc.nat(), fc.string({ minLength: 1, maxLength: 1 }), (file, where, character) => {
        const [line, head] = [entryLine({ type: 'file', ...file }), fileLineHead(file)];
        const at = head.length + (where % (line.length - head.length));
        fc.pre(!/[0-9a-f]/.test(character) && line[at] !== character);
        expect(chunksInLine(line.slice(0, at) + character + line.slice(at + 1), head)).toBeUndefined();
        expect(chunksInLine(line.slice(0, at), head)).toBeUndefined();
      }),
    );
  });
});
