/** The second manifest of a snapshot: secrets, and the folders that lead to them. */
import type { RawPath } from '../../raw-path.ts';
import type { SecretHandling } from '../../state/profile-names.ts';

/** What of the state is secret, and what becomes of it. */
export interface SecretOptions {
  /** Patterns as `scan` takes them. */
  patterns: readonly string[];
  handling: SecretHandling;
}

export interface SecretCount {
  handling: SecretHandling;
  /** Files that are secret, whatever becomes of them, and their bytes. */
  files: number;
  bytes: number;
}

interface ManifestSink<T> {
  add(line: string): void;
  end(): T;
}

/** It is a manifest like any other: it begins with the root, and the parents of each entry are in it. */
export class SecretManifest<T> {
  readonly #open: () => ManifestSink<T>;
  #sink: ManifestSink<T> | undefined;
  /** The folders down to the current place of the walk, with their lines; those that are not in the manifest yet are still to be added. */
  #folders: { path: RawPath; line: string; added: boolean }[] = [];

  /** @param open is called for the first secret. */
  constructor(open: () => ManifestSink<T>) {
    this.#open = open;
  }

  /** A folder of the walk that is no secret itself. */
  passFolder(path: RawPath, line: string): void {
    this.#leaveTo(path);
    this.#folders.push({ path, line, added: false });
  }

  /** Something secret. */
  add(path: RawPath, line: string, isFolder: boolean): void {
    this.#sink ??= this.#open();
    this.#leaveTo(path);
    for (const folder of this.#folders) {
      if (!folder.added) this.#sink.add(folder.line);
      folder.added = true;
    }
    this.#sink.add(line);
    if (isFolder) this.#folders.push({ path, line, added: true });
  }

  /** Undefined when there was no secret. */
  end(): T | undefined {
    return this.#sink?.end();
  }

  #leaveTo(path: RawPath): void {
    this.#folders = this.#folders.filter((folder) => folder.path === '' || path.startsWith(`${folder.path}/`));
  }
}
