/** A state store that lasts as long as the process: for a library in one process, and for tests. */
import type { Clock } from '../clock.ts';
import { checkEntry, checkKey, checkPrefix, watchByListing, type Entry, type StateStore } from './store.ts';

interface Held {
  value: string;
  revision: number;
  expiresMs: number;
}

export function memoryStateStore(clock: Clock): StateStore {
  const held = new Map<string, Held>();
  let last = 0;
  const at = (key: string): Held | undefined => {
    const one = held.get(key);
    return one && one.expiresMs > clock.now() ? one : undefined;
  };
  const put = (key: string, value: string, expiresMs = Infinity): number => {
    held.set(key, { value, revision: ++last, expiresMs });
    return last;
  };
  const list = (prefix: string): { entries: Entry[]; nextExpiryMs: number } => {
    const there = [...held.keys()].filter((key) => key.startsWith(prefix)).toSorted();
    const entries = there.flatMap((key) => {
      const one = at(key);
      return one ? [{ key, value: one.value, revision: one.revision, expiresMs: one.expiresMs }] : [];
    });
    const nextExpiryMs = entries.reduce((first, { expiresMs }) => Math.min(first, expiresMs), Infinity);
    return { entries: entries.map(({ key, value, revision }) => ({ key, value, revision })), nextExpiryMs };
  };
  let writes = 0;
  return {
    async get(key) {
      checkKey(key);
      const one = at(key);
      return one && { key, value: one.value, revision: one.revision };
    },
    async create(key, value, { expiresMs } = {}) {
      checkEntry(key, value);
      if (at(key)) return undefined;
      writes++;
      return put(key, value, expiresMs);
    },
    async update(key, value, revision, { expiresMs } = {}) {
      checkEntry(key, value);
      if (at(key)?.revision !== revision) return undefined;
      writes++;
      return put(key, value, expiresMs);
    },
    async delete(key, revision) {
      checkKey(key);
      if (at(key)?.revision !== revision) return false;
      writes++;
      return held.delete(key);
    },
    async list(prefix) {
      checkPrefix(prefix);
      return list(prefix).entries;
    },
    watch(prefix, signal) {
      checkPrefix(prefix);
      return watchByListing({ stamp: () => writes, list: () => list(prefix) }, clock, signal);
    },
    async [Symbol.asyncDispose]() {},
  };
}
