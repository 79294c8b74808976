/** What a restore could not put back exactly: counted, with one example each, and told as one warning a kind. */
import type { BigIntStats } from 'node:fs';
import type { EntryCommon, Warning } from '../entry.ts';
import { rawForDisplay, type RawPath } from '../raw-path.ts';
import { isLabel } from './attributes.ts';

/** The metadata that a restore puts back. */
export type Metadata = EntryCommon;

/** Losing what the state itself holds is incomplete; owners, rights and labels, which the machine gives, are not. */
const KINDS = {
  owner_not_restored: { what: 'owner or group is not the recorded one', incomplete: false },
  mode_not_restored: { what: 'permission bits are not the recorded ones', incomplete: false },
  times_rounded: { what: 'modification time is not exactly the recorded one', incomplete: false },
  xattrs_not_restored: { what: 'extended attributes or ACLs are not the recorded ones', incomplete: true },
  labels_not_restored: { what: 'attributes that only root may give are not the recorded ones', incomplete: false },
  flags_not_restored: { what: 'flags (append, immutable, nodump) are not the recorded ones', incomplete: true },
  hardlinks_not_restored: { what: 'a file of its own, and no more another name of one', incomplete: true },
} as const;

export type Kind = keyof typeof KINDS;

export class Losses {
  readonly #seen = new Map<Kind, { count: number; example: RawPath }>();

  /** Compares what `lstat` or `fstat` says now with what it should be. Symlinks have no mode of their own. */
  compare(wanted: Metadata, now: BigIntStats): void {
    if (Number(now.uid) !== wanted.uid || Number(now.gid) !== wanted.gid) this.count('owner_not_restored', wanted.path);
    if (!now.isSymbolicLink() && (Number(now.mode) & 0o7777) !== wanted.mode)
      this.count('mode_not_restored', wanted.path);
    if (now.mtimeNs !== wanted.mtimeNs) this.count('times_rounded', wanted.path);
  }

  warnings(): Warning[] {
    return [...this.#seen].map(([code, { count, example }]) => {
      const path = example === '' ? '.' : rawForDisplay(example);
      return {
        code,
        path,
        message: `${KINDS[code].what}: ${count === 1 ? path : `${count} entries, the first being ${path}`}`,
        incomplete: KINDS[code].incomplete,
      };
    });
  }

  /** @param names of attributes of the entry that the target did not take. */
  countXattrs(names: readonly string[], path: RawPath): void {
    const kinds = names.map((name) => (isLabel(name) ? 'labels_not_restored' : 'xattrs_not_restored'));
    for (const kind of new Set(kinds)) this.count(kind, path);
  }

  count(kind: Kind, path: RawPath): void {
    const seen = this.#seen.get(kind);
    if (seen) seen.count++;
    else this.#seen.set(kind, { count: 1, example: path });
  }
}
