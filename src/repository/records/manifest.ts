/**
 * The manifest: every entry of the tree, one JSON line each, in the order of `comparePaths`. It is chunked like a file, so that
 * stretches without change cost nothing, and it is named by its chunk ids in the signed snapshot record.
 */
import { HoldfastError } from '../../errors.ts';
import {
  FILE_FLAGS,
  type ChunkId,
  type Device,
  type Entry,
  type EntryCommon,
  type FileEntry,
  type Hole,
} from '../../entry.ts';
import { LineSplitter } from '../../lines.ts';
import { MANIFEST_LINE_MAX_BYTES, NAME_MAX_BYTES, PATH_MAX_BYTES } from '../../limits.ts';
import {
  comparePaths,
  parentOf,
  rawForDisplay,
  rawFromBytes,
  rawFromText,
  rawToBytes,
  rawToText,
  ROOT,
  type RawPath,
} from '../../raw-path.ts';
import { isObject, objectIn } from '../../json.ts';

/** An entry as its line, without the line feed. */
export function entryLine(entry: Entry): string {
  switch (entry.type) {
    case 'file':
      return `${fileLineHead(entry)}${entry.chunks.map((id) => `"${id}"`).join()}]${fileExtras(entry)}${extras(entry)}}`;
    case 'folder':
      return `${lineHead(entry, 'folder')}${extras(entry)}}`;
    case 'symlink':
      return `${lineHead(entry, 'symlink')},${named('target', entry.target)}${extras(entry)}}`;
    case 'fifo':
      return `${lineHead(entry, 'fifo')}${extras(entry)}}`;
    case 'device': {
      const { kind, major, minor } = entry.device;
      return `${lineHead(entry, 'device')}${member('device', { kind, major, minor })}${extras(entry)}}`;
    }
  }
}

/** What most entries have not. It stands at the end of a line, and a reader that knows nothing of it restores the rest. */
function extras({ xattrs, flags }: EntryCommon): string {
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
  return (
    (xattrs
      ? member('xattrs', Object.fromEntries(Object.entries(xattrs).map(([name, value]) => [name, base64(value)])))
      : '') + (flags ? member('flags', flags) : '')
  );
}

function fileExtras({ hardlink, holes, sqlite }: FileEntry): string {
  const pairs = holes?.map(({ offset, length }) => [offset, length]);
  return (
    (hardlink === undefined ? '' : `,${named('hardlink', hardlink)}`) +
    (pairs ? member('holes', pairs) : '') +
    (sqlite ? member('sqlite', sqlite) : '')
  );
}

const member = (name: string, value: unknown): string => `,"${name}":${JSON.stringify(value)}`;

/** The line of a file up to its first chunk: by this a file is known to be as it was, without parsing anything. */
export function fileLineHead(file: Omit<FileEntry, 'type' | 'chunks'>): string {
  return `${lineHead(file, 'file')},"size":${file.size},"chunks":[`;
}

/** The chunks in a line of a file that begins with `head`; undefined when the rest is no list of chunks. */
export function chunksInLine(line: string, head: string): ChunkId[] | undefined {
  const chunks: ChunkId[] = [];
  let at = head.length;
  if (line[at] !== ']') {
    for (; at < line.length - 2; at += 67) {
      const id = line.slice(at + 1, at + 65);
      if (line[at] !== '"' || line[at + 65] !== '"' || !HEX64.test(id)) return undefined;
      chunks.push(id as ChunkId);
      if (line[at + 66] !== ',') break;
    }
    at += 66;
  }
  const isEnd = line.startsWith(']}', at) ? line.length === at + 2 : line.startsWith('],"', at) && line.endsWith('}');
  return isEnd ? chunks : undefined;
}

/** What `parseEntryLine` would say of path and type, at a hundredth of the cost for the usual path. @throws `damaged` */
export function glanceAtLine(line: string): { path: RawPath; isFile: boolean } {
  if (line.includes('\0')) throw malformed('not JSON'); // as a power loss leaves files that were not flushed
  const end = line.indexOf(TYPE_FOLLOWS);
  const text = line.slice(PATH_FIRST.length, end);
  if (end < 0 || !line.startsWith(PATH_FIRST) || text.includes('\\')) {
    const { path, type } = parseEntryLine(line);
    return { path, isFile: type === 'file' };
  }
  return { path: rawFromText(text), isFile: line.startsWith('file"', end + TYPE_FOLLOWS.length) };
}

const PATH_FIRST = '{"path":"';
const TYPE_FOLLOWS = '","type":"';

/** By hand, not by `JSON.stringify`: there is one for each file. */
function lineHead({ path, mode, mtimeNs, uid, gid }: EntryCommon, type: Entry['type']): string {
  const octal = mode.toString(8).padStart(4, '0');
  return `{${named('path', path)},"type":"${type}","mode":"${octal}","mtime":"${formatTime(mtimeNs)}","uid":${uid},"gid":${gid}`;
}

