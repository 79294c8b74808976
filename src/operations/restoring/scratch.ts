/** A folder for what is restored to be looked at and thrown away. Whatever happens, nothing of it stays. */
import { mkdirSync, mkdtempSync, readdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { HoldfastError } from '../../errors.ts';
import { removeTree } from '../../state/remove-tree.ts';
import { formatSize } from '../../units.ts';
import { takeLock } from '../host/lock.ts';

const TREE = 'tree-';

/** What a file system needs besides the contents, to be on the safe side. */
const SPARE_BYTES = 16 * 1024 * 1024;

export class Scratch implements Disposable {
  readonly #base: string;
  readonly #lock: Disposable;

  /**
   * In a folder of its own (mode 0700) below `parent`, which is made if need be. What a run left that was killed is taken away.
   * @throws `busy` while another run uses it, `io`
   */
  constructor(parent: string) {
    this.#base = join(parent, 'holdfast-scratch');
    this.#lock = takeLock(this.#base, 'verification by restoring');
    try {
      this.#clear();
    } catch (error) {
      this.#lock[Symbol.dispose]();
      throw error;
    }
  }

  /** @throws `io` when so many bytes more do not fit */
  checkRoom(bytes: number): void {
    const { bavail, bsize } = statfsSync(this.#base);
    if (bavail * bsize >= bytes + SPARE_BYTES) return;
    throw new HoldfastError(
      'io',
      `restoring takes ${formatSize(bytes + SPARE_BYTES)}, and there is room for ${formatSize(bavail * bsize)} in ${this.#base}`,
      { hint: 'Make room there, or name another folder with --scratch.' },
    );
  }

  /** Does something with the path of a folder that does not exist yet, in one that nobody else can enter; after it, what is there is removed. */
  async use<T>(work: (target: string) => Promise<T>): Promise<T> {
    mkdirSync(this.#base, { recursive: true, mode: 0o700 });
    const folder = mkdtempSync(join(this.#base, TREE)); // mode 0700
    try {
      return await work(join(folder, 'state'));
    } finally {
      removeTree(folder);
    }
  }

  [Symbol.dispose](): void {
    try {
      this.#clear();
    } finally {
      this.#lock[Symbol.dispose]();
    }
    removeTree(this.#base);
  }

  #clear(): void {
    for (const name of readdirSync(this.#base)) if (name.startsWith(TREE)) removeTree(join(this.#base, name));
  }
}
