/** What a restore could not put back exactly: counted, with one example each, and told as one warning a kind. */
import type { BigIntStats } from 'node:fs';
import type { Warning } from '../entry.ts';
import { rawForDisplay, type RawPath } from '../raw-path.ts';

/** The metadata that a restore puts back. */
export interface Metadata {
  path: RawPath;
  mode: number;
  mtimeNs: bigint;
  uid: number;
  gid: number;
}

const KINDS = {
  owner_not_restored: 'owner or group is not the recorded one',
  mode_not_restored: 'permission bits are not the recorded ones',
  times_rounded: 'modification time is not exactly the recorded one',
} as const;

type Kind = keyof typeof KINDS;

export class Losses {
  readonly #seen = new Map<Kind, { count: number; example: RawPath }>();

  /** Compares what `lstat` or `fstat` says now with what it should be. Symlinks have no mode of their own. */
  compare(wanted: Metadata, now: BigIntStats): void {
    if (Number(now.uid) !== wanted.uid || Number(now.gid) !== wanted.gid)
      this.#count('owner_not_restored', wanted.path);
    if (!now.isSymbolicLink() && (Number(now.mode) & 0o7777) !== wanted.mode)
      this.#count('mode_not_restored', wanted.path);
    if (now.mtimeNs !== wanted.mtimeNs) this.#count('times_rounded', wanted.path);
  }

  warnings(): Warning[] {
    return [...this.#seen].map(([code, { count, example }]) => {
      const path = example === '' ? '.' : rawForDisplay(example);
      return {
        code,
        path,
        message: `${KINDS[code]}: ${count === 1 ? path : `${count} entries, the first being ${path}`}`,
        incomplete: false,
      };
    });
  }

  #count(kind: Kind, path: RawPath): void {
    const seen = this.#seen.get(kind);
    if (seen) seen.count++;
    else this.#seen.set(kind, { count: 1, example: path });
  }
}
