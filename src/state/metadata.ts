/**
 * What an entry has besides its contents: whether what is there has it, and giving it. One way for a tree that is new and for one that is
 * restored over.
 */
import { fchmodSync, fchownSync, fstatSync, type BigIntStats } from 'node:fs';
import type { Entry } from '../entry.ts';
import type { RawPath } from '../raw-path.ts';
import { dropAcls, isLabel, lacksAttributes, setFlags, setXattrs } from './attributes.ts';
import type { TimeSetter } from './exact-times.ts';
import { Held, Refusal } from './held-folder.ts';
import { Losses, type Metadata } from './losses.ts';
import { leniently } from './refusals.ts';

const SETUID_SETGID = 0o6000;

const isRoot = (): boolean => process.geteuid?.() === 0;

/** Whether it will have the recorded owner; only root may give things away. */
const isOurs = ({ uid, gid }: Metadata): boolean => uid === process.geteuid?.() && gid === process.getegid?.();

/** Setuid and setgid only together with their owner: they would lend another user's rights than they were meant to. */
const modeFor = (type: Entry['type'], mode: number, isOwned: boolean): number =>
  type === 'file' && !isOwned ? mode & ~SETUID_SETGID : mode;

/**
 * Whether what is at an absolute path lacks something that this user can give it. What it has more (an attribute, a flag) is let be, but for
 * ACLs, which are rights like the mode.
 */
export function metadataDiffers(entry: Entry, path: RawPath, now: BigIntStats): boolean {
  return metadataDifferences(entry, path, now).next().done !== true;
}

/** What it lacks, by the kind under which a restore would tell that it could not give it. */
export function* metadataDifferences(
  entry: Entry,
  path: RawPath,
  now: BigIntStats,
): Generator<'times_rounded' | 'mode_not_restored' | 'owner_not_restored' | 'xattrs_not_restored'> {
  const root = isRoot();
  if (now.mtimeNs !== entry.mtimeNs) yield 'times_rounded';
  const mode = modeFor(entry.type, entry.mode, root || isOurs(entry));
  if (entry.type !== 'symlink' && (Number(now.mode) & 0o7777) !== mode) yield 'mode_not_restored';
  if (root && (Number(now.uid) !== entry.uid || Number(now.gid) !== entry.gid)) yield 'owner_not_restored';
  if (lacksAttributes(path, entry, { withLabels: root })) yield 'xattrs_not_restored';
}

/**
 * Whether a file that is there may be given its metadata by root, or has to be replaced: what it holds may be another's work by the time that it is
 * given an owner or rights, and under another name it may be another's file.
 */
export function isSafeToGive({ uid, gid, mode, xattrs = {} }: Metadata, now: BigIntStats): boolean {
  const isSame = Number(now.uid) === uid && Number(now.gid) === gid;
  return isSame && (mode & SETUID_SETGID) === 0 && !Object.keys(xattrs).some(isLabel);
}

const ANOTHER_FILE = 'it is another file by now';

/** Of one restore. */
export class MetadataWriter {
  /** What could not be given. */
  readonly losses = new Losses();
  readonly #times: TimeSetter;

  constructor(times: TimeSetter) {
    this.#times = times;
  }

  /**
   * Of an open file that is new.
   * @param isIn whether it took over the ACLs of a folder that was there before the restore.
   */
  toFile(fd: number, file: Metadata, { isIn = false } = {}): BigIntStats {
    const isOwned = isRoot() ? leniently(() => fchownSync(fd, file.uid, file.gid)) : isOurs(file);
    if (isIn) this.losses.countXattrs(dropAcls(fd, Object.keys(file.xattrs ?? {})), file.path);
    this.#setXattrs(fd, file);
    leniently(() => fchmodSync(fd, modeFor('file', file.mode, isOwned)));
    leniently(() => this.#times.ofFile(fd, file.mtimeNs));
    const now = fstatSync(fd, { bigint: true });
    this.losses.compare(file, now);
    return now;
  }

  /**
   * Of what is at an absolute path, which is of that type: owner first, as changing it clears setuid and capabilities; attributes before mode,
   * as ACLs change it; times last. Flags are for `setFlags`.
   * @param isOld whether it was there before the restore, or took over the ACLs of a folder that was.
   * @throws Refusal when something else has taken its place
   */
  toPath(path: RawPath, entry: Metadata, type: Entry['type'], { isOld = false } = {}): void {
    const root = isRoot();
    using held = new Held(path, type);
    if (isOld && type === 'file' && root && !isSafeToGive(entry, held.stat())) throw new Refusal(ANOTHER_FILE);
    const isOwned = root ? leniently(() => held.chown(entry)) : isOurs(entry);
    const chmod = (mode: number) => {
      if (type !== 'symlink') leniently(() => held.chmod(mode));
    };
    const mode = modeFor(type, entry.mode, isOwned);
    if (isOld) {
      if (entry.xattrs && !root) chmod(mode | 0o600); // only who may write to it may set them
      this.losses.countXattrs(dropAcls(held.place, Object.keys(entry.xattrs ?? {})), entry.path);
    }
    this.#setXattrs(held.place, entry);
    chmod(mode);
    leniently(() => this.#times.ofPath(held.place, entry.mtimeNs));
    this.losses.compare(entry, held.stat());
  }

  /** Of what is at an absolute path, when nothing more is to be done to it or in it: an immutable file cannot be changed any more, nor moved. */
  setFlags(path: RawPath, entry: Metadata): void {
    if (entry.flags && !setFlags(path, entry.flags)) this.losses.count('flags_not_restored', entry.path);
  }

  #setXattrs(place: Parameters<typeof setXattrs>[0], { xattrs, path }: Metadata): void {
    if (xattrs) this.losses.countXattrs(setXattrs(place, xattrs), path);
  }
}
