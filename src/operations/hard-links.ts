/** Files of a walk that have several names, so that each is read under the first of them only. */
import type { FileEntry } from '../entry.ts';
import { entryLine, parseEntryLine } from '../repository/repository.ts';
import type { ScannedFile } from '../state/scan.ts';

export interface FirstName {
  /** Of the first name, as in the manifest. */
  line: string;
  /** With it the contents were read: it goes with the other names too, should the first be gone at the next run. */
  stamp: string;
}

/** Only files with other names that are still to come are held, one line each. */
export class HardLinks {
  readonly #files = new Map<string, FirstName & { left: number }>();

  /** What was saved under the first name of this file; undefined when this is the first. */
  firstOf(item: ScannedFile): FirstName | undefined {
    const key = keyOf(item);
    const first = this.#files.get(key);
    if (first && --first.left === 0) this.#files.delete(key);
    return first;
  }

  add(item: ScannedFile, first: FirstName): void {
    if (item.links > 1) this.#files.set(keyOf(item), { ...first, left: item.links - 1 });
  }
}

const keyOf = ({ dev, ino }: ScannedFile): string => `${dev}:${ino}`;

/** The line of another name of a file. */
export function otherNameLine(item: ScannedFile, firstLine: string): string {
  const first = parseEntryLine(firstLine) as FileEntry;
  return entryLine({ ...first, path: item.path, hardlink: first.path });
}

/** The line of the last manifest as that of a first name: which name comes first changes when a folder is renamed. */
export function firstNameLine(line: string): string {
  const { hardlink, ...first } = parseEntryLine(line) as FileEntry;
  return hardlink === undefined ? line : entryLine(first);
}
