/** Backends that do not answer, and the calls that are tried on them under guard. */
import type { Backend } from '../../src/backend/backend.ts';
import { HoldfastError } from '../../src/errors.ts';
import { collect, patterned } from '../backend-helpers.ts';

/** Never answers, but stops when it is told to. */
export function silence(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(new HoldfastError('interrupted', 'interrupted')), { once: true });
  });
}

/** Never answers, and does not stop either. */
export const deafness = (): Promise<never> => new Promise(() => {});

/** A backend whose every operation does this. */
export function all(operation: (signal?: AbortSignal) => Promise<never>): Backend {
  return {
    put: (_key, _bytes, options) => operation(options?.signal),
    get: (_key, _range, options) => operation(options?.signal),
    head: (_key, options) => operation(options?.signal),
    async *list(_prefix, options) {
      yield await operation(options?.signal);
    },
    delete: (_key, options) => operation(options?.signal),
    [Symbol.asyncDispose]: () => operation(),
  };
}

export const operations: readonly [name: string, call: (backend: Backend, signal?: AbortSignal) => Promise<unknown>][] =
  [
    ['put', (backend, signal) => backend.put('a', patterned(10, 1), { signal })],
    ['get', (backend, signal) => backend.get('a', undefined, { signal })],
    ['head', (backend, signal) => backend.head('a', { signal })],
    ['list', (backend, signal) => collect(backend.list('', { signal }))],
    ['delete', (backend, signal) => backend.delete('a', { signal })],
  ];
