/** What is said to have been forgotten, so that the gap in the chain of snapshots is no alarm; an annotation of the newest snapshot. */
import type { SigningKey } from '../../identity/agent-key.ts';
import {
  addNumbers,
  annotate,
  forgottenIn,
  removeNumbers,
  timestamp,
  type Annotation,
  type NumberRanges,
  type Repository,
  type Snapshot,
} from '../../repository/repository.ts';
import type { Seams } from '../seams.ts';

export class ForgottenMarks {
  readonly #repository: Repository;
  readonly #said: { signer: SigningKey; host: string };
  readonly #seams: Seams;
  #annotations: readonly Annotation[];
  #newest: Annotation | undefined;

  /** @param annotations all that there are */
  constructor(
    repository: Repository,
    annotations: readonly Annotation[],
    said: { signer: SigningKey; host: string },
    seams: Seams,
  ) {
    this.#repository = repository;
    this.#annotations = annotations;
    this.#said = said;
    this.#seams = seams;
  }

  /** Says that these were forgotten, and all that were before, on every live backend. @param all in the order of their numbers */
  add(snapshots: readonly Snapshot[], all: readonly Snapshot[]): Promise<void> {
    const numbers = snapshots.map(({ record }) => record.seq);
    return this.#say(addNumbers(forgottenIn(this.#annotations), numbers), all);
  }

  /** Says the same as before, but for these. It holds once what was said before is gone, see `dropOld`. */
  remove(snapshots: readonly Snapshot[], all: readonly Snapshot[]): Promise<void> {
    const numbers = snapshots.map(({ record }) => record.seq);
    return this.#say(removeNumbers(forgottenIn(this.#annotations), numbers), all);
  }

  /** Takes away what the last `add` or `remove` has made superfluous. */
  async dropOld(): Promise<void> {
    if (!this.#newest) return;
    const { mirror } = this.#repository;
    for (const { key, record } of this.#annotations) {
      const { forgotten, tags, note, acknowledged } = record;
      const isMark = forgotten && !tags && note === undefined && !acknowledged;
      if (isMark && key !== this.#newest.key) await mirror.delete(key, { signal: this.#seams.signal });
    }
  }

  async #say(numbers: NumberRanges, all: readonly Snapshot[]): Promise<void> {
    const newest = all.at(-1);
    if (!newest || JSON.stringify(numbers) === JSON.stringify(forgottenIn(this.#annotations))) return;
    // After all that was said before, as every annotation.
    const last = Math.max(0, ...this.#annotations.map(({ record }) => Date.parse(record.time)));
    const time = timestamp(Math.max(this.#seams.clock.now(), this.#repository.state.entry.inForceFromMs, last + 1));
    const { signer, host } = this.#said;
    const forgotten = numbers.map(([first, end]): [number, number] => [first, end]);
    this.#newest = await annotate(
      this.#repository,
      { snapshot: newest.id, time, host, forgotten },
      signer,
      this.#seams,
    );
    this.#annotations = [...this.#annotations, this.#newest];
  }
}
