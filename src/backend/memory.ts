/** A backend in memory: for tests and trials, and the shortest example of an implementation. It lasts as long as the process. */
import { throwIfAborted } from '../errors.ts';
import { checkKey, checkObject, clampRange, objectNotFound, type Backend } from './backend.ts';

/** An empty backend; `name` is what its errors call it. */
export function createMemory(name: string): Backend {
  const objects = new Map<string, Uint8Array>();
  return {
    async put(key, bytes, { ifAbsent = false, signal } = {}) {
      checkObject(key, bytes);
      throwIfAborted(signal);
      if (ifAbsent && objects.has(key)) return 'exists';
      objects.set(key, new Uint8Array(bytes)); // a Buffer's `slice` would share memory
      return 'created';
    },
    async get(key, range, { signal } = {}) {
      checkKey(key);
      throwIfAborted(signal);
      const bytes = objects.get(key);
      if (bytes === undefined) throw objectNotFound(key, name);
      const { offset, length } = clampRange(range, bytes.length, key, name);
      return bytes.slice(offset, offset + length);
    },
    async head(key, { signal } = {}) {
      checkKey(key);
      throwIfAborted(signal);
      const bytes = objects.get(key);
      return bytes && { size: bytes.length };
    },
    async *list(prefix, { signal } = {}) {
      throwIfAborted(signal);
      // Of the keys as they are now: a key deleted and stored again meanwhile would come twice out of the map itself.
      for (const key of [...objects.keys()]) {
        throwIfAborted(signal);
        const bytes = objects.get(key);
        if (bytes !== undefined && key.startsWith(prefix)) yield { key, size: bytes.length };
      }
    },
    async delete(key, { signal } = {}) {
      checkKey(key);
      throwIfAborted(signal);
      objects.delete(key);
    },
    async [Symbol.asyncDispose]() {},
  };
}
