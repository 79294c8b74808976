/** What a tree on disk is, told without any of holdfast's own code: for the golden repository's expectations. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, readFileSync } from 'node:fs';

/** One entry; a path or target that is no UTF-8 is given in Base64 instead. */
export interface Listed {
  path?: string;
  pathBase64?: string;
  type: 'file' | 'folder' | 'symlink' | 'fifo' | 'device';
  /** Octal, without leading zeros. */
  mode: string;
  /** Seconds since 1970 with nine decimals, as `find` prints it. */
  mtime: string;
  uid: number;
  gid: number;
  size?: number;
  sha256?: string;
  target?: string;
  targetBase64?: string;
}

const TYPES: Readonly<Record<string, Listed['type']>> = {
  f: 'file',
  d: 'folder',
  l: 'symlink',
  p: 'fifo',
  c: 'device',
};

/** Every entry below `root` and the root itself (path ''), sorted by the bytes of the paths. Makes unreadable files readable. */
export function listTree(root: string): Listed[] {
  const { stdout } = spawnSync('find', [root, '-printf', '%P\\0%y\\0%m\\0%T@\\0%U\\0%G\\0%l\\0'], {
    encoding: 'latin1',
  });
  const fields = stdout.split('\0').slice(0, -1);
  const rows = Array.from({ length: fields.length / 7 }, (_, i) => fields.slice(i * 7, i * 7 + 7));
  rows.sort(([a = ''], [b = '']) => (a < b ? -1 : 1));
  return rows.map(([path = '', kind = '', mode = '', mtime = '', uid, gid, target = '']) => {
    const type = TYPES[kind];
    if (type === undefined) throw new Error(`${path} is of type ${kind}`);
    return {
      ...named('path', path),
      type,
      mode,
      // find prints ten decimals, the last a zero
      mtime: mtime.replace(/(\.\d{9})0$/, '$1'),
      uid: Number(uid),
      gid: Number(gid),
      ...(type === 'file' ? contents(Buffer.from(`${root}/${path}`, 'latin1')) : {}),
      ...(type === 'symlink' ? named('target', target) : {}),
    };
  });
}

function named(name: 'path' | 'target', raw: string): Partial<Listed> {
  const bytes = Buffer.from(raw, 'latin1');
  const text = bytes.toString('utf8');
  return Buffer.from(text).equals(bytes) ? { [name]: text } : { [`${name}Base64`]: bytes.toString('base64') };
}

function contents(path: Buffer): { size: number; sha256: string } {
  if (process.getuid?.() !== 0) chmodSync(path, 0o600);
  const bytes = readFileSync(path);
  return { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}
