/**
 * Where objects are stored: the one seam between holdfast and the world's storage.
 *
 * A backend knows opaque keys and opaque bytes (ciphertext); it never looks into either. Every implementation, decorators
 * included, guarantees the following, and the conformance suite tests each line by its number.
 *
 *  1. `put` stores all bytes or nothing: no reader ever sees a part of an object, also after a crash at any instruction.
 *  2. When `put` has resolved, the object survives a crash or power loss (fsync of file and folder, or the provider's
 *     acknowledgement), and `get`, `head` and `list` show it at once.
 *  3. `put` with `ifAbsent` never replaces: where the key exists it resolves to 'exists' and changes nothing. Of several at
 *     once on one key exactly one resolves to 'created'.
 *  4. `put` without `ifAbsent` replaces atomically: a reader sees the old bytes or the new.
 *  5. `get` resolves to exactly the bytes stored, or rejects with `not_found` when the key is absent.
 *  6. `get` with a range resolves to the bytes from `offset`, `length` of them, fewer only where the object ends sooner; an empty array when
 *     `offset` is at or past the end.
 *  7. `head` resolves to the size in bytes, or to undefined when the key is absent.
 *  8. `list(prefix)` yields every key that starts with `prefix` (any prefix, '' for all) exactly once with its size, in no promised order;
 *     objects stored, replaced or deleted while it runs may or may not appear. Leftovers of an interrupted `put` never appear.
 *  9. `delete` removes the object; a key that is absent is no error. (A power loss soon after may bring the object back.)
 * 10. A signal that is already aborted rejects with `interrupted` before anything is done; one aborted later leaves the
 *     object whole or absent.
 * 11. Keys are 1 to 512 characters of `a–z A–Z 0–9 . _ -` in segments of 1 to 255 between single `/`; no segment is `.` or `..` or starts
 *     with a dot, and none is named `tmp` at the top. Anything else rejects with `bug` before anything is done. (Callers never use a key
 *     together with one below it, `a` and `a/b`: a folder cannot hold both. A `list` prefix is any text; one that no key can have finds none.)
 * 12. Storage that cannot be reached, written or is not there rejects with `backend_unavailable` (of a mirror: when no member is left,
 *     `not_enough_backends`); it is never taken for an empty backend.
 * 13. Zero-length objects are objects.
 * 14. The array given to `put` is read only, and not used after `put` settled, rejected or not: its memory may be gone by then; the array from `get` is the caller's own.
 * 15. No object is larger than `OBJECT_MAX_BYTES`: `put` of more rejects with `bug`, and `get` of more (storage is not trusted to keep to
 *     it) with `damaged`, before the memory for it is taken.
 */
import { HoldfastError } from '../errors.ts';
import { INDEX_STORED_MAX_BYTES } from '../limits.ts';

/** Line 15: the largest kind of object is an index. */
export const OBJECT_MAX_BYTES = INDEX_STORED_MAX_BYTES;

export interface ByteRange {
  /** First byte, 0 or more. */
  offset: number;
  /** Number of bytes, 0 or more. */
  length: number;
}

export interface ObjectInfo {
  key: string;
  /** Bytes stored. */
  size: number;
}

export interface PutOptions {
  ifAbsent?: boolean;
  signal?: AbortSignal | undefined;
}

export interface ObjectLock {
  /** Days from the writing of an object, or from `extend`, in which nobody can delete it. */
  days: number;
  /** Rejects with `not_found` when the key is absent. A time that is longer already stays. */
  extend(key: string, options?: { signal?: AbortSignal | undefined }): Promise<void>;
}

export interface Backend extends AsyncDisposable {
  /** What the storage itself is called, where that can be known: one place under two names does not hold two copies. */
  readonly place?: string;
  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'created' | 'exists'>;
  get(key: string, range?: ByteRange, options?: { signal?: AbortSignal | undefined }): Promise<Uint8Array>;
  head(key: string, options?: { signal?: AbortSignal | undefined }): Promise<{ size: number } | undefined>;
  list(prefix: string, options?: { signal?: AbortSignal | undefined }): AsyncIterable<ObjectInfo>;
  delete(key: string, options?: { signal?: AbortSignal | undefined }): Promise<void>;
  /** Where objects are locked against deletion for a time: how long, and setting one's time anew, counted from now. */
  lock?: ObjectLock;
  /** Takes away what writers that died long ago have left, if it may. @returns how much there was */
  cleanUp?(options?: { signal?: AbortSignal | undefined }): Promise<number>;
  /** What the storage turned out to offer besides, by name; absent where there is nothing to tell. */
  capabilities?(): Promise<Readonly<Record<string, boolean>>>;
}

const KEY = /^(?!tmp(?:\/|$))[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})*$/;

/** Line 11: true when `text` is a key. */
export function isKey(text: string): boolean {
  return text.length <= 512 && KEY.test(text);
}

/** Line 11: throws `bug` on a key that no backend may be asked for. */
export function checkKey(key: string): void {
  if (!isKey(key)) throw new HoldfastError('bug', `not a valid object key: ${JSON.stringify(key.slice(0, 80))}`);
}

/** Lines 11 and 15, for `put`: throws `bug` on a key or a size that no backend may be given. */
export function checkObject(key: string, bytes: Uint8Array): void {
  checkKey(key);
  if (bytes.length <= OBJECT_MAX_BYTES) return;
  throw new HoldfastError('bug', `object ${key} has ${bytes.length} bytes, more than the ${OBJECT_MAX_BYTES} allowed`);
}

/**
 * Lines 6 and 15, for `get`: the part of an object of `size` bytes that was asked for; the whole without a range.
 *
 * @throws `bug` on a range that is not two safe integers of 0 or more; `damaged` when the object is larger than any may be.
 */
export function clampRange(range: ByteRange | undefined, size: number, key: string, where: string): ByteRange {
  if (size > OBJECT_MAX_BYTES) {
    throw new HoldfastError('damaged', `object ${key} on ${where} has ${size} bytes, more than any object may have`, {
      hint: 'Something else than holdfast wrote it.',
    });
  }
  if (range === undefined) return { offset: 0, length: size };
  const { offset, length } = range;
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
    throw new HoldfastError('bug', `not a valid range of object ${key}: offset ${offset}, length ${length}`);
  }
  return { offset, length: Math.max(0, Math.min(length, size - offset)) };
}

/** The error of line 5. */
export function objectNotFound(key: string, where: string): HoldfastError {
  return new HoldfastError('not_found', `object ${key} is not on ${where}`);
}
