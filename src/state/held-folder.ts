/**
 * Folders held open, so that what is done in them is done in them and not where a name leads by now: whoever may write to a folder can exchange
 * what it holds for a link at any moment. Node has no `openat`; on Linux `/proc/self/fd/N/name` is the same, for every call that takes a path.
 *
 * Where there is no `/proc` (other systems) paths are looked at just before they are used, which leaves a moment.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fstatSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  statSync,
  type BigIntStats,
} from 'node:fs';
import type { Entry, EntryCommon } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import { PATH_MAX_BYTES } from '../limits.ts';
import { ROOT, rawForDisplay, rawFromText, rawToFs, type RawPath } from '../raw-path.ts';
import { leniently } from './refusals.ts';
import { makeFolders, statOf } from './target-folder.ts';
import { absoluteIn } from './tree-path.ts';

/** Of Linux, on every architecture that Node runs on: opens nothing, so it needs no right to what it names, and wakes no device. */
const O_PATH = 0x20_0000;
const O_FOLDER = O_PATH | constants.O_DIRECTORY;

let proc: boolean | undefined;

/** Whether paths can begin at a descriptor here. */
export function canHold(): boolean {
  return (proc ??= process.platform === 'linux' && isProcThere());
}

function isProcThere(): boolean {
  const fd = openSync('/', O_FOLDER);
  try {
    const [held, root] = [statSync(descriptorPath(fd)), statSync('/')];
    return held.ino === root.ino && held.dev === root.dev;
  } catch {
    return false;
  } finally {
    closeSync(fd);
  }
}

const descriptorPath = (fd: number): string => `/proc/self/fd/${fd}`;

/** A path that stays that of the folder itself in calls that follow no link. */
const folderPath = (fd: number): RawPath => rawFromText(`${descriptorPath(fd)}/.`);

/** What is in the way of one entry, and of no other: somebody has exchanged something while it was worked on. */
export class Refusal extends Error {}

export class HeldFolder implements Disposable {
  /** Leads to the folder as long as it is held, whatever becomes of its name. Without `/proc` its real path. */
  readonly path: RawPath;
  #nameBytes: number | undefined;
  #fd: number | undefined;
  readonly #isHeld: boolean;
  /** The folder below that was asked for last. */
  #inner: { path: RawPath; folder: HeldFolder } | undefined;

  private constructor(fd: number | undefined, path: RawPath) {
    this.#fd = fd;
    this.#isHeld = fd !== undefined;
    this.path = path;
  }

  /**
   * @param how whether a link at the end of the path is followed.
   * @throws a system error; ENOTDIR for a link that is not followed.
   */
  static open(path: string | RawPath, how: 'follow' | 'no-follow'): HeldFolder {
    const raw = path as RawPath;
    if (!canHold()) {
      const real = realpathSync.native(rawToFs(raw), 'latin1') as RawPath;
      if (how === 'no-follow' && statOf(raw).isSymbolicLink())
        throw Object.assign(new Error('ENOTDIR: a link'), { code: 'ENOTDIR', errno: -20 });
      return new HeldFolder(undefined, real);
    }
    const fd = openSync(rawToFs(raw), O_FOLDER | (how === 'follow' ? 0 : constants.O_NOFOLLOW));
    return new HeldFolder(fd, folderPath(fd));
  }

