/**
 * Paths as the bytes they are. POSIX names are byte strings, not text: a `RawPath` is a JavaScript string in which each
 * character is one byte (0x01–0xff), as Node's 'latin1' encoding gives it. Comparing two of them by code unit compares
 * their bytes, and they take one byte a character in memory.
 *
 * Inside holdfast a path is relative to the root of the tree, with `/` between names; the root itself is ''.
 */

declare const brand: unique symbol;
export type RawPath = string & { readonly [brand]: 'RawPath' };

export const ROOT = '' as RawPath;

/** The raw form of text (its UTF-8 bytes). */
export function rawFromText(text: string): RawPath {
  return (isAscii(text) ? text : Buffer.from(text, 'utf8').toString('latin1')) as RawPath;
}

/** The raw form of bytes. */
export function rawFromBytes(bytes: Uint8Array): RawPath {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1') as RawPath;
}

export function rawToBytes(raw: RawPath): Uint8Array {
  return Buffer.from(raw, 'latin1');
}

/** What `node:fs` takes for these bytes: the string itself when it is ASCII, else a Buffer. */
export function rawToFs(raw: RawPath): string | Buffer {
  return isAscii(raw) ? raw : Buffer.from(raw, 'latin1');
}

/** The text whose UTF-8 form the bytes are, or undefined when they are no valid UTF-8. */
export function rawToText(raw: RawPath): string | undefined {
  if (isAscii(raw)) return raw;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(raw, 'latin1'));
  } catch {
    return undefined;
  }
}

/**
 * For people: bytes that are no UTF-8 as `\xNN`, control characters (C0, C1, DEL) and bidirectional overrides as escapes, so that no
 * file name can write to the terminal anything but itself.
 */
export function rawForDisplay(raw: RawPath): string {
  const text = rawToText(raw);
  if (text === undefined)
    return raw.replace(/[^\x20-\x7e]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return escapeForDisplay(text);
}

/** Control characters (C0, DEL, C1), line separators, and what changes the direction of text: what could write to a terminal something else than itself. */
const NOT_FOR_DISPLAY = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** JSON that means the same, in which every such character but white space is an escape. */
export function escapeJson(json: string): string {
  return json.replace(NOT_FOR_DISPLAY, (c) => (c === '\n' ? c : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`));
}

/** Text with such characters replaced by visible escapes. */
export function escapeForDisplay(text: string): string {
  return text.replace(NOT_FOR_DISPLAY, (c) => {
    if (c === '\n') return '\\n';
    if (c === '\t') return '\\t';
    const code = c.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** `parent/name`, without a leading slash at the root. */
export function joinRaw(parent: RawPath, name: string): RawPath {
  return (parent === '' ? name : `${parent}/${name}`) as RawPath;
}

/** The folder that holds `path`; the root for a top-level name. */
export function parentOf(path: RawPath): RawPath {
  const slash = path.lastIndexOf('/');
  return (slash < 0 ? '' : path.slice(0, slash)) as RawPath;
}

/**
 * The order of manifests: by bytes, with `/` before every other byte, so that a folder is followed at once by all that
 * it holds. This is the order of a depth-first walk that visits names sorted by their bytes.
 */
export function comparePaths(a: RawPath, b: RawPath): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return (x === 0x2f ? 0 : x) - (y === 0x2f ? 0 : y);
  }
  return a.length - b.length;
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}
