/** A folder of a snapshot as a tar archive (POSIX pax), for a download. */
import { Header } from 'tar/header';
import type { Entry, FileEntry } from '../../entry.ts';
import { HoldfastError } from '../../errors.ts';
import { parentOf, rawToText, type RawPath } from '../../raw-path.ts';
import { formatTime } from '../../repository/repository.ts';
import { isBelow } from './selection.ts';

const BLOCK_BYTES = 512;

/**
 * The archive, piece by piece; a piece is valid until the next is asked for. Names in it begin with the last name of `top` (with `name` for the root).
 * A name that is no UTF-8 is kept byte for byte, as GNU tar and bsdtar do. What another name of a file was becomes a hard link when that other name is
 * in the archive. Extended attributes, ACLs and flags are not in it.
 * @param entries `top` and all below it, in the order of the manifest.
 * @throws what `content` throws, in the middle of the archive.
 */
export async function* tarOf(
  entries: Iterable<Entry>,
  { top, name, content }: { top: RawPath; name: RawPath; content: (file: FileEntry) => AsyncIterable<Uint8Array> },
): AsyncGenerator<Uint8Array> {
  const cut = top === '' ? 0 : parentOf(top) === '' ? 0 : parentOf(top).length + 1;
  const nameOf = (path: RawPath) =>
    (top === '' ? (path === '' ? name : `${name}/${path}`) : path.slice(cut)) as RawPath;
  for (const entry of entries) {
    const link = entry.type === 'file' && entry.hardlink !== undefined && isBelow(entry.hardlink, top);
    const target =
      entry.type === 'symlink'
        ? entry.target
        : link && entry.hardlink !== undefined
          ? nameOf(entry.hardlink)
          : undefined;
    const size = entry.type === 'file' && !link ? entry.size : 0;
    yield headers(entry, { name: nameOf(entry.path), target, size, link });
    if (entry.type !== 'file' || link) continue;
    let sent = 0;
    for await (const piece of content(entry)) {
      sent += piece.length;
      yield piece;
    }
    if (sent !== size) throw new HoldfastError('damaged', 'a file is not as long as its entry says');
    if (size % BLOCK_BYTES > 0) yield new Uint8Array(BLOCK_BYTES - (size % BLOCK_BYTES));
  }
  yield new Uint8Array(2 * BLOCK_BYTES);
}

const TYPES = { file: 'File', folder: 'Directory', symlink: 'SymbolicLink', fifo: 'FIFO' } as const;
const DEVICES = { block: 'BlockDevice', character: 'CharacterDevice' } as const;

interface Shape {
  name: RawPath;
  target: RawPath | undefined;
  size: number;
  link: boolean;
}

/** The pax header, which has everything exactly, and the plain one with what fits into it. */
function headers(entry: Entry, { name, target, size, link }: Shape): Uint8Array {
  const path = (entry.type === 'folder' ? `${name}/` : name) as RawPath;
  const records: [string, RawPath | string][] = [
    ['path', path],
    ['mtime', formatTime(entry.mtimeNs)],
    ['size', String(size)],
    ['uid', String(entry.uid)],
    ['gid', String(entry.gid)],
  ];
  if (target !== undefined) records.push(['linkpath', target]);
  const isText = rawToText(path) !== undefined && (target === undefined || rawToText(target) !== undefined);
  if (!isText) records.unshift(['hdrcharset', 'BINARY']);
  const body = Buffer.from(records.map(([key, value]) => record(key, value)).join(''), 'latin1');
  const type = link ? 'Link' : entry.type === 'device' ? DEVICES[entry.device.kind] : TYPES[entry.type];
  const numbers = entry.type === 'device' ? { devmaj: entry.device.major, devmin: entry.device.minor } : {};
  return Buffer.concat([
    block({ path: 'pax', size: body.length, type: 'ExtendedHeader', mode: 0o600 }),
    body,
    Buffer.alloc((BLOCK_BYTES - (body.length % BLOCK_BYTES)) % BLOCK_BYTES),
    block({ path: 'entry', size, type, ...numbers, mode: entry.mode, linkpath: target === undefined ? '' : 'target' }),
  ]);
}

function block(data: ConstructorParameters<typeof Header>[0]): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  const fields = { uid: 0, gid: 0, mtime: new Date(0), ...(data as object) };
  new Header(fields).encode(bytes);
  return bytes;
}

/** `LENGTH KEY=VALUE\n`, where the length counts itself. */
function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (`${length}${rest}`.length !== length) length = `${length}${rest}`.length;
  return `${length}${rest}`;
}
