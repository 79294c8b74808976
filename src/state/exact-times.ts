/**
 * Setting modification times to the nanosecond. `node:fs` takes a double, which is off by up to about 120 ns in this century; the C
 * library's own calls are exact.
 */
import { futimesSync, lutimesSync, utimesSync } from 'node:fs';
import { rawToFs, type RawPath } from '../raw-path.ts';
import { libc, type Libc } from './libc.ts';

/**
 * Sets the modification time, and the access time to the same. A time that the means or the file system cannot express ends up near it,
 * without an error: whoever needs to know looks afterwards. Both throw Node's system errors.
 */
export interface TimeSetter {
  ofFile(fd: number, mtimeNs: bigint): void;
  /** Of the thing at an absolute path itself, a link not being followed; or of what was opened as a path only. */
  ofPath(path: RawPath | { descriptor: number }, mtimeNs: bigint): void;
}

/** Exact where the C library can be called, else what Node can do. */
export function exactTimes(library: Libc | undefined = libc()): TimeSetter {
  return library === undefined ? nodeTimes : libcTimes(library);
}

/** What Node can do by itself: rounded to a double of seconds. */
export const nodeTimes: TimeSetter = {
  ofFile: (fd, mtimeNs) => futimesSync(fd, roundedSeconds(mtimeNs), roundedSeconds(mtimeNs)),
  ofPath: (path, mtimeNs) => {
    const seconds = roundedSeconds(mtimeNs);
    if (typeof path === 'string') lutimesSync(rawToFs(path), seconds, seconds);
    else utimesSync(`/proc/self/fd/${path.descriptor}`, seconds, seconds);
  },
};

/** As text, because Node takes a negative number for "now", but not a numeric string. */
function roundedSeconds(mtimeNs: bigint): string {
  return String(Number(mtimeNs) / 1e9);
}

const SECOND_NS = 1_000_000_000n;

/** Where the C library refuses, Node is asked for the same: it succeeds, or throws the error that says why. */
function libcTimes({ futimens, utimensat, cwd, noFollow }: Libc): TimeSetter {
  const times = new BigInt64Array(4);
  const setTimes = (mtimeNs: bigint) => {
    const nanoseconds = ((mtimeNs % SECOND_NS) + SECOND_NS) % SECOND_NS;
    times[0] = times[2] = (mtimeNs - nanoseconds) / SECOND_NS;
    times[1] = times[3] = nanoseconds;
    return times;
  };
  return {
    ofFile: (fd, mtimeNs) => {
      if (futimens(fd, setTimes(mtimeNs)) !== 0) nodeTimes.ofFile(fd, mtimeNs);
    },
    ofPath: (path, mtimeNs) => {
      const [at, how] = typeof path === 'string' ? [path, noFollow] : [`/proc/self/fd/${path.descriptor}`, 0];
      if (utimensat(cwd, Buffer.from(`${at}\0`, 'latin1'), setTimes(mtimeNs), how) !== 0)
        nodeTimes.ofPath(path, mtimeNs);
    },
  };
}
