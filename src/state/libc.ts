/**
 * The few calls of the C library that `node:fs` lacks, through `koffi`, an optional dependency with a prebuilt binary: about 2 microseconds
 * a call. Whoever uses them must do without where they are missing.
 */
import { createRequire } from 'node:module';

export interface Libc {
  /** `AT_FDCWD` and `AT_SYMLINK_NOFOLLOW` of <fcntl.h> on this platform. */
  readonly cwd: number;
  readonly noFollow: number;
  /** As in POSIX, with `struct timespec[2]` as four 64-bit integers: seconds, nanoseconds, twice. 0 is success. */
  futimens: (fd: number, times: BigInt64Array) => number;
  /** `path` ends in NUL. */
  utimensat: (dirfd: number, path: Uint8Array, times: BigInt64Array, flags: number) => number;
  /** Resolves to 0 once everything written to the file system of `fd` is on the disk. Linux only. */
  syncfs: ((fd: number) => Promise<number>) | undefined;
}

let cached: { libc: Libc | undefined } | undefined;

/** The C library, loaded at the first call (about 10 ms); undefined where that is not possible. */
export function libc(): Libc | undefined {
  cached ??= { libc: loadLibc(() => createRequire(import.meta.url)('koffi') as unknown) };
  return cached.libc;
}

/** The part of `koffi` that is used. */
interface Koffi {
  sizeof(type: string): number;
  load(library: null): { func(name: string, result: string, parameters: string[]): KoffiFunction };
}

interface KoffiFunction {
  (...values: unknown[]): unknown;
  /** Runs on another thread; the last argument is called with an error and the result. */
  async(...values: unknown[]): void;
}

const AT = { linux: { cwd: -100, noFollow: 0x100 }, darwin: { cwd: -2, noFollow: 0x20 } };

/** Undefined when `loadKoffi` throws, and where the layout of `struct timespec` is not known to be two 64-bit integers. */
export function loadLibc(loadKoffi: () => unknown): Libc | undefined {
  if (process.platform !== 'linux' && process.platform !== 'darwin') return undefined;
  try {
    const koffi = loadKoffi() as Koffi;
    if (koffi.sizeof('long') !== 8) return undefined;
    const library = koffi.load(null);
    const futimens = library.func('futimens', 'int', ['int', 'void *']);
    const utimensat = library.func('utimensat', 'int', ['int', 'void *', 'void *', 'int']);
    const syncfs = process.platform === 'linux' ? library.func('syncfs', 'int', ['int']) : undefined;
    return {
      ...AT[process.platform],
      futimens: (fd, times) => Number(futimens(fd, times)),
      utimensat: (dirfd, path, times, flags) => Number(utimensat(dirfd, path, times, flags)),
      syncfs:
        syncfs &&
        ((fd) => new Promise((done) => syncfs.async(fd, (_: unknown, result: unknown) => done(Number(result))))),
    };
  } catch {
    return undefined;
  }
}
