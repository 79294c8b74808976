/** docs/format.md cannot drift from the code: its test vectors are read out of the page and compared with what the code makes. */
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { AGE_HEADER_MAX_BYTES, ageRecipientOf, newAgeIdentity, openAge } from '../../src/crypto/age.ts';
import { chunkIdFunction, gearTable } from '../../src/crypto/chunk-id.ts';
import { pae, parseEnvelope, signedBy, signEnvelope } from '../../src/crypto/dsse.ts';
import { hex, hkdf, sha256, sha256Hex, unhex } from '../../src/crypto/hash.ts';
import { rowCheck, wordsOf } from '../../src/crypto/words.ts';
import { drillResultSchema } from '../../src/drill/history.ts';
import type { Entry } from '../../src/entry.ts';
import { fingerprint } from '../../src/identity/agent-key.ts';
import { formatCode } from '../../src/identity/paper-code.ts';
import { formatRecoveryKey, parseRecoveryKey, recoveryKeyOfGeneration } from '../../src/identity/recovery-key.ts';
import {
  agentKey,
  parseWordsText,
  recoveryCommitmentOf,
  recoveryKey,
  restoreIdentity,
  type Root,
} from '../../src/identity/root.ts';
import { formatWriterKey, parseWriterKey } from '../../src/identity/writer-key.ts';
import * as limits from '../../src/limits.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { Mirror } from '../../src/backend/mirror.ts';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { comparePaths, rawFromText } from '../../src/raw-path.ts';
import { ChunkStream, DEFAULT_CHUNKER, makeCut } from '../../src/repository/packs/chunker.ts';
import {
  KEYS_TYPE,
  keysSchema,
  parseRecord,
  parseSignedRecord,
  REPOSITORY_TYPE,
  repositorySchema,
  secretsSchema,
  signRecord,
  SNAPSHOT_PAYLOAD_TYPE,
  annotationSchema,
  condemnedSchema,
  runSchema,
  VERIFIED_PAYLOAD_TYPE,
  DRILL_RECORD_TYPE,
  drillSchema,
  verifiedSchema,
  snapshotSchema,
} from '../../src/repository/records/format.ts';
import {
  indexKey,
  keysRecordKey,
  packKey,
  parseKey,
  REPOSITORY_KEY,
  secretsKey,
  annotationKey,
  condemnedKey,
  runKey,
  verifiedKey,
  drillKey,
  snapshotKey,
  wrappedIdentityKey,
  type PackId,
  type AnnotationId,
  type CondemnedId,
  type RunId,
  type VerifiedId,
  type DrillId,
  type SnapshotId,
} from '../../src/repository/records/object-name.ts';
import { CONTEST_MS, firstEntry, nextEntry, type KeyLog } from '../../src/repository/keys/key-log.ts';
import { openIndex, sealIndex } from '../../src/repository/packs/index-object.ts';
import { entryLine, parseEntryLine, readEntries } from '../../src/repository/records/manifest.ts';
import { lostRecord } from '../../src/repository/records/known-loss.ts';
import { packPrefixes } from '../../src/repository/records/prefixes.ts';
import { placeOf } from '../../src/operations/host/verified-memory.ts';
import { parseIndexLine } from '../../src/repository/packs/pack-index.ts';
import { createRepository, openRepository } from '../../src/repository/repository.ts';
import { seededRandom } from '../crypto/support.ts';

const page = readFileSync(new URL('../../docs/format.md', import.meta.url), 'utf8');
const blocks = new Map(
  [...page.matchAll(/^```(?:json|text) test-vector=(\S+)\n(.*?)\n```$/gms)].map(([, name = '', body = '']) => [
    name,
    body,
  ]),
);
const used = new Set<string>();

function block(name: string): string {
  const body = blocks.get(name);
  if (body === undefined) throw new Error(`docs/format.md has no block test-vector=${name}`);
  used.add(name);
  return body;
}

const vector = <T>(name: string): T => JSON.parse(block(name)) as T;