/** A name as text where it is UTF-8, else its bytes in base64 under `<key>Base64`. */
function named(key: string, raw: RawPath): string {
  const text = rawToText(raw);
  return text === undefined
    ? `"${key}Base64":"${Buffer.from(rawToBytes(raw)).toString('base64')}"`
    : `"${key}":${JSON.stringify(text)}`;
}

/** Seconds with nine decimals, as `touch -d @…` reads it. */
export function formatTime(ns: bigint): string {
  const digits = (ns < 0n ? -ns : ns).toString().padStart(10, '0');
  return `${ns < 0n ? '-' : ''}${digits.slice(0, -9)}.${digits.slice(-9)}`;
}

/** Some file systems keep any 64 bits of seconds, and programs that take milliseconds for seconds use them. */
const TIME = /^(-?)(\d{1,19})\.(\d{9})$/;
const MODE = /^[0-7]{4}$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;
const HEX64 = /^[0-9a-f]{64}$/;

/**
 * Parses one line. Checked by hand, not by a schema: there is one for each file.
 * @throws `damaged` when it is not a line that `entryLine` writes, or its path could leave the tree.
 */
export function parseEntryLine(line: string): Entry {
  const value = objectIn(line);
  if (!value) throw malformed('not a JSON object');
  const fields = value;
  const path = readName(fields, 'path');
  checkPath(path);
  const { type, mode, mtime, uid, gid } = fields;
  if (typeof mode !== 'string' || !MODE.test(mode)) throw malformed('mode', path);
  const time = typeof mtime === 'string' ? TIME.exec(mtime) : null;
  if (!time) throw malformed('mtime', path);
  if (!isCount(uid) || !isCount(gid)) throw malformed('owner', path);
  const magnitude = BigInt(time[2] ?? '') * 1_000_000_000n + BigInt(time[3] ?? '');
  const mtimeNs = time[1] === '-' ? -magnitude : magnitude;
  const common = { path, mode: Number.parseInt(mode, 8), mtimeNs, uid, gid, ...readExtras(fields, path) };
  switch (type) {
    case 'file': {
      const { size, chunks } = fields;
      if (!isCount(size)) throw malformed('size', path);
      if (!Array.isArray(chunks) || !chunks.every((id) => typeof id === 'string' && HEX64.test(id)))
        throw malformed('chunks', path);
      return { ...common, type, size, chunks: chunks as ChunkId[], ...readFileExtras(fields, path, size) };
    }
    case 'folder':
      return { ...common, type };
    case 'symlink': {
      const target = readName(fields, 'target');
      if (target === '' || target.includes('\0')) throw malformed('target', path);
      return { ...common, type, target };
    }
    case 'fifo':
      return { ...common, type };
    case 'device':
      return { ...common, type, device: readDevice(fields['device'], path) };
    default:
      throw malformed('type', path);
  }
}

function readDevice(value: unknown, path: RawPath): Device {
  const { kind, major, minor } = isObject(value) ? value : {};
  if ((kind !== 'block' && kind !== 'character') || !isDeviceNumber(major) || !isDeviceNumber(minor))
    throw malformed('device', path);
  return { kind, major, minor };
}

const isDeviceNumber = (value: unknown): value is number => isCount(value) && value < 2 ** 32;

function readName(fields: Record<string, unknown>, key: string): RawPath {
  const text = fields[key];
  if (typeof text === 'string') return rawFromText(text);
  const base64 = fields[`${key}Base64`];
  if (typeof base64 !== 'string' || base64 === '' || !BASE64.test(base64)) throw malformed(key);
  return rawFromBytes(Buffer.from(base64, 'base64'));
}

function readExtras({ xattrs, flags }: Record<string, unknown>, path: RawPath): Pick<EntryCommon, 'xattrs' | 'flags'> {
  const found: Pick<EntryCommon, 'xattrs' | 'flags'> = {};
  if (xattrs !== undefined) {
    if (!isObject(xattrs)) throw malformed('xattrs', path);
    found.xattrs = Object.fromEntries(
      Object.entries(xattrs).map(([name, value]) => {
        if (name === '' || name.length > NAME_MAX_BYTES || name.includes('\0')) throw malformed('xattrs', path);
        if (typeof value !== 'string' || !BASE64.test(value)) throw malformed('xattrs', path);
        return [name, new Uint8Array(Buffer.from(value, 'base64'))];
      }),
    );
  }
  if (flags !== undefined) {
    if (!Array.isArray(flags) || !flags.every((one) => typeof one === 'string')) throw malformed('flags', path);
    const known = FILE_FLAGS.filter((flag) => flags.includes(flag)); // of those to come nothing can be made
    if (known.length > 0) found.flags = known;
  }
  return found;
}

