/**
 * What the processes of a fleet share: breakers, queues, leases. The one seam between the fleet and where such state is kept.
 *
 * A store knows keys and texts. It promises no more than a key-value bucket of NATS JetStream can keep, so that one can follow: revisions and
 * compare-and-swap, no transaction over two keys, no order between watchers. Every implementation guarantees the following, and the
 * conformance suite tests each line by its number.
 *
 *  1. `get` resolves to the entry stored last under the key, or to undefined when there is none.
 *  2. `create` stores only where there is no entry, and resolves to undefined where there is one. Of several at once exactly one stores.
 *  3. `update` replaces only the very revision that it names, and resolves to undefined when there is another one, or none. Of several at
 *     once exactly one replaces.
 *  4. `delete` removes only the very revision that it names, and resolves to false otherwise.
 *  5. A revision is a safe integer from 1. Each write gets a greater one than all before it in the store, also after a deletion: a revision
 *     that is gone never fits again.
 *  6. What has resolved is seen by every process at once, and survives the crash of any of them and a loss of power. What was cut off is there whole or
 *     not at all.
 *  7. `list(prefix)` resolves to every entry whose key starts with the prefix, ordered by key; entries written meanwhile may or may not be in
 *     it. The prefix is '' or ends with a dot.
 *  8. An entry that was written with `expiresMs` is there until that moment by the clock of whoever asks, and from then on absent for
 *     every method. Each write sets it anew; without it, the entry stays. (Hosts that share a store need clocks that agree.)
 *  9. `watch(prefix)` yields first the entries that are there, then each change: at least the last one of each key, in no order between keys. What
 *     was deleted, or whose time is over, is `gone`. It ends when the signal is aborted.
 * 10. Keys are 1 to 256 characters of `a–z A–Z 0–9 _ -` in segments between single dots, values at most `VALUE_MAX_BYTES` in
 *     UTF-8. Anything else rejects with `bug` before anything is done.
 * 11. A store that cannot be read or written rejects with `io`, one that another process holds for too long with `busy` (the same call may
 *     succeed later), one whose contents are not what was written with `damaged`. It is never taken for an empty one, nor made anew.
 */
import type { Clock } from '../clock.ts';
import { HoldfastError } from '../errors.ts';

export interface Entry {
  key: string;
  value: string;
  revision: number;
}

export interface WriteOptions {
  /** Milliseconds since the Unix epoch. Line 8. */
  expiresMs?: number | undefined;
}

export type Change = { type: 'put'; entry: Entry } | { type: 'gone'; key: string };

export interface StateStore extends AsyncDisposable {
  get(key: string): Promise<Entry | undefined>;
  /** @returns the revision, or undefined where there is an entry already */
  create(key: string, value: string, options?: WriteOptions): Promise<number | undefined>;
  /** @returns the new revision, or undefined when `revision` is not the last */
  update(key: string, value: string, revision: number, options?: WriteOptions): Promise<number | undefined>;
  /** @returns whether it was this revision, and is gone now */
  delete(key: string, revision: number): Promise<boolean>;
  list(prefix: string): Promise<Entry[]>;
  watch(prefix: string, signal: AbortSignal): AsyncIterable<Change>;
}

/** Line 10: an eighth of what NATS takes as it comes. */
export const VALUE_MAX_BYTES = 128 * 1024;
const KEY = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$/;
const KEY_MAX_CHARACTERS = 256;

export function isKey(text: string): boolean {
  return text.length <= KEY_MAX_CHARACTERS && KEY.test(text);
}

/** Line 10. @throws `bug` */
export function checkKey(key: string): void {
  if (!isKey(key))
    throw new HoldfastError('bug', `not a valid key of a state store: ${JSON.stringify(key.slice(0, 80))}`);
}

/** Line 10, for writes. @throws `bug` */
export function checkEntry(key: string, value: string): void {
  checkKey(key);
  const bytes = Buffer.byteLength(value);
  if (bytes > VALUE_MAX_BYTES)
    throw new HoldfastError('bug', `the value of ${key} has ${bytes} bytes, more than the ${VALUE_MAX_BYTES} allowed`);
}

/** Line 7. @throws `bug` */
export function checkPrefix(prefix: string): void {
  if (prefix !== '' && !(prefix.endsWith('.') && isKey(prefix.slice(0, -1))))
    throw new HoldfastError('bug', `not a valid prefix of a state store: ${JSON.stringify(prefix.slice(0, 80))}`);
}

/** How often a store that has to be asked is asked whether something changed. */
export const WATCH_MS = 250;

/**
 * Line 9 for stores that must be asked: lists when `stamp` has changed, or when an entry may have expired, and tells what is different.
 *
 * @param stamp changes with every write, whoever's it is
 * @param list also tells when the first of the entries expires
 */
export async function* watchByListing(
  { stamp, list }: { stamp: () => unknown; list: () => { entries: Entry[]; nextExpiryMs: number } },
  clock: Clock,
  signal: AbortSignal,
): AsyncIterable<Change> {
  let known = new Map<string, number>();
  let seen: unknown;
  let expiryMs = -Infinity;
  while (!signal.aborted) {
    const now = stamp(); // before the list: what is written in between is listed, and listed once more
    if (now !== seen || clock.now() >= expiryMs) {
      const { entries, nextExpiryMs } = list();
      const before = known;
      known = new Map(entries.map(({ key, revision }) => [key, revision]));
      [seen, expiryMs] = [now, nextExpiryMs];
      for (const entry of entries) if (before.get(entry.key) !== entry.revision) yield { type: 'put', entry };
      for (const key of before.keys()) if (!known.has(key)) yield { type: 'gone', key };
    }
    await clock.sleep(WATCH_MS, signal).catch(() => {}); // aborted: the loop ends
  }
}
