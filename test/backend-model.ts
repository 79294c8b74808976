/** The contract of `Backend` as a map: what each operation of a random sequence must come to. */
import fc from 'fast-check';
import type { Backend, ByteRange } from '../src/backend/backend.ts';
import { keysAndSizes, notFoundAsUndefined } from './backend-helpers.ts';

export type Step =
  | { do: 'put'; key: string; bytes: Uint8Array; ifAbsent: boolean }
  | { do: 'get'; key: string; range: ByteRange | undefined }
  | { do: 'head' | 'delete'; key: string }
  | { do: 'list'; prefix: string };

/** Few keys, so that steps meet; none is a folder of another. */
const anyKey = fc.constantFrom('a', 'ab', 'packs/a', 'packs/ab', 'packs/b/c', 'index/0', 'tmp-1', 'x/y/z/0');
const anySize = fc.integer({ min: 0, max: 40 });
export const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('put'), key: anyKey, bytes: fc.uint8Array({ maxLength: 40 }), ifAbsent: fc.boolean() }),
  fc.record({
    do: fc.constant('get'),
    key: anyKey,
    range: fc.option(fc.record({ offset: anySize, length: anySize }), { nil: undefined }),
  }),
  fc.record({ do: fc.constantFrom('head', 'delete'), key: anyKey }),
  fc.record({
    do: fc.constant('list'),
    prefix: fc.constantFrom('', 'a', 'p', 'packs/', 'packs/a', 'packs/b', 'x/', 'tmp'),
  }),
);

/** Does the step on the backend. */
export async function perform(backend: Backend, step: Step): Promise<unknown> {
  switch (step.do) {
    case 'put':
      return backend.put(step.key, step.bytes, { ifAbsent: step.ifAbsent });
    case 'get':
      return backend.get(step.key, step.range).then((bytes) => [...bytes], notFoundAsUndefined);
    case 'head':
      return backend.head(step.key);
    case 'delete':
      return backend.delete(step.key);
    case 'list':
      return keysAndSizes(backend, step.prefix);
  }
}

/** Does the step on the map, and says what a backend must come to. */
export function expected(model: Map<string, Uint8Array>, step: Step): unknown {
  switch (step.do) {
    case 'put':
      if (step.ifAbsent && model.has(step.key)) return 'exists';
      model.set(step.key, step.bytes);
      return 'created';
    case 'get': {
      const bytes = model.get(step.key);
      const { offset, length } = step.range ?? { offset: 0, length: Infinity };
      return bytes && [...bytes].slice(offset, offset + length);
    }
    case 'head': {
      const bytes = model.get(step.key);
      return bytes && { size: bytes.length };
    }
    case 'delete':
      model.delete(step.key);
      return undefined;
    case 'list':
      return [...model]
        .flatMap(([key, { length }]) => (key.startsWith(step.prefix) ? [[key, length]] : []))
        .sort(([a = ''], [b = '']) => (a < b ? -1 : 1));
  }
}
