/** What a file system knows of an entry besides its contents, mode, owner and time: extended attributes (POSIX ACLs among them), flags, holes. */
import { closeSync, constants, openSync } from 'node:fs';
import { FILE_FLAGS, type EntryCommon, type FileFlag, type Hole } from '../entry.ts';
import { systemErrorCode } from '../errors.ts';
import { HOLES_MAX, XATTRS_MAX_BYTES } from '../limits.ts';
import { rawToFs, rawToText, type RawPath } from '../raw-path.ts';
import { cString, linux, type Linux, type Place } from './linux.ts';
import { isGone, isSystemError, reasonOf } from './system-error.ts';

export type Attributes = Pick<EntryCommon, 'xattrs' | 'flags'>;

export interface AttributesRead extends Attributes {
  /** Why some of them could not be had, and what. */
  problem?: string;
}

/** False where this machine gives no way to read or set attributes, holes and special files: they are then lost, and it should be said. */
export function canReadAttributes(): boolean {
  return linux() !== undefined;
}

/** Labels that the machine gives by its own policy, and takes from nobody: they are of the machine and not of the state. */
const OF_THE_MACHINE = ['security.selinux', 'security.ima', 'security.evm', 'security.apparmor', 'security.SMACK64'];

/** What only root may give. */
export const isLabel = (name: string): boolean => /^(?:security|trusted)\./.test(name);

const FLAG_BITS: Record<FileFlag, number> = { append: 0x20, immutable: 0x10, nodump: 0x40 };

/** What the kernel has no such thing for, on this file system or for this kind of entry. */
const HAS_NONE = ['ENOTSUP', 'EOPNOTSUPP', 'ENOTTY', 'EINVAL', 'ENOSYS'];

/** A descriptor, an absolute path whose last link is not followed, or what was opened as a path only. */
type At = number | RawPath | { descriptor: number };

const placeOf = (at: At): Place => (typeof at === 'string' ? cString(at) : at);

let buffers: { list: Uint8Array; value: Uint8Array } | undefined;

/** Of an open file. Two system calls where there is nothing. */
export function attributesOfFile(fd: number): AttributesRead {
  const calls = linux();
  return calls === undefined ? {} : join(xattrsOf(calls, fd), flagsOf(calls, fd));
}

/** Of the file or folder, or the link, FIFO or device, at an absolute path. */
export function attributesAt(path: RawPath, kind: 'file' | 'folder' | 'other'): AttributesRead {
  const calls = linux();
  if (calls === undefined) return {};
  if (kind === 'other') return xattrsOf(calls, cString(path));
  let fd: number;
  try {
    const how = kind === 'folder' ? constants.O_DIRECTORY : constants.O_NONBLOCK;
    fd = openSync(rawToFs(path), constants.O_RDONLY | constants.O_NOFOLLOW | how);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (isGone(error)) return {};
    // Whoever may not list it is told so by the scan.
    const problem = systemErrorCode(error) === 'EACCES' ? {} : { problem: `flags: ${reasonOf(error)}` };
    return join(xattrsOf(calls, cString(path)), problem);
  }
  try {
    return join(xattrsOf(calls, fd), flagsOf(calls, fd));
  } finally {
    closeSync(fd);
  }
}

function join(one: AttributesRead, other: AttributesRead): AttributesRead {
  const problems = [one.problem, other.problem].filter((problem) => problem !== undefined);
  return { ...one, ...other, ...(problems.length > 0 ? { problem: problems.join('; ') } : {}) };
}

function xattrsOf(calls: Linux, place: Place): AttributesRead {
  buffers ??= { list: new Uint8Array(XATTRS_MAX_BYTES), value: new Uint8Array(XATTRS_MAX_BYTES) };
  const { list, value } = buffers;
  const found: Record<string, Uint8Array> = {};
  const problems: string[] = [];
  try {
    const length = calls.listXattrs(place, list);
    if (length === 0) return {};
    const names = Buffer.from(list.subarray(0, length)).toString('latin1').split('\0').slice(0, -1);
    for (const raw of names.toSorted()) {
      if (OF_THE_MACHINE.includes(raw)) continue;
      const name = rawToText(raw as RawPath);
      if (name === undefined) {
        problems.push('an attribute whose name is no UTF-8');
        continue;
      }
      try {
        found[name] = value.slice(0, calls.getXattr(place, raw, value));
      } catch (error) {
        // Taken away since it was listed.
        if (systemErrorCode(error) !== 'ENODATA') problems.push(`${JSON.stringify(name)}: ${reasonOf(error)}`);
      }
    }
  } catch (error) {
    const code = systemErrorCode(error) ?? '';
    if (!HAS_NONE.includes(code) && !isGone(error)) problems.push(`extended attributes: ${reasonOf(error)}`);
  }
  return {
    ...(Object.keys(found).length > 0 ? { xattrs: found } : {}),
    ...(problems.length > 0 ? { problem: problems.join('; ') } : {}),
  };
}

function flagsOf(calls: Linux, fd: number): AttributesRead {
  try {
    const bits = calls.getFlags(fd);
    const flags = FILE_FLAGS.filter((flag) => bits & FLAG_BITS[flag]);
    return flags.length > 0 ? { flags } : {};
  } catch (error) {
    return HAS_NONE.includes(systemErrorCode(error) ?? '') ? {} : { problem: `flags: ${reasonOf(error)}` };
  }
}

/**
 * The stretches of an open file that take no room on the disk, ascending; what is no multiple of the file system's block is never one, but
 * at the end. Of a file with more than `HOLES_MAX` the rest counts as contents. None where they cannot be asked for.
 */
