/**
 * Loaded into the program with `--import`: what it takes for random depends on $HOLDFAST_TEST_SEED alone, when it is set, so that a test of the whole program
 * has the same words, keys and codes each time it runs.
 */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

const { createHash, randomFillSync } = crypto;
let last: string | undefined;
let counter = 0;

/** `offset` and `size` are bytes here: who names them (ssh2) fills a part of a Buffer. */
function fill<T extends NodeJS.ArrayBufferView>(view: T, offset = 0, size = view.byteLength - offset): T {
  const seed = process.env['HOLDFAST_TEST_SEED'];
  if (seed === undefined) return randomFillSync(view, ...(size === view.byteLength ? [] : [offset, size]));
  if (seed !== last) counter = 0;
  last = seed;
  const bytes = new Uint8Array(view.buffer, view.byteOffset + offset, size);
  for (let at = 0; at < bytes.length; at += 32)
    bytes.set(
      createHash('sha256')
        .update(`${seed}/${counter++}`)
        .digest()
        .subarray(0, bytes.length - at),
      at,
    );
  return view;
}

Object.assign(crypto, { randomFillSync: fill });
Object.assign(globalThis.crypto, { getRandomValues: fill });
syncBuiltinESMExports();
