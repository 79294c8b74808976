/** One entry of an agent's state: what a scan produces, a manifest stores and a restore writes back. */
import type { RawPath } from './raw-path.ts';

declare const brand: unique symbol;
/** Chunk id: 64 lower-case hex digits, HMAC-SHA-256 of the plaintext. Made only by the chunk-id function and by parsers. */
export type ChunkId = string & { readonly [brand]: 'ChunkId' };

/** What every kind of entry has. */
export interface EntryCommon {
  path: RawPath;
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  mode: number;
  /** Modification time, nanoseconds since the Unix epoch; may be negative. */
  mtimeNs: bigint;
  uid: number;
  gid: number;
  /** Extended attributes by name, POSIX ACLs among them (`system.posix_acl_access`); absent when there are none. */
  xattrs?: Readonly<Record<string, Uint8Array>>;
  /** What `chattr` sets; absent when nothing is set. */
  flags?: readonly FileFlag[];
}

export const FILE_FLAGS = ['append', 'immutable', 'nodump'] as const;
export type FileFlag = (typeof FILE_FLAGS)[number];

export interface FileEntry extends EntryCommon {
  type: 'file';
  /** Bytes; the sum of the lengths of the chunks. */
  size: number;
  chunks: readonly ChunkId[];
  /** The first name, in the order of the manifest, of a file of which this is another name. The contents are here all the same. */
  hardlink?: RawPath;
  /** Stretches that take no room on the disk, ascending, in bytes. Their zeros are in the chunks all the same. */
  holes?: readonly Hole[];
  /** Of a database that was captured by its own means: how many rows each table had. */
  sqlite?: { rows: Readonly<Record<string, number>> };
}

export interface Hole {
  offset: number;
  length: number;
}

export interface FolderEntry extends EntryCommon {
  type: 'folder';
}

export interface SymlinkEntry extends EntryCommon {
  type: 'symlink';
  /** Where the link points, as stored in the link: any bytes, never followed. */
  target: RawPath;
}

/** A named pipe. Kept only where the config says so. */
export interface FifoEntry extends EntryCommon {
  type: 'fifo';
}

/** Kept only where the config says so. */
export interface DeviceEntry extends EntryCommon {
  type: 'device';
  device: Device;
}

export interface Device {
  kind: 'block' | 'character';
  major: number;
  minor: number;
}

export type SpecialEntry = FifoEntry | DeviceEntry;

export type Entry = FileEntry | FolderEntry | SymlinkEntry | SpecialEntry;

/**
 * Something worth telling that did not stop the run. With `incomplete`, the result lacks something it should have, and
 * the command ends with exit code 3.
 */
export interface Warning {
  code: string;
  /** For display; see `rawForDisplay`. */
  path?: string;
  message: string;
  incomplete?: boolean;
}
