/**
 * The names and records of a repository, version 1. docs/format.md is the specification; the identifiers here are its nouns.
 */
import { z } from 'zod';
import { assert, HoldfastError, isHoldfastError, messageOf } from '../errors.ts';
import type { ChunkId } from '../entry.ts';
import { sha256Hex } from '../crypto/hash.ts';
import { pae } from '../crypto/dsse.ts';
import { sign, verify } from '../crypto/ed25519.ts';
import { RECORD_MAX_BYTES } from '../limits.ts';

export const FORMAT_VERSION = 1;

declare const brand: unique symbol;
/** SHA-256 of a pack as stored, 64 hex digits. */
export type PackId = string & { readonly [brand]: 'PackId' };
/** SHA-256 of the snapshot record (the payload of its envelope), 64 hex digits. */
export type SnapshotId = string & { readonly [brand]: 'SnapshotId' };

// ---- object keys ----

export const REPOSITORY_KEY = 'holdfast.json';
export const packKey = (id: PackId): string => `packs/${id.slice(0, 2)}/${id}.tar.zst.age`;
export const indexKey = (id: string): string => `index/${id}.age`;
export const keysRecordKey = (seq: number, id: string): string => `keys/${String(seq).padStart(8, '0')}-${id}.json`;
export const secretsKey = (id: string): string => `keys/${id}.age`;
/** The fingerprint is the SHA-256 of the raw public key, 64 hex digits. */
export const wrappedIdentityKey = (publicKeyHex: string): string =>
  `identity/${sha256Hex(Buffer.from(publicKeyHex, 'hex'))}.age`;
export const snapshotKey = (timeMs: number, id: SnapshotId): string => `snapshots/${stampOf(timeMs)}-${id}.age`;

/** `20260131T235959Z`: sorts by time. */
function stampOf(timeMs: number): string {
  return new Date(timeMs).toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '');
}

/** The time in the key of a snapshot object, for comparison. Nothing vouches for it before the snapshot is opened. */
export const stampIn = (key: string): string => key.slice('snapshots/'.length, 'snapshots/20260131T235959Z'.length);

/** What kind of object a key names, with the id in its name; undefined for a name that no version 1 repository has. */
export type ObjectName =
  | { kind: 'repository' }
  | { kind: 'keys'; seq: number; id: string }
  | { kind: 'secrets'; id: string }
  | { kind: 'identity'; fingerprint: string }
  | { kind: 'pack'; id: PackId }
  | { kind: 'index'; id: string }
  | { kind: 'snapshot'; id: SnapshotId };

export function parseKey(key: string): ObjectName | undefined {
  if (key === REPOSITORY_KEY) return { kind: 'repository' };
  const match =
    /^(keys|identity|packs|index|snapshots)\/(?:([0-9a-f]{2})\/)?(?:(\d{8}|\d{8}T\d{6}Z)-)?([0-9a-f]{64})(\.json|\.tar\.zst\.age|\.age)$/.exec(
      key,
    );
  if (!match) return undefined;
  const [, folder, shard, prefix, id = '', suffix] = match;
  switch (folder) {
    case 'keys':
      if (shard) return undefined;
      if (suffix === '.json' && prefix?.length === 8) return { kind: 'keys', seq: Number(prefix), id };
      return suffix === '.age' && !prefix ? { kind: 'secrets', id } : undefined;
    case 'identity':
      return suffix === '.age' && !prefix && !shard ? { kind: 'identity', fingerprint: id } : undefined;
    case 'packs':
      return suffix === '.tar.zst.age' && !prefix && shard === id.slice(0, 2)
        ? { kind: 'pack', id: id as PackId }
        : undefined;
    case 'index':
      return suffix === '.age' && !prefix && !shard ? { kind: 'index', id } : undefined;
    case 'snapshots':
      return suffix === '.age' && !shard && prefix?.length === 16
        ? { kind: 'snapshot', id: id as SnapshotId }
        : undefined;
    default:
      return undefined;
  }
}

// ---- records ----