  /**
   * A folder by the path that a user has given. Links on the way are followed where nobody else can exchange them.
   * @param isNew that it is to be made, with the folders that lead to it (mode 0700); EEXIST when something is there.
   * @throws HoldfastError `io` for a link in the hands of others; a system error
   */
  static reach(path: string, { isNew = false } = {}): HeldFolder {
    if (!canHold()) {
      if (isNew) makeFolders(path);
      return HeldFolder.open(path, isNew ? 'no-follow' : 'follow');
    }
    const names = namesOf(rawFromText(path));
    let folder = HeldFolder.open('/', 'no-follow');
    try {
      for (let links = 0, name = names.shift(); name !== undefined; name = names.shift()) {
        const at = absoluteIn(folder.path, name);
        const isToBeMade = isNew && (names.length === 0 || !lstatSync(rawToFs(at), { throwIfNoEntry: false }));
        if (isToBeMade) mkdirSync(rawToFs(at), 0o700);
        let next: HeldFolder;
        if (!isToBeMade && lstatSync(rawToFs(at)).isSymbolicLink()) {
          checkLink(folder, at);
          if (++links > LINKS_MAX) throw Object.assign(new Error('ELOOP'), { code: 'ELOOP', errno: -40 });
          const target = readlinkSync(rawToFs(at), 'latin1') as RawPath;
          names.unshift(...namesOf(target));
          next = HeldFolder.open(target.startsWith('/') ? '/' : folder.path, 'no-follow');
        } else next = HeldFolder.open(at, 'no-follow');
        folder[Symbol.dispose]();
        folder = next;
      }
      return folder;
    } catch (error) {
      folder[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * The path of a folder of this tree, held until the next is asked for. Links on the way are not followed.
   * @throws Refusal when one is in the way; a system error
   */
  folder(path: RawPath): RawPath {
    if (path === ROOT) return this.path;
    if (!this.#isHeld) return this.#checked(absoluteIn(this.path, path));
    if (this.#inner?.path === path) return this.#inner.folder.path;
    this.#letGo();
    let folder: HeldFolder | undefined;
    try {
      for (const name of path.split('/')) {
        const next = HeldFolder.open(absoluteIn(folder?.path ?? this.path, name as RawPath), 'no-follow');
        folder?.[Symbol.dispose]();
        folder = next;
      }
    } catch (error) {
      folder?.[Symbol.dispose]();
      if (['ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? ''))
        throw new Refusal(LINK_IN_THE_WAY);
      throw error;
    }
    this.#inner = { path, folder: folder as HeldFolder };
    return this.#inner.folder.path;
  }

  /** The path of an entry whose folder is held, until the next is asked for. @throws as `folder` */
  at(path: RawPath): RawPath {
    const slash = path.lastIndexOf('/');
    return slash < 0
      ? absoluteIn(this.path, path)
      : absoluteIn(this.folder(path.slice(0, slash) as RawPath), path.slice(slash + 1) as RawPath);
  }

  stat(): BigIntStats {
    return statOf(this.path);
  }

  /** Throws ENAMETOOLONG for what could be made here, and then not be opened by its name. */
  checkLength(path: RawPath): void {
    this.#nameBytes ??= realpathSync.native(rawToFs(this.path), 'latin1').length;
    if (this.#nameBytes + 1 + path.length < PATH_MAX_BYTES) return;
    throw Object.assign(new Error('ENAMETOOLONG'), { code: 'ENAMETOOLONG', errno: -36 });
  }

  [Symbol.dispose](): void {
    this.#letGo();
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #letGo(): void {
    this.#inner?.folder[Symbol.dispose]();
    this.#inner = undefined;
  }

  #checked(path: RawPath): RawPath {
    if (realpathSync.native(rawToFs(path), 'latin1') !== path) throw new Refusal(LINK_IN_THE_WAY);
    return path;
  }
}

const namesOf = (path: RawPath): RawPath[] =>
  path.split('/').filter((name) => name !== '' && name !== '.') as RawPath[];

/** As many as Linux follows. */
const LINKS_MAX = 40;

/** @throws `io` when others could exchange the link. */
function checkLink(folder: HeldFolder, at: RawPath): void {
  const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  const isTrusted = (owner: bigint) => owner === 0n || Number(owner) === uid;
  const { mode, uid: owner, gid: group } = folder.stat();
  const isSticky = (mode & 0o1000n) !== 0n;
  const isShared = (mode & 0o002n) !== 0n || ((mode & 0o020n) !== 0n && group !== 0n && Number(group) !== gid);
  if (isTrusted(owner) && (!isShared || (isSticky && isTrusted(statOf(at).uid)))) return;
  const shown = rawForDisplay(realpathSync.native(rawToFs(folder.path), 'latin1') as RawPath);
  throw new HoldfastError('io', `the target lies behind a link in ${shown}, where others can lead it elsewhere`, {
    hint: 'Name the folder itself that the link leads to.',
  });
}

const LINK_IN_THE_WAY = 'a link is in the way by now, where a folder was';

const TYPE_BITS: Record<Entry['type'], readonly number[]> = {
  file: [0o100000],
  folder: [0o040000],
  symlink: [0o120000],
  fifo: [0o010000],
  device: [0o020000, 0o060000],
};

/** One thing in the file system, the same for all that is done to it, whatever takes its name. */
export class Held implements Disposable {
  readonly #path: RawPath;
  /** Undefined without `/proc`. */
  readonly descriptor: number | undefined;

  /**
   * @param path absolute, in a folder that is held; a link at its end is not followed.
   * @throws Refusal when it is another kind of thing; a system error
   */
  constructor(path: RawPath, type: Entry['type']) {
    this.#path = path;
    this.descriptor = canHold() ? openSync(rawToFs(path), O_PATH | constants.O_NOFOLLOW) : undefined;
    if (TYPE_BITS[type].includes(Number(this.stat().mode) & 0o170000)) return;
    this[Symbol.dispose]();
    throw new Refusal('it is another thing by now');
  }

  /** What calls for attributes and times take: of a descriptor, the thing itself. */
  get place(): RawPath | { descriptor: number } {
    return this.descriptor === undefined ? this.#path : { descriptor: this.descriptor };
  }

  stat(): BigIntStats {
    return this.descriptor === undefined ? statOf(this.#path) : fstatSync(this.descriptor, { bigint: true });
  }

  chown({ uid, gid }: Pick<EntryCommon, 'uid' | 'gid'>): void {
    if (this.descriptor === undefined) lchownSync(rawToFs(this.#path), uid, gid);
    else chownSync(descriptorPath(this.descriptor), uid, gid);
  }

  /** Not of a symbolic link. */
  chmod(mode: number): void {
    chmodSync(this.descriptor === undefined ? rawToFs(this.#path) : descriptorPath(this.descriptor), mode);
  }

  [Symbol.dispose](): void {
    if (this.descriptor !== undefined) closeSync(this.descriptor);
  }
}

/**
 * Makes a folder that holds nothing one that only its owner, who is this user, can reach.
 * @throws `io` when it is in the hands of others.
 */
export function closeToOthers(folder: HeldFolder, shown: string): void {
  const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  using held = new Held(folder.path, 'folder');
  const owner = Number(held.stat().uid);
  if (uid === 0 && owner !== uid) leniently(() => held.chown({ uid, gid }));
  if (leniently(() => held.chmod(0o700))) return;
  const isOfRoot = owner === 0;
  const mode = Number(held.stat().mode);
  const isShared = (mode & 0o022) !== 0 && (mode & 0o1000) === 0;
  if (isOfRoot && !isShared) return;
  throw new HoldfastError('io', `others can write to the target ${shown}, and could exchange what is restored`, {
    hint: 'Name a folder in it that does not exist yet: it is made for you alone.',
  });
}

/** Gives a folder the owner and mode back that it had. */
export function reopen(folder: HeldFolder, { uid, gid, mode }: BigIntStats): void {
  using held = new Held(folder.path, 'folder');
  const now = held.stat();
  const isOther = now.uid !== uid || now.gid !== gid;
  if (isOther) leniently(() => held.chown({ uid: Number(uid), gid: Number(gid) }));
  leniently(() => held.chmod(Number(mode) & 0o7777));
}

let lastRoot: { root: RawPath; real: RawPath } | undefined;

/**
 * Whether an open file is the one at `path` in the tree at `root`, reached through no link below the root.
 * @throws Refusal when a link is in the way; a system error
 */
export function isInTree(fd: number, root: RawPath, path: RawPath): boolean {
  if (!canHold()) return true;
  if (lastRoot?.root !== root) lastRoot = { root, real: realpathSync.native(rawToFs(root), 'latin1') as RawPath };
  if (readlinkSync(descriptorPath(fd), 'latin1') === absoluteIn(lastRoot.real, path)) return true;
  // Renamed or removed by now, or a name in another spelling, where the file system takes the two for one.
  using tree = HeldFolder.open(root, 'follow');
  using held = new Held(tree.at(path), 'file');
  return isSame(held.stat(), fstatSync(fd, { bigint: true }));
}

const isSame = (a: BigIntStats, b: BigIntStats): boolean => a.ino === b.ino && a.dev === b.dev;

/** Whether this process has an open file open by another descriptor too: whether one that opens by a name (SQLite) has that very file. */
export function isOpenTwice(fd: number): boolean {
  if (!canHold()) return true;
  const wanted = fstatSync(fd, { bigint: true });
  return readdirSync('/proc/self/fd').some((name) => {
    if (Number(name) === fd) return false;
    try {
      return isSame(statSync(descriptorPath(Number(name)), { bigint: true }), wanted);
    } catch {
      return false; // closed by now
    }
  });
}
