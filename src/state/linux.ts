/**
 * The calls of Linux that `node:fs` lacks and a tree cannot be kept whole without: extended attributes, flags, holes, special files. Through
 * `koffi`, as in libc.ts, and like there whoever uses them must do without where they are missing.
 */
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

/** A descriptor; an absolute path as bytes that end in NUL, of which the last link is not followed; or a descriptor that was opened as a path only. */
export type Place = number | Uint8Array | { descriptor: number };

/** Each throws a system error, as `node:fs` does, where the kernel refuses. */
export interface Linux {
  /** The names, each with a NUL behind it, go to `into`. @returns their length; with `into` empty how long it has to be. */
  listXattrs(place: Place, into: Uint8Array): number;
  /** @param name as bytes in latin1. @returns the length of the value, which goes to `into`. */
  getXattr(place: Place, name: string, into: Uint8Array): number;
  setXattr(place: Place, name: string, value: Uint8Array): void;
  removeXattr(place: Place, name: string): void;
  /** `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS`. */
  getFlags(fd: number): number;
  setFlags(fd: number, flags: number): void;
  /** Where the next data or hole begins, at or after `offset`; undefined when there is none before the end. */
  seek(fd: number, offset: number, to: 'data' | 'hole'): number | undefined;
  /** Locks a file open for writing as SQLite does for itself alone, until it is closed; false when somebody has it. */
  lock(fd: number): boolean;
  /** `mknod`: `mode` has the type. `device` as the kernel packs it, 0 for a FIFO. */
  makeNode(path: Uint8Array, mode: number, device: bigint): void;
}

/** A path, or the name of an attribute, as C takes it. */
export function cString(raw: string): Uint8Array {
  return Buffer.from(`${raw}\0`, 'latin1');
}

let cached: { linux: Linux | undefined } | undefined;

/** Loaded at the first call; undefined on other systems, and where koffi is missing. */
export function linux(): Linux | undefined {
  cached ??= { linux: loadLinux(() => createRequire(import.meta.url)('koffi') as unknown) };
  return cached.linux;
}

type Call = (...values: unknown[]) => unknown;

/** The part of `koffi` that is used. */
interface Koffi {
  errno(): number;
  load(library: null): { func(name: string, result: string, parameters: string[]): Call };
}

const SEEK = { data: 3, hole: 4 };
/** As on the architectures of which these are the numbers; MIPS, PowerPC and SPARC have others. */
const ARCHITECTURES = ['x64', 'arm64', 'riscv64', 'loong64'];
const GET_FLAGS = 0x8008_6601;
const SET_FLAGS = 0x4008_6602;
const ENXIO = 6;
const [EAGAIN, EACCES] = [11, 13];
/** A lock that belongs to the open file and not to the process, so that two runs in one process exclude each other too. */
const F_OFD_SETLK = 37;
/** `struct flock`: F_WRLCK from SEEK_SET, over the bytes that SQLite locks. */
const SQLITE_LOCK = new BigInt64Array([1n, 0x4000_0000n, 512n, 0n]);

/** Undefined when `loadKoffi` throws, and on systems whose numbers are not known. */
export function loadLinux(loadKoffi: () => unknown): Linux | undefined {
  if (process.platform !== 'linux' || !ARCHITECTURES.includes(process.arch)) return undefined;
  try {
    const koffi = loadKoffi() as Koffi;
    const library = koffi.load(null);
    /** The system's answer when it is not negative. */
    const checked = (call: string, result: unknown): number => {
      const number = Number(result);
      if (number >= 0) return number;
      const errno = koffi.errno();
      const code = getSystemErrorName(-errno);
      throw Object.assign(new Error(`${code}: ${call}`), { code, errno: -errno, syscall: call });
    };
    /** The call for a descriptor and the one for a path. */
    const pair = (name: string, result: string, rest: string[]) => {
      const onFile = library.func(`f${name}`, result, ['int', ...rest]);
      const through = library.func(name, result, ['void *', ...rest]);
      const onPath = library.func(`l${name}`, result, ['void *', ...rest]);
      return (place: Place, ...values: unknown[]) =>
        checked(
          name,
          typeof place === 'number'
            ? onFile(place, ...values)
            : place instanceof Uint8Array
              ? onPath(place, ...values)
              : through(cString(`/proc/self/fd/${place.descriptor}`), ...values),
        );
    };
    const list = pair('listxattr', 'long', ['void *', 'size_t']);
    const get = pair('getxattr', 'long', ['void *', 'void *', 'size_t']);
    const set = pair('setxattr', 'int', ['void *', 'void *', 'size_t', 'int']);
    const remove = pair('removexattr', 'int', ['void *']);
    const ioctl = library.func('ioctl', 'int', ['int', 'unsigned long', 'void *']);
    const lseek = library.func('lseek', 'int64', ['int', 'int64', 'int']);
    const fcntl = library.func('fcntl', 'int', ['int', 'int', 'void *']);
    const mknod = library.func('mknod', 'int', ['void *', 'unsigned int', 'uint64']);
    const flagsOut = new Int32Array(2);
    return {
      listXattrs: (place, into) => list(place, into, into.length),
      getXattr: (place, name, into) => get(place, cString(name), into, into.length),
      setXattr: (place, name, value) => void set(place, cString(name), value, value.length, 0),
      removeXattr: (place, name) => void remove(place, cString(name)),
      getFlags: (fd) => {
        checked('ioctl', ioctl(fd, GET_FLAGS, flagsOut));
        return flagsOut[0] ?? 0;
      },
      setFlags: (fd, flags) => {
        flagsOut[0] = flags;
        checked('ioctl', ioctl(fd, SET_FLAGS, flagsOut));
      },
      seek: (fd, offset, to) => {
        const at = Number(lseek(fd, offset, SEEK[to]));
        if (at < 0 && koffi.errno() === ENXIO) return undefined;
        return checked('lseek', at);
      },
      lock: (fd) => {
        const result = Number(fcntl(fd, F_OFD_SETLK, SQLITE_LOCK));
        if (result < 0 && [EAGAIN, EACCES].includes(koffi.errno())) return false;
        checked('fcntl', result);
        return true;
      },
      makeNode: (path, mode, device) => void checked('mknod', mknod(path, mode, device)),
    };
  } catch {
    return undefined;
  }
}
