/**
 * The records of a repository, version 1; their names are in object-name.ts. docs/format.md is the specification; the identifiers here are its nouns.
 */
import { z } from 'zod';
import { assert, HoldfastError, messageOf } from '../../errors.ts';
import type { ChunkId } from '../../entry.ts';
import { pae } from '../../crypto/dsse.ts';
import { sign, verify } from '../../crypto/ed25519.ts';
import { BACKENDS_MAX, CONDEMNED_PACKS_MAX, RECORD_MAX_BYTES } from '../../limits.ts';
import type { PackId, RunId, SnapshotId } from './object-name.ts';

export const FORMAT_VERSION = 1;

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

/** What a key record after the first changes; see key-log.ts for who may change what. */
const KEY_CHANGES = ['rotate', 'revoke', 'relays', 'recipients', 'object'] as const;
export type KeyChange = (typeof KEY_CHANGES)[number];

/** Where the agent can be met; what a URL means is its own business. */
const relays = z.array(z.string().regex(/^[\x21-\x7e]{1,500}$/)).max(16);

/**
 * `keys/<seq>-<id>.json`: an entry of the identity log, which says who the agent and the recipients are. Number 0 is signed by the recovery
 * authority too.
 */
export const keysSchema = z.object({
  ...header,
  repository: hex(16),
  seq: count,
  previous: hex(32).nullable(),
  created: time,
  /** Absent in number 0. */
  change: z.enum(KEY_CHANGES).optional(),
  agent: z.object({ handle: z.string().regex(HANDLE), publicKey: hex(32), origin: z.enum(['derived', 'imported']) }),
  recovery: hex(32),
  recipients: z.object({ restore: z.array(z.string()).min(1), writer: z.array(z.string()).min(1) }),
  /** SHA-256 of the secrets object and of the agent's wrapped key, as stored. */
  secrets: hex(32),
  identity: hex(32),
  /** SHA-256 of the public key (32 bytes) that the agent may rotate to by itself. */
  next: hex(32).optional(),
  /** Commits to all recovery authorities to come; see `recoveryCommitment`. */
  nextRecovery: hex(32).optional(),
  /** The last snapshot of the keys before this one that is to be believed; null for none. */
  lastSnapshot: z
    .object({ seq: count, id: hex(32) })
    .nullable()
    .optional(),
  relays: relays.optional(),
  /** SHA-256 of the objects that open what was stored before a recipient was added; see grants.ts. */
  grants: z.array(hex(32)).max(1024).optional(),
});
export type KeysRecord = z.infer<typeof keysSchema>;

/** `keys/<id>.age`: the repository's shared secrets, to every recipient. */
export const secretsSchema = z.object({ ...header, repository: hex(16), chunkIdKey: hex(32), writer: z.string() });
export type SecretsRecord = z.infer<typeof secretsSchema>;

/** `keys/<id>.age`, to one recipient: file keys (16 bytes, base64) of packs that were stored before it was added. */
export const grantSchema = z.object({
  ...header,
  repository: hex(16),
  packs: z.record(hex(32), z.base64().length(24)),
});
export type GrantRecord = z.infer<typeof grantSchema>;

/** What a snapshot's `critical` may name: its manifest has entries of the types `fifo` and `device`. */
export const SPECIAL_FILES = 'special-files';
/** The features that this version has, and a record of version 1 does without. */
export const SNAPSHOT_FEATURES: readonly string[] = [SPECIAL_FILES];
const filesAndBytes = z.object({ files: count, bytes: count });

/** How a snapshot differs from the one before, and what its files are like: what later ones are judged by. */
export const statisticsSchema = z.object({
  /** Files, compared with the snapshot before. */
  new: count,
  changed: count,
  removed: count,
  /** Files whose contents were not in the repository yet, in the place of others: under the same name, or under a new one for one that went. */
  rewritten: count,
  /** Sizes of the new and the changed files. */
  changedBytes: count,
  /** Of chunks of files that were not there before, and what their packs take. */
  addedBytes: count,
  storedBytes: count,
  /** Of all files, as far as samples of them tell; see texture.ts. */
  compressible: filesAndBytes,
  incompressible: filesAndBytes,
});
export type SnapshotStatistics = z.infer<typeof statisticsSchema>;

