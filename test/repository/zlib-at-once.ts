/** Imported for its effect, before what compresses: no threads any more, so that the same seed gives the same history. */
import { syncBuiltinESMExports } from 'node:module';
import zlib from 'node:zlib';

type Done = (error: Error | null, result?: Uint8Array) => void;

const atOnce =
  (work: (bytes: Uint8Array, options?: object) => Uint8Array) =>
  (bytes: Uint8Array, ...rest: unknown[]): void => {
    const done = rest.at(-1) as Done;
    try {
      done(null, work(bytes, rest.length > 1 ? (rest[0] as object) : undefined));
    } catch (error) {
      done(error as Error);
    }
  };

Object.assign(zlib, { zstdCompress: atOnce(zlib.zstdCompressSync), zstdDecompress: atOnce(zlib.zstdDecompressSync) });
syncBuiltinESMExports();