type FileExtras = Pick<FileEntry, 'hardlink' | 'holes' | 'sqlite'>;

function readFileExtras(fields: Record<string, unknown>, path: RawPath, size: number): FileExtras {
  const { holes, sqlite } = fields;
  const found: FileExtras = {};
  if (fields['hardlink'] !== undefined || fields['hardlinkBase64'] !== undefined) {
    found.hardlink = readName(fields, 'hardlink');
    checkPath(found.hardlink);
    if (comparePaths(found.hardlink, path) >= 0) throw malformed('hardlink', path);
  }
  if (holes !== undefined) found.holes = readHoles(holes, path, size);
  if (sqlite !== undefined) {
    const rows = isObject(sqlite) ? sqlite['rows'] : undefined;
    if (!isObject(rows) || !Object.values(rows).every(isCount)) throw malformed('sqlite', path);
    found.sqlite = { rows: rows as Record<string, number> };
  }
  return found;
}

/** Ascending, apart from each other, within the file. */
function readHoles(value: unknown, path: RawPath, size: number): Hole[] {
  if (!Array.isArray(value)) throw malformed('holes', path);
  let end = -1;
  return value.map((pair: unknown) => {
    const [offset, length] = Array.isArray(pair) ? (pair as unknown[]) : [];
    if (!isCount(offset) || !isCount(length) || offset <= end || length === 0 || offset + length > size)
      throw malformed('holes', path);
    end = offset + length;
    return { offset, length };
  });
}

/** Empty, `.` or `..` between slashes, or a NUL. */
const NO_NAME = /(?:^|\/)\.{0,2}(?:\/|$)|\0/;

/** @throws `damaged` for a path that no scan produces and that might lead out of the target: absolute, `..`, `.`, empty names, NUL, too long. */
function checkPath(path: RawPath): void {
  if (path === ROOT || (path.length <= NAME_MAX_BYTES && !NO_NAME.test(path))) return;
  if (path.length > PATH_MAX_BYTES) throw malformed('path too long', path);
  for (const name of path.split('/')) {
    if (name === '' || name === '.' || name === '..' || name.length > NAME_MAX_BYTES || name.includes('\0')) {
      throw malformed('a path that leads out of the tree or is no path', path);
    }
  }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function malformed(what: string, path?: RawPath): HoldfastError {
  const where = path === undefined ? '' : ` for ${JSON.stringify(rawForDisplay(path))}`;
  return new HoldfastError('damaged', `the manifest has a malformed entry${where}: ${what}`, {
    hint: 'Nothing was written for it. Restore an older snapshot, and run `holdfast verify --level chunks`.',
  });
}

/**
 * Reads entries from the manifest's bytes, in order, and checks the tree as a whole: paths strictly ascending, the root first, and the
 * parent of each entry a folder of the manifest. So no entry can lie below a symlink or a file.
 * @param isWanted files for which it is false are left out, and only their paths are looked at: a manifest is long, and one file soon found.
 * @throws `damaged`
 */
export async function* readEntries(
  pieces: AsyncIterable<Uint8Array>,
  isWanted: (path: RawPath) => boolean = () => true,
): AsyncGenerator<Entry> {
  const splitter = new LineSplitter(MANIFEST_LINE_MAX_BYTES);
  const order = new TreeOrder();
  for await (const piece of pieces) {
    for (const line of splitter.push(piece)) {
      const { path, isFile } = glanceAtLine(line);
      const entry = isFile && !isWanted(path) ? undefined : parseEntryLine(line);
      if (!entry) checkPath(path);
      order.check(entry?.path ?? path, entry?.type === 'folder');
      if (entry) yield entry;
    }
  }
  splitter.end();
  order.end();
}

/** Whether paths come in the order of a walk, each below a folder that came before. */
class TreeOrder {
  /** The root and the folders down to the current place. */
  readonly #folders: RawPath[] = [];
  #previous: RawPath | undefined;

  check(path: RawPath, isFolder: boolean): void {
    const folders = this.#folders;
    if (this.#previous === undefined) {
      if (path !== ROOT || !isFolder) throw malformed('the first entry is not the root folder', path);
    } else {
      if (comparePaths(this.#previous, path) >= 0) throw malformed('paths are not in order', path);
      const parent = parentOf(path);
      while (folders.length > 0 && folders.at(-1) !== parent) folders.pop();
      if (folders.length === 0) throw malformed('its parent is not a folder', path);
    }
    if (isFolder) folders.push(path);
    this.#previous = path;
  }

  end(): void {
    if (this.#previous === undefined) throw malformed('it is empty');
  }
}