/** Why a snapshot was found suspicious when it was made. */
export const findingSchema = z.object({
  code: z.string(),
  message: z.string(),
  /** What was found, what is usual (over the snapshots before), and the bound that it went over. */
  value: count,
  usual: z.object({ median: count, mad: count }).optional(),
  bound: count,
});
export type Finding = z.infer<typeof findingSchema>;

const tag = z.string().min(1).max(200);
const note = z.string().max(10_000);

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
  /** `profile`: the name of the one that said what is state and what secret. */
  sources: z.array(z.object({ root: z.string(), profile: z.string().optional() })).length(1),
  manifest: z.object({ chunks: z.array(chunkId), bytes: count, entries: count }),
  /** The manifest of what is restored on request only; absent where there is none. */
  secrets: z.object({ chunks: z.array(chunkId), bytes: count, entries: count, files: count }).optional(),
  counts: z.object({ files: count, folders: count, symlinks: count, bytes: count }),
  tags: z.array(z.string()),
  tool: z.string(),
  config: z.string(),
  /** The newest entry of the identity log that its maker saw: a witness of what was there at the time. */
  keys: z.object({ seq: count, id: hex(32) }).optional(),
  statistics: statisticsSchema.optional(),
  suspicious: z.array(findingSchema).max(64).optional(),
  note: note.optional(),
  /** The run that made it, which is over with this; see runs.ts. */
  run: hex(32)
    .transform((text) => text as RunId)
    .optional(),
});
export type SnapshotRecord = z.infer<typeof snapshotSchema>;

/** What of a snapshot is known to be lost on every backend, and was given up. */
const lostSchema = z.object({
  /** The snapshot itself, or its list of files: nothing of it can be restored. */
  whole: z.literal(true).optional(),
  files: count,
  bytes: count,
  /** The first 8 bytes of the id of each chunk that is lost, ascending. */
  chunks: z.base64(),
});
export type LostRecord = z.infer<typeof lostSchema>;

/** The payload of an annotation's envelope: what is said of a snapshot after it was made. */
export const annotationSchema = z.object({
  ...header,
  repository: hex(16),
  agent: z.object({ handle: z.string(), publicKey: hex(32) }),
  snapshot: hex(32).transform((text) => text as SnapshotId),
  time,
  host: z.string(),
  tags: z.object({ add: z.array(tag).max(100), remove: z.array(tag).max(100) }).optional(),
  note: note.optional(),
  acknowledged: z.literal(true).optional(),
  /** Numbers of snapshots before it that were forgotten on purpose, as ranges with both ends; see forgotten.ts. */
  forgotten: z
    .array(z.tuple([count, count]).refine(([first, last]) => first <= last))
    .max(100_000)
    .optional(),
  lost: lostSchema.optional(),
});
export type AnnotationRecord = z.infer<typeof annotationSchema>;

/** The payload of a run's envelope: somebody relies on packs that are there, or deletes some. */
export const runSchema = z.object({
  ...header,
  repository: hex(16),
  agent: z.object({ handle: z.string(), publicKey: hex(32) }),
  time,
  host: z.string(),
  kind: z.enum(['write', 'sweep']),
  /** Earlier runs of the same state folder: they are over, or this one could not have begun. */
  after: z.array(hex(32).transform((text) => text as RunId)).max(1024),
  /** So that no two records are the same. */
  nonce: hex(16),
});
export type RunRecord = z.infer<typeof runSchema>;

/** The payload of a condemned record's envelope: what is to go. */
export const condemnedSchema = z.object({
  ...header,
  repository: hex(16),
  agent: z.object({ handle: z.string(), publicKey: hex(32) }),
  time,
  host: z.string(),
  packs: z.array(hex(32).transform((text) => text as PackId)).max(CONDEMNED_PACKS_MAX),
  /** Snapshots as they were stored, byte for byte, so that they can be put back. */
  snapshots: z.array(z.object({ key: z.string().max(512), object: z.base64() })),
});
export type CondemnedRecord = z.infer<typeof condemnedSchema>;

