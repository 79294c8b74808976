/** The names of a repository's objects, and what a name says about the bytes. */
import { HoldfastError, isHoldfastError } from '../../errors.ts';
import { sha256Hex } from '../../crypto/hash.ts';

declare const brand: unique symbol;
/** SHA-256 of a pack as stored, 64 hex digits. */
export type PackId = string & { readonly [brand]: 'PackId' };
/** SHA-256 of the snapshot record (the payload of its envelope), 64 hex digits. */
export type SnapshotId = string & { readonly [brand]: 'SnapshotId' };
/** SHA-256 of the annotation record (the payload of its envelope), 64 hex digits. */
export type AnnotationId = string & { readonly [brand]: 'AnnotationId' };
/** SHA-256 of the run record (the payload of its envelope), 64 hex digits. */
export type RunId = string & { readonly [brand]: 'RunId' };
/** SHA-256 of the condemned record (the payload of its envelope), 64 hex digits. */
export type CondemnedId = string & { readonly [brand]: 'CondemnedId' };
/** SHA-256 of the record of a verification (the payload of its envelope), 64 hex digits. */
export type VerifiedId = string & { readonly [brand]: 'VerifiedId' };
/** SHA-256 of the record of a drill (the payload of its envelope), 64 hex digits. */
export type DrillId = string & { readonly [brand]: 'DrillId' };

export const REPOSITORY_KEY = 'holdfast.json';
export const packKey = (id: PackId): string => `packs/${id.slice(0, 2)}/${id}.tar.zst.age`;
export const indexKey = (id: string): string => `index/${id}.age`;
export const keysRecordKey = (seq: number, id: string): string => `keys/${String(seq).padStart(8, '0')}-${id}.json`;
export const secretsKey = (id: string): string => `keys/${id}.age`;
/** The fingerprint is the SHA-256 of the raw public key, 64 hex digits. */
export const wrappedIdentityKey = (publicKeyHex: string): string =>
  `identity/${sha256Hex(Buffer.from(publicKeyHex, 'hex'))}.age`;
/** Of a key that was wrapped after the repository was made: the same key may be wrapped again, to other recipients. */
export const rewrappedIdentityKey = (publicKeyHex: string, id: string): string =>
  `identity/${sha256Hex(Buffer.from(publicKeyHex, 'hex'))}-${id}.age`;
export const vaultKey = (id: string): string => `vault/${id}.age`;
export const snapshotKey = (timeMs: number, id: SnapshotId): string => `snapshots/${stampOf(timeMs)}-${id}.age`;

export const annotationKey = (timeMs: number, id: AnnotationId): string => `annotations/${stampOf(timeMs)}-${id}.age`;
export const verifiedKey = (timeMs: number, id: VerifiedId): string => `verified/${stampOf(timeMs)}-${id}.age`;

export const runKey = (timeMs: number, id: RunId): string => `runs/${stampOf(timeMs)}-${id}.age`;

export const condemnedKey = (timeMs: number, id: CondemnedId): string => `condemned/${stampOf(timeMs)}-${id}.age`;

export const drillKey = (timeMs: number, id: DrillId): string => `drills/${stampOf(timeMs)}-${id}.age`;

/** `20260131T235959Z`: sorts by time. */
export function stampOf(timeMs: number): string {
  return new Date(timeMs).toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '');
}

/** The time in the key of a snapshot object, for comparison. Nothing vouches for it before the snapshot is opened. */
export const stampIn = (key: string): string => key.slice('snapshots/'.length, 'snapshots/20260131T235959Z'.length);

/** What kind of object a key names, with the id in its name; undefined for a name that no version 1 repository has. */
export type ObjectName =
  | { kind: 'repository' }
  | { kind: 'keys'; seq: number; id: string }
  | { kind: 'secrets'; id: string }
  | { kind: 'identity'; fingerprint: string; id?: string }
  | { kind: 'vault'; id: string }
  | { kind: 'pack'; id: PackId }
  | { kind: 'index'; id: string }
  | { kind: 'snapshot'; id: SnapshotId }
  | { kind: 'annotation'; id: AnnotationId }
  | { kind: 'run'; id: RunId }
  | { kind: 'condemned'; id: CondemnedId }
  | { kind: 'verified'; id: VerifiedId }
  | { kind: 'drill'; id: DrillId };

export function parseKey(key: string): ObjectName | undefined {
  if (key === REPOSITORY_KEY) return { kind: 'repository' };
  const match =
    /^(keys|identity|packs|index|snapshots|annotations|runs|condemned|verified|drills|vault)\/(?:([0-9a-f]{2})\/)?(?:(\d{8}|\d{8}T\d{6}Z|[0-9a-f]{64})-)?([0-9a-f]{64})(\.json|\.tar\.zst\.age|\.age)$/.exec(
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
      if (suffix !== '.age' || shard) return undefined;
      if (!prefix) return { kind: 'identity', fingerprint: id };
      return prefix.length === 64 ? { kind: 'identity', fingerprint: prefix, id } : undefined;
    case 'vault':
      return suffix === '.age' && !prefix && !shard ? { kind: 'vault', id } : undefined;
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
    case 'annotations':
      return suffix === '.age' && !shard && prefix?.length === 16
        ? { kind: 'annotation', id: id as AnnotationId }
        : undefined;
    case 'runs':
      return suffix === '.age' && !shard && prefix?.length === 16 ? { kind: 'run', id: id as RunId } : undefined;
    case 'condemned':
      return suffix === '.age' && !shard && prefix?.length === 16
        ? { kind: 'condemned', id: id as CondemnedId }
        : undefined;
    case 'verified':
      return suffix === '.age' && !shard && prefix?.length === 16
        ? { kind: 'verified', id: id as VerifiedId }
        : undefined;
    case 'drills':
      return suffix === '.age' && !shard && prefix?.length === 16 ? { kind: 'drill', id: id as DrillId } : undefined;
    default:
      return undefined;
  }
}

/** @throws `damaged` when the stored bytes do not hash to the id in their name. */
export function checkContentName(bytes: Uint8Array, id: string, what: string): void {
  if (sha256Hex(bytes) !== id) throw new HoldfastError('damaged', `the bytes of ${what} do not match its name`);
}

/** For reads of objects that others name: one that is on no backend is not merely absent, it is lost. */
export function lostIfAbsent(error: unknown): never {
  if (!isHoldfastError(error, 'not_found')) throw error;
  throw new HoldfastError('damaged', `${error.message}, though the repository needs it`, {
    hint: 'Run `holdfast verify --level listing` to see what is missing where.',
    cause: error,
  });
}