/** An agent's name: for people and logs, without white space and control characters. */
export const HANDLE = /^[^\s\p{C}]{1,64}$/u;

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`), `${bytes * 2} hex digits`);
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const time = z.iso.datetime({ precision: 3 });
const header = { version: z.literal(FORMAT_VERSION), critical: z.array(z.string()) };
const chunkId = hex(32).transform((text) => text as ChunkId);

const chunkerSchema = z.object({
  algorithm: z.literal('gear32'),
  minBytes: count,
  averageBytes: count,
  maxBytes: count,
});

/** `holdfast.json`: what this repository is. Written once, signed by the agent's first key and the recovery authority. */
export const repositorySchema = z.object({
  ...header,
  id: hex(16),
  created: time,
  chunker: chunkerSchema,
  agent: hex(32),
  recovery: hex(32),
});
export type RepositoryRecord = z.infer<typeof repositorySchema>;

/** `keys/<seq>-<id>.json`: who the agent and the recipients are. Revision 0 is signed by the recovery authority too. */
export const keysSchema = z.object({
  ...header,
  repository: hex(16),
  seq: count,
  previous: hex(32).nullable(),
  created: time,
  agent: z.object({ handle: z.string().regex(HANDLE), publicKey: hex(32), origin: z.enum(['derived', 'imported']) }),
  recovery: hex(32),
  recipients: z.object({ restore: z.array(z.string()).min(1), writer: z.array(z.string()).min(1) }),
  /** SHA-256 of the secrets object and of the agent's wrapped key, as stored. */
  secrets: hex(32),
  identity: hex(32),
});
export type KeysRecord = z.infer<typeof keysSchema>;

/** `keys/<id>.age`: the repository's shared secrets, to every recipient. */
export const secretsSchema = z.object({ ...header, repository: hex(16), chunkIdKey: hex(32), writer: z.string() });
export type SecretsRecord = z.infer<typeof secretsSchema>;

/** The payload of a snapshot's envelope. */
export const snapshotSchema = z.object({
  ...header,
  repository: hex(16),
  agent: z.object({ handle: z.string(), publicKey: hex(32) }),
  seq: count,
  parent: hex(32)
    .transform((text) => text as SnapshotId)
    .nullable(),
  time,
  host: z.string(),
  sources: z.array(z.object({ root: z.string() })).length(1),
  manifest: z.object({ chunks: z.array(chunkId), bytes: count, entries: count }),
  counts: z.object({ files: count, folders: count, symlinks: count, bytes: count }),
  tags: z.array(z.string()),
  tool: z.string(),
  config: z.string(),
});
export type SnapshotRecord = z.infer<typeof snapshotSchema>;

export const SNAPSHOT_PAYLOAD_TYPE = 'application/vnd.holdfast.snapshot.v1+json';

function damaged(message: string, cause?: string): HoldfastError {
  return new HoldfastError('damaged', message, {
    hint: 'Take it from another backend; `holdfast verify` shows what else is damaged.',
    cause,
  });
}

/**
 * Parses a record: first its version (a newer one is refused by name, whatever else it holds), then its critical fields, then its shape.
 * @throws `unsupported_format`, `damaged`
 */
export function parseRecord<T>(bytes: Uint8Array, schema: z.ZodType<T>, what: string): T {
  return checkRecord(parseJson(bytes, what), schema, what);
}

function checkRecord<T>(value: unknown, schema: z.ZodType<T>, what: string): T {
  const head = z.object({ version: z.number().int().min(1) }).safeParse(value);
  if (!head.success) throw damaged(`${what} has no format version`);
  if (head.data.version !== FORMAT_VERSION) {
    throw new HoldfastError(
      'unsupported_format',
      `${what} has format version ${head.data.version}; this holdfast knows version ${FORMAT_VERSION}`,
      {
        hint: 'Use the holdfast version that wrote this repository, or a newer one.',
      },
    );
  }
  const critical = z.object({ critical: z.array(z.string()) }).safeParse(value);
  if (critical.success && critical.data.critical.length > 0) {
    throw new HoldfastError(
      'unsupported_format',
      `${what} needs features this holdfast does not have: ${JSON.stringify(critical.data.critical).slice(0, 200)}`,
      {
        hint: 'Use the holdfast version that wrote it, or a newer one.',
      },
    );
  }
  const result = schema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw damaged(`${what} is malformed at ${issue?.path.join('.') ?? 'its top'}`);
  }
  return result.data;
}

function parseJson(bytes: Uint8Array, what: string): unknown {
  if (bytes.length > RECORD_MAX_BYTES) throw damaged(`${what} is larger than any can be`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw damaged(`${what} is not JSON`, messageOf(cause));
  }
}

// ---- plain signed records ----

export interface Signer {
  seed: Uint8Array;
  publicKey: Uint8Array;
}

/**
 * A plain record that people can read: one line of compact JSON whose last member is `signatures`. What is signed is DSSE's
 * pre-authentication encoding of the line without that member, which `jq -cj 'del(.signatures)'` prints.
 */
export function signRecord(record: object, type: string, signers: readonly Signer[]): Uint8Array {
  const message = pae(type, Buffer.from(JSON.stringify(record)));
  const signatures = signers.map((signer) => ({
    key: Buffer.from(signer.publicKey).toString('hex'),
    signature: Buffer.from(sign(message, signer.seed)).toString('base64'),
  }));
  return Buffer.from(`${JSON.stringify({ ...record, signatures })}\n`);
}

export interface SignedRecord<T> {
  record: T;
  /** True when a signature of this key (64 hex digits) is there and holds. */
  signedBy: (publicKeyHex: string) => boolean;
}

/** The last digit of base64 has bits that mean nothing: with them at will, one signature would have several spellings. */
function isCanonicalBase64(text: string): boolean {
  return Buffer.from(text, 'base64').toString('base64') === text;
}

const signaturesSchema = z.looseObject({
  signatures: z
    .array(z.object({ key: hex(32), signature: z.base64().refine(isCanonicalBase64) }))
    .min(1)
    .max(16),
});

/** @throws `unsupported_format`, `damaged` (also when the bytes are not exactly what `signRecord` writes) */
export function parseSignedRecord<T>(
  bytes: Uint8Array,
  type: string,
  schema: z.ZodType<T>,
  what: string,
): SignedRecord<T> {
  const value = parseJson(bytes, what);
  const record = checkRecord(value, schema, what);
  const signed = signaturesSchema.safeParse(value);
  if (!signed.success) throw damaged(`${what} carries no signatures`);
  const { signatures, ...rest } = signed.data;
  if (!Buffer.from(`${JSON.stringify({ ...rest, signatures })}\n`).equals(bytes)) {
    throw damaged(`${what} is not in the form it was signed in`);
  }
  const message = pae(type, Buffer.from(JSON.stringify(rest)));
  return {
    record,
    signedBy: (publicKeyHex) =>
      signatures.some(
        (entry) =>
          entry.key === publicKeyHex &&
          verify(Buffer.from(entry.signature, 'base64'), message, Buffer.from(publicKeyHex, 'hex')),
      ),
  };
}

export const REPOSITORY_TYPE = 'application/vnd.holdfast.repository.v1+json';
export const KEYS_TYPE = 'application/vnd.holdfast.keys.v1+json';

/** @throws `damaged` when the stored bytes do not hash to the id in their name. */
export function checkContentName(bytes: Uint8Array, id: string, what: string): void {
  if (sha256Hex(bytes) !== id) throw damaged(`the bytes of ${what} do not match its name`);
}

/** For reads of objects that others name: one that is on no backend is not merely absent, it is lost. */
export function lostIfAbsent(error: unknown): never {
  if (!isHoldfastError(error, 'not_found')) throw error;
  throw new HoldfastError('damaged', `${error.message}, though the repository needs it`, {
    hint: 'Run `holdfast verify --level listing` to see what is missing where.',
    cause: error,
  });
}

/** RFC 3339 with milliseconds, UTC. */
export function timestamp(timeMs: number): string {
  const text = new Date(timeMs).toISOString();
  assert(text.length === 24, 'a year of four digits');
  return text;
}
