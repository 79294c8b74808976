import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { publicKeyOf } from '../../../src/crypto/ed25519.ts';
import { isKey } from '../../../src/backend/backend.ts';
import { sha256Hex } from '../../../src/crypto/hash.ts';
import { isHoldfastError } from '../../../src/errors.ts';
import {
  keysSchema,
  parseRecord,
  parseSignedRecord,
  REPOSITORY_TYPE,
  repositorySchema,
  secretsSchema,
  signRecord,
  annotationSchema,
  condemnedSchema,
  runSchema,
  snapshotSchema,
  timestamp,
  type RepositoryRecord,
} from '../../../src/repository/records/format.ts';
import {
  checkContentName,
  indexKey,
  keysRecordKey,
  packKey,
  parseKey,
  REPOSITORY_KEY,
  secretsKey,
  annotationKey,
  condemnedKey,
  runKey,
  snapshotKey,
  wrappedIdentityKey,
  type PackId,
  type AnnotationId,
  type CondemnedId,
  type RunId,
  type SnapshotId,
} from '../../../src/repository/records/object-name.ts';
import { failure } from '../../crypto/support.ts';

const anyId = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const ID = 'ab'.repeat(32);
const signerOf = (fill: number) => {
  const seed = new Uint8Array(32).fill(fill);
  return { seed, publicKey: publicKeyOf(seed) };
};
const agent = signerOf(1);
const recovery = signerOf(2);
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('the key of an object', () => {
  test('comes back as what it was made from, and is one that backends take', () => {
    fc.assert(
      fc.property(
        anyId,
        fc.nat(99_999_999),
        fc.date({ min: new Date('0000-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true }),
        (id, seq, time) => {
          const fingerprint = sha256Hex(Buffer.from(id, 'hex'));
          const cases: [string, ReturnType<typeof parseKey>][] = [
            [REPOSITORY_KEY, { kind: 'repository' }],
            [packKey(id as PackId), { kind: 'pack', id: id as PackId }],
            [indexKey(id), { kind: 'index', id }],
            [keysRecordKey(seq, id), { kind: 'keys', seq, id }],
            [secretsKey(id), { kind: 'secrets', id }],
            [wrappedIdentityKey(id), { kind: 'identity', fingerprint }],
            [snapshotKey(time.getTime(), id as SnapshotId), { kind: 'snapshot', id: id as SnapshotId }],
            [annotationKey(time.getTime(), id as AnnotationId), { kind: 'annotation', id: id as AnnotationId }],
            [runKey(time.getTime(), id as RunId), { kind: 'run', id: id as RunId }],
            [condemnedKey(time.getTime(), id as CondemnedId), { kind: 'condemned', id: id as CondemnedId }],
          ];
          for (const [key, name] of cases) {
            expect(parseKey(key), key).toEqual(name);
            expect(isKey(key), key).toBe(true);
          }
        },
      ),
      { seed: 12 },
    );
  });

  test('of snapshots sorts by time', () => {
    const keyAt = (text: string) => snapshotKey(Date.parse(text), ID as SnapshotId);
    expect(keyAt('2026-01-31T23:59:59.999Z')).toBe(`snapshots/20260131T235959Z-${ID}.age`);
    expect(keyAt('2026-01-31T23:59:59Z') < keyAt('2026-02-01T00:00:00Z')).toBe(true);
  });

  test.each([
    '',
    'holdfast.json.age',
    'x/holdfast.json',
    `packs/${ID}.tar.zst.age`,
    `packs/ac/${ID}.tar.zst.age`,
    `packs/ab/${ID}.age`,
    `packs/ab/${ID.slice(1)}.tar.zst.age`,
    `packs/ab/${ID.toUpperCase()}.tar.zst.age`,
    `packs/ab/20260131T235959Z-${ID}.tar.zst.age`,
    `index/ab/${ID}.age`,
    `index/00000001-${ID}.age`,
    `index/${ID}.json`,
    `index/${ID}.age.tmp`,
    `keys/${ID}.json`,
    `keys/0000001-${ID}.json`,
    `keys/00000001-${ID}.age`,
    `keys/20260131T235959Z-${ID}.json`,
    `identity/ab/${ID}.age`,
    `snapshots/${ID}.age`,
    `snapshots/00000001-${ID}.age`,
    `snapshots/20260131T235959Z-${ID}.json`,
    `condemned/${ID}.age`,
    `condemned/20260131T235959Z-${ID}.json`,
    `runs/ab/20260131T235959Z-${ID}.age`,
    `runs/00000001-${ID}.age`,
    `index/${ID}.age\n`,
  ])('%j names no object of version 1', (key) => {
    expect(parseKey(key)).toBeUndefined();
  });
});

const repositoryRecord: RepositoryRecord = {
  version: 1,
  critical: [],
  id: 'cd'.repeat(16),
  created: '2026-01-31T12:00:00.000Z',
  chunker: { algorithm: 'gear32', minBytes: 16_384, averageBytes: 65_536, maxBytes: 262_144 },
  agent: hexOf(agent.publicKey),
  recovery: hexOf(recovery.publicKey),
};
const keysRecord = {
  version: 1,
  critical: [],
  repository: 'cd'.repeat(16),
  seq: 0,
  previous: null,
  created: '2026-01-31T12:00:00.000Z',
  agent: { handle: 'ada', publicKey: ID, origin: 'derived' },
  recovery: ID,
  recipients: { restore: ['age1x'], writer: ['age1y'] },
  secrets: ID,
  identity: ID,
};
const secretsRecord = {
  version: 1,
  critical: [],
  repository: 'cd'.repeat(16),
  chunkIdKey: ID,
  writer: 'AGE-SECRET-KEY-1X',
};
const snapshotRecord = {
  version: 1,
  critical: [],
  repository: 'cd'.repeat(16),
  agent: { handle: 'ada', publicKey: ID },
  seq: 3,
  parent: ID,
  time: '2026-01-31T12:00:00.000Z',
  host: 'h',
  sources: [{ root: '/x' }],
  manifest: { chunks: [ID], bytes: 10, entries: 1 },
  counts: { files: 0, folders: 1, symlinks: 0, bytes: 0 },
  tags: [],
  tool: 'holdfast/1',
  config: '',
};
const annotationRecord = {
  version: 1,
  critical: [],
  repository: 'cd'.repeat(16),
  agent: { handle: 'ada', publicKey: ID },
  snapshot: ID,
  time: '2026-01-31T12:00:00.000Z',
  host: 'h',
};
const { snapshot: _, ...said } = annotationRecord;
const runRecord = { ...said, kind: 'write', after: [ID], nonce: 'cd'.repeat(16) };
const condemnedRecord = {
  ...said,
  packs: [ID],
  snapshots: [{ key: `snapshots/20260131T235959Z-${ID}.age`, object: 'aGk=' }],
};
const RECORDS = [
  ['repository', repositorySchema, repositoryRecord],
  ['keys', keysSchema, keysRecord],
  ['secrets', secretsSchema, secretsRecord],
  ['snapshot', snapshotSchema, snapshotRecord],
  ['annotation', annotationSchema, annotationRecord],
  ['run', runSchema, runRecord],
  ['condemned', condemnedSchema, condemnedRecord],
] as const;
const bytesOf = (value: unknown) => Buffer.from(JSON.stringify(value));

describe.each(RECORDS)('a record: %s', (_, schema, record) => {
  const parse = (value: unknown) => parseRecord(bytesOf(value), schema as typeof repositorySchema, 'it');

  test('comes back as it was', () => {
    expect(parse(record)).toEqual(record);
  });

  test('may say more than is known', () => {
    expect(parse({ ...record, comment: 'from a later holdfast' })).toEqual(record);
  });

  test('of a newer version is refused as such, whatever else it holds', async () => {
    for (const value of [
      { ...record, version: 2 },
      { version: 99, everything: 'else' },
    ]) {
      const error = await failure(() => parse(value), 'unsupported_format');
      expect(error.message).toContain(`version ${value.version}`);
      expect(error.hint).toBeDefined();
    }
  });

  test('that needs something unknown is refused, however much it needs', async () => {
    for (const critical of [['sparse'], Array.from({ length: 101 }, (_unused, i) => `feature ${i}`)]) {
      const error = await failure(() => parse({ ...record, critical }), 'unsupported_format');
      expect(error.message.length).toBeLessThan(1000);
    }
  });

  test('without a version, or with one that is none, is refused', async () => {
    for (const version of [undefined, '1', 0, -1, 1.5, null])
      await failure(() => parse({ ...record, version }), 'damaged');
    for (const value of [null, [], 'text', 7]) await failure(() => parse(value), 'damaged');
  });

  test('that lacks any of its fields is refused', async () => {
    for (const field of Object.keys(record)) {
      const { [field as keyof typeof record]: _dropped, ...rest } = record;
      await failure(() => parse(rest), 'damaged');
      await failure(() => parse({ ...record, [field]: { unexpected: true } }), 'damaged');
    }
  });

  test('of bytes that are no JSON is refused', async () => {
    for (const bytes of [Buffer.from(''), Buffer.from('{'), Buffer.from([0xff, 0xfe]), Buffer.from('{"version":1')])
      await failure(() => parseRecord(bytes, schema as typeof repositorySchema, 'it'), 'damaged');
  });
});

describe('a signed record', () => {
  const signed = signRecord(repositoryRecord, REPOSITORY_TYPE, [agent, recovery]);
  const parse = (bytes: Uint8Array, type = REPOSITORY_TYPE) => parseSignedRecord(bytes, type, repositorySchema, 'it');
  /** True when the record would be believed: its form is right and both have signed it. */
  const believed = (bytes: Uint8Array) => {
    try {
      const { record, signedBy } = parse(bytes);
      return signedBy(record.agent) && signedBy(record.recovery);
    } catch (error) {
      if (isHoldfastError(error, 'damaged', 'unsupported_format')) return false;
      throw error;
    }
  };

  test('nested deeper than can be written again is damaged', async () => {
    const member = `"unknown":${'['.repeat(100_000)}${']'.repeat(100_000)},"signatures":`;
    const deep = Buffer.from(Buffer.from(signed).toString('utf8').replace('"signatures":', member));
    await failure(() => parse(deep), 'damaged');
  });

  test('comes back with its signers', () => {
    const { record, signedBy } = parse(signed);
    expect(record).toEqual(repositoryRecord);
    expect(signedBy(hexOf(agent.publicKey))).toBe(true);
    expect(signedBy(hexOf(recovery.publicKey))).toBe(true);
    expect(signedBy(hexOf(signerOf(3).publicKey))).toBe(false);
    expect(signedBy('')).toBe(false);
    expect(believed(signed)).toBe(true);
  });

  test('is one line that people can read', () => {
    expect(signed.toString().endsWith(']}\n')).toBe(true);
    expect(signed.toString().split('\n')).toHaveLength(2);
  });

  test('is not believed with any one byte changed', () => {
    for (let at = 0; at < signed.length; at++) {
      for (const bit of [1, 8, 32]) {
        const changed = Uint8Array.from(signed);
        changed[at] = (changed[at] ?? 0) ^ bit;
        if (believed(changed))
          expect.fail(`byte ${at} (${JSON.stringify(String.fromCharCode(signed[at] ?? 0))}) xor ${bit}`);
      }
    }
  });

  test('is not believed with bytes put in, taken out or replaced', () => {
    fc.assert(
      fc.property(fc.nat(signed.length), fc.nat(20), fc.uint8Array({ maxLength: 20 }), (at, drop, put) => {
        const changed = Buffer.concat([signed.subarray(0, at), put, signed.subarray(at + drop)]);
        if (!changed.equals(signed)) expect(believed(changed)).toBe(false);
      }),
      { seed: 13, numRuns: 1000 },
    );
  });

  const text = signed.toString();
  const value = JSON.parse(text) as Record<string, unknown> & { signatures: { key: string; signature: string }[] };
  const { signatures, ...unsigned } = value;
  const line = (of: unknown) => `${JSON.stringify(of)}\n`;
  test.each([
    ['another order of its fields', line({ id: value['id'], ...unsigned, signatures })],
    ['its signatures first', line({ signatures, ...unsigned })],
    ['white space', `${JSON.stringify(value, null, 1)}\n`],
    ['a space at the end', `${text.trimEnd()} \n`],
    ['no line feed', text.trimEnd()],
    ['two line feeds', `${text}\n`],
    ['a byte order mark', `\ufeff${text}`],
    ['escapes for letters', text.replace('gear32', 'ge\\u0061r32')],
    ['a field twice', text.replace('{"version":1', '{"version":1,"version":1')],
    ['a number spelt otherwise', text.replace('16384', '16384.0')],
    ['a field more, unsigned', line({ ...unsigned, comment: 'x', signatures })],
    ['a field more in a signature', line({ ...unsigned, signatures: signatures.map((one) => ({ ...one, note: 1 })) })],
    ['no signatures', line({ ...unsigned, signatures: [] })],
    ['signatures that are no list', line({ ...unsigned, signatures: {} })],
    ['one signature only', line({ ...unsigned, signatures: signatures.slice(0, 1) })],
    [
      "its signatures under each other's keys",
      line({
        ...unsigned,
        signatures: signatures.map(({ signature }, i) => ({ key: signatures[1 - i]?.key, signature })),
      }),
    ],
    [
      'more signatures than there can be',
      line({ ...unsigned, signatures: Array.from({ length: 17 }, () => signatures[0]) }),
    ],
    ['a prototype for a field', line({ ...unsigned, signatures }).replace('{', '{"__proto__":{"x":1},')],
  ])('with %s is not believed', (_, changed) => {
    expect(believed(Buffer.from(changed))).toBe(false);
  });

  test('is signed for its type: one cannot stand in for another', () => {
    const { signedBy } = parse(signed, 'application/vnd.holdfast.keys.v1+json');
    expect(signedBy(hexOf(agent.publicKey))).toBe(false);
  });
});

test('a name that is not the hash of the bytes is damage', async () => {
  const bytes = Buffer.from('x');
  checkContentName(bytes, sha256Hex(bytes), 'it');
  await failure(() => checkContentName(Buffer.from('y'), sha256Hex(bytes), 'it'), 'damaged');
});

test('a timestamp is RFC 3339 with milliseconds', () => {
  expect(timestamp(0)).toBe('1970-01-01T00:00:00.000Z');
  expect(() => timestamp(8.64e15)).toThrow('four digits');
});
