/** Files that have several names: a backup reads each under the first of them only, a restore makes the others names of it again. */
import type { FileEntry } from '../../entry.ts';
import { comparePaths, type RawPath } from '../../raw-path.ts';
import { entryLine, parseEntryLine } from '../../repository/repository.ts';
import type { ScannedFile } from '../../state/scan.ts';
import type { Texture } from '../../state/texture.ts';

export interface FirstName {
  /** Of the first name, as in the manifest. */
  line: string;
  /** With it the contents were read: it goes with the other names too, should the first be gone at the next run. */
  stamp: string;
  texture: Texture | undefined;
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

/** Of files of one manifest that have several names, the first of those that are restored. */
export class FirstNames<T extends { readonly entry: FileEntry }> {
  /** In the order of the manifest. */
  readonly #files: T[] = [];
  /** By the first name that the manifest gives; only where that one is not restored. */
  readonly #instead = new Map<RawPath, T>();

  /** @param file that is restored, and no other name of one that is; in the order of the manifest. */
  add(file: T): void {
    this.#files.push(file);
    const { hardlink } = file.entry;
    if (hardlink !== undefined) this.#instead.set(hardlink, file);
  }

  /** Undefined for a first name, and when it is not the same file as it claims to be. */
  of({ hardlink, size, chunks }: FileEntry): T | undefined {
    if (hardlink === undefined) return undefined;
    const found = search(this.#files, hardlink) ?? this.#instead.get(hardlink);
    const isSame = found?.entry.size === size && found.entry.chunks.join() === chunks.join();
    return isSame ? found : undefined;
  }
}

function search<T extends { readonly entry: FileEntry }>(files: readonly T[], path: RawPath): T | undefined {
  let [low, high] = [0, files.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const file = files[middle] as T;
    const order = comparePaths(file.entry.path, path);
    if (order === 0) return file;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return undefined;
}