export function holesOf(fd: number, size: number): Hole[] {
  const calls = linux();
  const holes: Hole[] = [];
  if (calls === undefined) return holes;
  try {
    for (let at = 0; at < size && holes.length < HOLES_MAX;) {
      const offset = calls.seek(fd, at, 'hole');
      if (offset === undefined || offset >= size) break;
      const end = Math.min(calls.seek(fd, offset, 'data') ?? size, size);
      if (end > offset) holes.push({ offset, length: end - offset });
      at = end;
    }
    return holes;
  } catch (error) {
    if (isSystemError(error)) return []; // then they are read as what they are: zeros
    throw error;
  }
}

/** @returns the names of those that the target does not take. ACLs change mode bits, so the mode is set after this. */
export function setXattrs(place: At, xattrs: NonNullable<Attributes['xattrs']>): string[] {
  const calls = linux();
  if (calls === undefined) return Object.keys(xattrs);
  const at = placeOf(place);
  return Object.entries(xattrs)
    .filter(([name, value]) => {
      try {
        calls.setXattr(at, Buffer.from(name).toString('latin1'), value);
        return false;
      } catch {
        return true;
      }
    })
    .map(([name]) => name);
}

/**
 * What is made in a folder takes its default ACL over; a restore must not, as the snapshot says what each entry had.
 * @param own also those that the folder itself was given when it was made.
 */
export function dropInheritedAcls(folder: RawPath, { own }: { own: boolean }): void {
  for (const name of own ? ['default', 'access'] : ['default']) {
    try {
      linux()?.removeXattr(cString(folder), `system.posix_acl_${name}`);
    } catch {
      // there is none
    }
  }
}

const ACLS = ['system.posix_acl_access', 'system.posix_acl_default'];

/** Takes the ACLs away, but for those that are wanted. @returns the names of those that it keeps all the same. */
export function dropAcls(at: At, wanted: readonly string[]): string[] {
  const calls = linux();
  if (calls === undefined) return [];
  const { xattrs = {} } = xattrsOf(calls, placeOf(at));
  return ACLS.filter((name) => {
    if (!(name in xattrs) || wanted.includes(name)) return false;
    try {
      calls.removeXattr(placeOf(at), name);
      return false;
    } catch {
      return true;
    }
  });
}

/**
 * Whether what is at an absolute path lacks an attribute or a flag that is wanted, has another value of it, or an ACL that is not wanted.
 * @param withLabels also those that only root may give.
 */
export function lacksAttributes(
  path: RawPath,
  { xattrs: wanted = {}, flags = [] }: Attributes,
  { withLabels }: { withLabels: boolean },
): boolean {
  const { xattrs = {} } = attributesAt(path, 'other');
  if (ACLS.some((name) => name in xattrs && !(name in wanted))) return true;
  for (const [name, value] of Object.entries(wanted)) {
    if (isLabel(name) && !withLabels) continue;
    const its = xattrs[name];
    if (!its || Buffer.compare(its, value) !== 0) return true;
  }
  return flags.some((flag) => !(flagsAt(path) & FLAG_BITS[flag]));
}

/** Of a file or folder; 0 where they cannot be asked for. */
function flagsAt(path: RawPath): number {
  let bits = 0;
  withFile(path, (calls, fd) => (bits = calls.getFlags(fd)));
  return bits;
}

/** False when the file or folder cannot be opened, or the system refuses what is done to it. */
function withFile(path: RawPath, action: (calls: Linux, fd: number) => void): boolean {
  const calls = linux();
  if (calls === undefined) return false;
  let fd: number | undefined;
  try {
    fd = openSync(rawToFs(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    action(calls, fd);
    return true;
  } catch (error) {
    if (isSystemError(error)) return false;
    throw error;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Makes a file or folder one that can be changed and removed, where it was append-only or immutable. */
export function clearFlags(path: RawPath): void {
  const bits = FLAG_BITS.append | FLAG_BITS.immutable;
  withFile(path, (calls, fd) => {
    const now = calls.getFlags(fd);
    if (now & bits) calls.setFlags(fd, now & ~bits);
  });
}

/** Adds the flags to those that the file or folder has. @returns false when the target does not take them. */
export function setFlags(path: RawPath, flags: readonly FileFlag[]): boolean {
  const bits = flags.reduce((all, flag) => all | FLAG_BITS[flag], 0);
  return withFile(path, (calls, fd) => calls.setFlags(fd, calls.getFlags(fd) | bits));
}

const S_IF = { fifo: 0o010000, character: 0o020000, block: 0o060000 };

/** A device by its numbers as the kernel packs them, and back. */
export const packDevice = (major: number, minor: number): bigint => {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return ((high & 0xfffn) << 8n) | ((high & ~0xfffn) << 32n) | (low & 0xffn) | ((low & ~0xffn) << 12n);
};
export const unpackDevice = (packed: bigint): { major: number; minor: number } => ({
  major: Number(((packed >> 8n) & 0xfffn) | ((packed >> 32n) & 0xffff_f000n)),
  minor: Number((packed & 0xffn) | ((packed >> 12n) & 0xffff_ff00n)),
});

/** Makes a FIFO or device, for its owner only. Throws a system error: `ENOSYS` where this machine has no way to do it. */
export function makeSpecial(
  path: RawPath,
  what: { type: 'fifo' } | { type: 'device'; device: { kind: 'block' | 'character'; major: number; minor: number } },
): void {
  const calls = linux();
  if (calls === undefined) throw Object.assign(new Error('no mknod'), { code: 'ENOSYS', errno: -38 });
  if (what.type === 'fifo') calls.makeNode(cString(path), S_IF.fifo | 0o600, 0n);
  else calls.makeNode(cString(path), S_IF[what.device.kind] | 0o600, packDevice(what.device.major, what.device.minor));
}
