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
}

export interface FileEntry extends EntryCommon {
  type: 'file';
  /** Bytes; the sum of the lengths of the chunks. */
  size: number;
  chunks: readonly ChunkId[];
}

export interface FolderEntry extends EntryCommon {
  type: 'folder';
}

export interface SymlinkEntry extends EntryCommon {
  type: 'symlink';
  /** Where the link points, as stored in the link: any bytes, never followed. */
  target: RawPath;
}

export type Entry = FileEntry | FolderEntry | SymlinkEntry;

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