interface Derivations {
  root: string;
  words: string;
  restore: {
    secret: string;
    x25519: { identity: string; recipient: string };
    hybrid: { identity: string; recipientSha256: string };
  };
  keys: { label: string; seed: string; publicKey: string; sshFingerprint: string; object?: string }[];
}

interface ChunkIds {
  chunkIdKey: string;
  chunks: { text: string; id: string }[];
  indexMacKey: string;
}

const derivations = vector<Derivations>('derivations');
const root = unhex(derivations.root) as Root;
const chunkIds = vector<ChunkIds>('chunk-ids');
const chunkIdKey = unhex(chunkIds.chunkIdKey);
const idOf = chunkIdFunction(chunkIdKey);
const agent = agentKey(root, 0);
const recovery = recoveryKey(root, 0);
const random = seededRandom('format');

describe('the vectors of docs/format.md', () => {
  it('keys: root, words and all that derives from them', async () => {
    expect(wordsOf(root).join(' ')).toBe(derivations.words);
    expect(hex(parseWordsText(derivations.words))).toBe(derivations.root);
    const { restore } = derivations;
    expect(hex(hkdf(root, 'restore'))).toBe(restore.secret);
    expect(restoreIdentity(root, 'x25519')).toBe(restore.x25519.identity);
    expect(await ageRecipientOf(restore.x25519.identity)).toBe(restore.x25519.recipient);
    expect(restoreIdentity(root, 'hybrid')).toBe(restore.hybrid.identity);
    const hybrid = await ageRecipientOf(restore.hybrid.identity);
    expect(sha256Hex(Buffer.from(hybrid))).toBe(restore.hybrid.recipientSha256);
    expect(page).toContain(`The hybrid recipient has ${hybrid.length.toLocaleString('en')} characters`);
    expect(derivations.keys).toHaveLength(3);
    for (const { label, seed, publicKey, sshFingerprint, object } of derivations.keys) {
      const [kind, generation] = label.split('/');
      const key = (kind === 'identity' ? agentKey : recoveryKey)(root, Number(generation));
      expect([hex(key.seed), hex(key.publicKey), fingerprint(key.publicKey)]).toEqual([
        seed,
        publicKey,
        sshFingerprint,
      ]);
      if (object !== undefined) expect(wrappedIdentityKey(publicKey)).toBe(object);
    }
  });

  it('signatures: the pre-authentication encoding', () => {
    const { type, body, pae: expected } = vector<{ type: string; body: string; pae: string }>('pae');
    expect(Buffer.from(pae(type, Buffer.from(body))).toString()).toBe(expected);
  });

  it.each([
    ['repository', REPOSITORY_TYPE, repositorySchema],
    ['keys', KEYS_TYPE, keysSchema],
  ] as const)('records: %s, which verifies and is what the code writes', (name, type, schema) => {
    expect(page).toContain(type);
    const bytes = Buffer.from(`${block(name)}\n`);
    const { record, signedBy: isSignedBy } = parseSignedRecord<object>(bytes, type, schema, name);
    expect([hex(agent.publicKey), hex(recovery.publicKey)].map(isSignedBy)).toEqual([true, true]);
    expect(Buffer.from(signRecord(record, type, [agent, recovery])).toString()).toBe(bytes.toString());
  });

  it('records: the second of an identity log, which may follow the first', () => {
    const entryOf = (name: string, log?: KeyLog) => {
      const bytes = Buffer.from(`${block(name)}\n`);
      const { record, signedBy: isSignedBy } = parseSignedRecord(bytes, KEYS_TYPE, keysSchema, name);
      const id = sha256Hex(bytes);
      const { repository: of } = record;
      const keys = { id: of, agent: hex(agent.publicKey), recovery: hex(recovery.publicKey) };
      return log
        ? nextEntry(log, id, record, isSignedBy, { nowMs: Date.parse(record.created), witnesses: [] })
        : firstEntry(id, record, isSignedBy, keys);
    };
    const first = entryOf('keys');
    const second = entryOf('keys-rotate', [first]);
    const next = agentKey(root, 1).publicKey;
    expect(first.record).toMatchObject({ next: sha256Hex(next), nextRecovery: recoveryCommitmentOf(root, 1) });
    expect(second.record.agent.publicKey).toBe(hex(next));
    const signed = signRecord(second.record, KEYS_TYPE, [agent, agentKey(root, 1)]);
    expect(Buffer.from(signed).toString()).toBe(`${block('keys-rotate')}\n`);
    expect(page).toContain(`${CONTEST_MS / 3_600_000} hours after its`);
  });

  it('words: the checks of rows, and the text of a QR code', () => {
    const words = derivations.words.split(' ');
    const checks = [1, 2, 3, 4, 5, 6].map((row) => rowCheck(row, words.slice(4 * row - 4, 4 * row)));
    expect(vector('row-checks')).toEqual(checks);
    expect(formatCode({ type: 'words', body: derivations.words }, 1000)).toEqual([block('paper-code')]);
  });

  it('the recovery key file', () => {
    const text = block('recovery-key');
    const parsed = parseRecoveryKey(text);
    expect(parsed).toEqual(recoveryKeyOfGeneration(root, 0, parsed.repositoryId));
    const lines = formatRecoveryKey(parsed).split('\n');
    expect(lines.filter((line) => line !== '' && !line.startsWith('#')).join('\n')).toBe(text);
  });

  it('records: the secrets object', () => {
    const secrets = parseRecord(Buffer.from(block('secrets')), secretsSchema, 'secrets');
    expect(JSON.stringify(secrets)).toBe(block('secrets'));
    expect(secrets.chunkIdKey).toBe(chunkIds.chunkIdKey);
  });

  it('records: the snapshot and its envelope', () => {
    const payload = Buffer.from(block('snapshot'));
    expect(JSON.stringify(parseRecord(payload, snapshotSchema, 'snapshot'))).toBe(block('snapshot'));
    const bytes = Buffer.from(`${block('envelope')}\n`);
    const envelope = parseEnvelope(bytes, SNAPSHOT_PAYLOAD_TYPE);
    expect(Buffer.compare(envelope.payload, payload)).toBe(0);
    expect(signedBy(envelope, agent.publicKey)).toBe(true);
    expect(Buffer.from(signEnvelope(SNAPSHOT_PAYLOAD_TYPE, payload, [agent])).toString()).toBe(bytes.toString());
  });

  it('records: the annotation', () => {
    const payload = Buffer.from(block('annotation'));
    const record = parseRecord(payload, annotationSchema, 'annotation');
    expect(JSON.stringify(record)).toBe(block('annotation'));
    const mark = parseRecord(Buffer.from(block('forgotten')), annotationSchema, 'annotation');
    expect(JSON.stringify(mark)).toBe(block('forgotten'));
    expect(record.snapshot).toBe(sha256Hex(Buffer.from(block('snapshot'))));
  });

  it('records: the run and the condemned record', () => {
    const run = parseRecord(Buffer.from(block('run')), runSchema, 'run');
    expect(JSON.stringify(run)).toBe(block('run'));
    const condemned = parseRecord(Buffer.from(block('condemned')), condemnedSchema, 'condemned');
    expect(JSON.stringify(condemned)).toBe(block('condemned'));
    expect(condemned.snapshots.map(({ key }) => key)).toEqual([vector<Record<string, string>>('names')['snapshot']]);
  });

  it('records: what was given up, and what was verified', () => {
    const lost = parseRecord(Buffer.from(block('annotation-lost')), annotationSchema, 'annotation');
    expect(JSON.stringify(lost)).toBe(block('annotation-lost'));
    expect(lost.lost).toEqual(lostRecord({ whole: false, files: 1, bytes: 8 }, [idOf(Buffer.from('holdfast'))]));
    const verified = parseRecord(Buffer.from(block('verified')), verifiedSchema, 'verified');
    expect(JSON.stringify(verified)).toBe(block('verified'));
    expect(verified.backends.map(({ place }) => place)).toEqual(
      verified.backends.map(({ name }) => placeOf({ url: `file:///mnt/${name}` })),
    );
    const packs = parseIndexLine(block('index').split('\n')[1] ?? '');
    expect(verified.covered.map((one) => one.packs)).toEqual([packPrefixes([packs.id])]);
    expect(page).toContain(VERIFIED_PAYLOAD_TYPE);
  });

  it('records: what a drill told', () => {
    const drill = parseRecord(Buffer.from(block('drill')), drillSchema, 'drill');
    expect(JSON.stringify(drill)).toBe(block('drill'));
    expect(drillResultSchema.parse(drill.result)).toEqual(drill.result);
    expect(page).toContain(DRILL_RECORD_TYPE);
  });

  it('names of objects', () => {
    const names = vector<Record<string, string>>('names');
    const standIn = sha256Hex(Buffer.from('the secrets object as stored'));
    const payload = Buffer.from(block('snapshot'));
    const { time } = parseRecord(payload, snapshotSchema, 'snapshot');
    expect(names).toEqual({
      repository: REPOSITORY_KEY,
      keys: keysRecordKey(0, sha256Hex(Buffer.from(`${block('keys')}\n`))),
      secrets: secretsKey(standIn),
      identity: wrappedIdentityKey(hex(agent.publicKey)),
      pack: packKey(standIn as PackId),
      index: indexKey(standIn),
      snapshot: snapshotKey(Date.parse(time), sha256Hex(payload) as SnapshotId),
      annotation: annotationKey(
        Date.parse('2026-02-01T08:00:00.000Z'),
        sha256Hex(Buffer.from(block('annotation'))) as AnnotationId,
      ),
      run: runKey(Date.parse('2026-02-01T08:30:00.000Z'), sha256Hex(Buffer.from(block('run'))) as RunId),
      condemned: condemnedKey(
        Date.parse('2026-02-01T09:00:00.000Z'),
        sha256Hex(Buffer.from(block('condemned'))) as CondemnedId,
      ),
      verified: verifiedKey(
        Date.parse('2026-02-01T10:00:00.000Z'),
        sha256Hex(Buffer.from(block('verified'))) as VerifiedId,
      ),
      drill: drillKey(Date.parse('2026-02-01T11:00:00.000Z'), sha256Hex(Buffer.from(block('drill'))) as DrillId),
    });
    for (const [kind, name] of Object.entries(names)) expect(parseKey(name)?.kind).toBe(kind);
  });

  it('chunk ids', () => {
    expect(chunkIds.chunks.length).toBeGreaterThan(0);
    for (const { text, id } of chunkIds.chunks) expect(idOf(Buffer.from(text))).toBe(id);
    expect(hex(hkdf(chunkIdKey, 'index'))).toBe(chunkIds.indexMacKey);
  });

  it('where to cut', () => {
    interface Stream {
      of: string;
      bytes: number;
      sha256?: string;
      min: number;
      average: number;
      max: number;
      lengths: number[];
      firstId?: string;
    }
    const cuts = vector<{ gear: { first: number[]; last: number; sha256: string }; streams: Stream[] }>('cuts');
    const gear = gearTable(chunkIdKey);
    expect([[...gear.subarray(0, 4)], gear[255]]).toEqual([cuts.gear.first, cuts.gear.last]);
    expect(sha256Hex(new Uint8Array(gear.buffer))).toBe(cuts.gear.sha256);
    expect(cuts.streams).toHaveLength(3);
    for (const { of, bytes, sha256: hash, min, average, max, lengths, firstId } of cuts.streams) {
      const stream = of === 'zeros' ? new Uint8Array(bytes) : counterStream(bytes);
      if (hash !== undefined) expect(sha256Hex(stream)).toBe(hash);
      const parameters = { algorithm: 'gear32', minBytes: min, averageBytes: average, maxBytes: max } as const;
      const found: Uint8Array[] = [];
      const chunker = new ChunkStream(makeCut(gear, parameters), parameters, (chunk) => found.push(chunk.slice()));
      chunker.push(stream);
      chunker.end();
      expect(found.map((chunk) => chunk.length)).toEqual(lengths);
      expect(ruleOfThePage(gear, stream, min, average, max)).toEqual(lengths);
      if (firstId !== undefined) expect(idOf(found[0] ?? new Uint8Array())).toBe(firstId);
    }
    const { minBytes, averageBytes, maxBytes } = DEFAULT_CHUNKER;
    expect(page).toContain(
      `a new repository gets ${english(minBytes)}, ${english(averageBytes)} and ${english(maxBytes)}`,
    );
  });

  it('packs: the header of a member, in a frame with the end of the archive', async () => {
    const content = Buffer.from('holdfast');
    const tar = await tarOfOneChunk(content);
    const expected = new Uint8Array(512 + 512 + 1024);
    for (const row of block('tar-header').split('\n')) {
      const [, offset = '', bytes = ''] = /^([0-9a-f]{3})  ((?:[0-9a-f]{2} ?){16})/.exec(row) ?? [];
      expected.set(unhex(bytes.replaceAll(' ', '')), Number.parseInt(offset, 16));
    }
    expected.set(content, 512);
    expect(hex(tar)).toBe(hex(expected));
  });

  it('indexes: the plaintext with its MAC', async () => {
    const lines = block('index').split('\n');
    const pack = parseIndexLine(lines[1] ?? '');
    const { repository } = parseRecord(Buffer.from(block('snapshot')), snapshotSchema, 'snapshot');
    const identity = await newAgeIdentity(random);
    const context = { repository, chunkIdKey };
    const bytes = await sealIndex([pack], { ...context, recipients: [await ageRecipientOf(identity)], random });
    const plain = await promisify(zstdDecompress)(await openAge(bytes, [identity]));
    expect(plain.toString()).toBe(`${block('index')}\n`);
    expect(await openIndex(bytes, sha256Hex(bytes), { ...context, identities: [identity] })).toEqual([pack]);
  });

  it('manifests: every type of entry, in order', async () => {
    const text = `${block('manifest')}\n`;
    const entries: Entry[] = [];
    for await (const entry of readEntries(pieces(text))) entries.push(entry);
    expect(entries.map(entryLine).join('\n')).toBe(block('manifest'));
    expect(new Set(entries.map(({ type }) => type))).toEqual(new Set(['file', 'folder', 'symlink']));
    expect(parseEntryLine(block('manifest').split('\n')[1] ?? '').path).toBe('caf\xe9');
    const ordered = /^\*\*Order\*\*.*?: ((?:`[^`]+`(?:, )?)+)/m.exec(page)?.[1]?.replaceAll('`', '').split(', ') ?? [];
    expect(ordered.length).toBeGreaterThan(4);
    expect(ordered.map(rawFromText).toSorted(comparePaths)).toEqual(ordered);
  });

  it('the writer key file', () => {
    const lines = formatWriterKey(parseWriterKey(block('writer-key'))).split('\n');
    expect(lines.filter((line) => line !== '' && !line.startsWith('#')).join('\n')).toBe(block('writer-key'));
  });

  it('the table of limits', () => {
    const MiB = 1024 * 1024;
    expect(limits).toMatchObject({
      CHUNK_MAX_BYTES: 524_288,
      FRAME_TAR_TARGET_BYTES: 1 * MiB,
      FRAME_TAR_MAX_BYTES: 2 * MiB,
      PACK_TAR_MAX_BYTES: 15 * MiB,
      PACK_STORED_MAX_BYTES: 16 * MiB,
      INDEX_STORED_MAX_BYTES: 64 * MiB,
      INDEX_PLAIN_MAX_BYTES: 256 * MiB,
      RECORD_MAX_BYTES: 16 * MiB,
      MANIFEST_LINE_MAX_BYTES: 256 * MiB,
      FILE_MAX_CHUNKS: 3_500_000,
      PATH_MAX_BYTES: 4096,
      NAME_MAX_BYTES: 255,
    });
    expect(AGE_HEADER_MAX_BYTES).toBe(256 * 1024);
    const rows = page.slice(page.indexOf('## 14. Limits')).matchAll(/^\| (.+?) +\| (.+?) +\|$/gm);
    const table = new Map([...rows].map(([, what = '', most = '']) => [what, most]));
    expect(Object.fromEntries(table)).toMatchObject({
      chunk: '524,288 bytes (256 KiB with the usual parameters)',
      'frame, decompressed': '2 MiB',
      'pack, its tar': '15 MiB',
      'pack, stored': '16 MiB',
      'index, stored · decompressed': '64 MiB · 256 MiB',
      'record, envelope': '16 MiB',
      'line of a manifest': '256 MiB',
      'chunks of one file': '3,500,000',
      'path · name': '4,096 · 255 bytes',
      'age header': '256 KiB',
    });
  });

  it('leaves no vector of the page untested', () => {
    expect([...blocks.keys()].filter((name) => !used.has(name))).toEqual([]);
    expect(page.match(/test-vector=/g)).toHaveLength(blocks.size);
  });
});

/** SHA-256 of a label and a counter, as section 7 has it. */
function counterStream(bytes: number): Uint8Array {
  const parts = Array.from({ length: Math.ceil(bytes / 32) }, (_, i) => {
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(BigInt(i));
    return sha256(Buffer.from('holdfast chunker vector'), counter);
  });
  return Buffer.concat(parts).subarray(0, bytes);
}

/** The pseudo-code of section 7, word by word. */
function ruleOfThePage(gear: Uint32Array, stream: Uint8Array, min: number, average: number, max: number): number[] {
  const k = Math.log2(average);
  const strict = (2 ** (k + 2) - 1) * 2 ** (31 - (k + 2));
  const eager = (2 ** (k - 2) - 1) * 2 ** (31 - (k - 2));
  const lengthOfFirst = (b: Uint8Array): number => {
    if (b.length <= min) return b.length;
    let h = 0;
    for (let i = min; i < Math.min(b.length, max); i++) {
      h = (2 * h + (gear[b[i] ?? 0] ?? 0)) % 2 ** 32;
      const mask = i < average ? strict : eager;
      if ((h & mask) === 0) return i + 1;
    }
    return Math.min(b.length, max);
  };
  const lengths: number[] = [];
  for (let at = 0; at < stream.length; at += lengths.at(-1) ?? 0) lengths.push(lengthOfFirst(stream.subarray(at)));
  return lengths;
}

/** The plaintext of the pack that a repository with the chunk-id key of the vectors makes of one chunk. */
async function tarOfOneChunk(content: Uint8Array): Promise<Uint8Array> {
  const [restore, host] = await Promise.all([newAgeIdentity(random), newAgeIdentity(random)]);
  const backend = createMemory('memory');
  const mirror = new Mirror([{ name: 'memory', backend }]);
  await createRepository(mirror, {
    id: hex(random.bytes(16)),
    chunkIdKey,
    handle: 'vectors',
    agent,
    origin: 'derived',
    recovery,
    next: agent.publicKey,
    nextRecovery: '0'.repeat(64),
    restoreRecipients: [await ageRecipientOf(restore)],
    writer: { identity: host, recipient: await ageRecipientOf(host) },
    agentKeyFile: Buffer.from('none'),
    clock: systemClock,
    random,
  });
  const repository = await openRepository(mirror, { kind: 'restore', identities: [restore] }, { clock: systemClock });
  const { index } = await repository.loadIndex();
  const writer = repository.writer(index, { clock: systemClock, random: systemRandom });
  writer.add(content, 'data');
  await writer.flush();
  const packs: string[] = [];
  for await (const { key } of backend.list('packs/')) packs.push(key);
  return promisify(zstdDecompress)(await openAge(await backend.get(packs[0] ?? ''), [restore]));
}

function english(value: number): string {
  return value.toLocaleString('en');
}

async function* pieces(text: string): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(Buffer.from(text));
}