export const RUN_PAYLOAD_TYPE = 'application/vnd.holdfast.run.v1+json';
export const CONDEMNED_PAYLOAD_TYPE = 'application/vnd.holdfast.condemned.v1+json';

/** The payload of a verification's envelope: what was looked at, when, and what was found. */
export const verifiedSchema = z.object({
  ...header,
  repository: hex(16),
  agent: z.object({ handle: z.string(), publicKey: hex(32) }),
  /** When it was begun. */
  time,
  host: z.string(),
  level: z.enum(['listing', 'objects', 'chunks', 'restore']),
  /** `place` is a hash of the address: one of the same name may lie elsewhere by the config of another host. */
  backends: z.array(z.object({ name: z.string(), place: hex(8) })).max(BACKENDS_MAX),
  objects: count,
  bytes: count,
  /** Packs found whole at this level, by the backends (positions in `backends`) they were found whole on: the first 8 bytes of each id. */
  covered: z.array(z.object({ backends: z.array(count), packs: z.base64() })),
  damaged: z.array(z.object({ backend: z.string(), key: z.string(), problem: z.string(), repaired: z.boolean() })),
  /** The snapshot with the highest number that was there; null for none. */
  newest: z.object({ seq: count, id: hex(32).transform((text) => text as SnapshotId) }).nullable(),
});
export type VerifiedRecord = z.infer<typeof verifiedSchema>;

/** The payload of a drill's envelope: what the drill told. */
export const drillSchema = z.object({
  ...header,
  repository: hex(16),
  agent: z.object({ handle: z.string(), publicKey: hex(32) }),
  /** When it was begun. */
  time,
  host: z.string(),
  /** As `drill run` tells it: nothing here looks into it. */
  result: z.record(z.string(), z.unknown()),
});
export type DrillRecord = z.infer<typeof drillSchema>;

export const ANNOTATION_PAYLOAD_TYPE = 'application/vnd.holdfast.annotation.v1+json';
export const VERIFIED_PAYLOAD_TYPE = 'application/vnd.holdfast.verified.v1+json';

export const DRILL_RECORD_TYPE = 'application/vnd.holdfast.drill-record.v1+json';

export const SNAPSHOT_PAYLOAD_TYPE = 'application/vnd.holdfast.snapshot.v1+json';

function damaged(message: string, cause?: string): HoldfastError {
  return new HoldfastError('damaged', message, {
    hint: 'Take it from another backend; `holdfast verify` shows what else is damaged.',
    cause,
  });
}

/**
 * Parses a record: first its version (a newer one is refused by name, whatever else it holds), then its critical fields, then its shape.
 * @param known features that such a record may name as critical.
 * @throws `unsupported_format`, `damaged`
 */
export function parseRecord<T>(
  bytes: Uint8Array,
  schema: z.ZodType<T>,
  what: string,
  known: readonly string[] = [],
): T {
  return checkRecord(parseJson(bytes, what), schema, what, known);
}

function checkRecord<T>(value: unknown, schema: z.ZodType<T>, what: string, known: readonly string[] = []): T {
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
  const unknown = critical.data?.critical.filter((feature) => !known.includes(feature)) ?? [];
  if (unknown.length > 0) {
    throw new HoldfastError(
      'unsupported_format',
      `${what} needs features this holdfast does not have: ${JSON.stringify(unknown).slice(0, 200)}`,
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
  if (!isSpelledAs({ ...rest, signatures }, bytes)) {
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

/** False too for what is nested so deep that it can be read, but not written: nobody has signed such a record. */
function isSpelledAs(record: object, bytes: Uint8Array): boolean {
  try {
    return Buffer.from(`${JSON.stringify(record)}\n`).equals(bytes);
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** RFC 3339 with milliseconds, UTC. */
export function timestamp(timeMs: number): string {
  const text = new Date(timeMs).toISOString();
  assert(text.length === 24, 'a year of four digits');
  return text;
}
