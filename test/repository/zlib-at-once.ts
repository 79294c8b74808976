/** Imported for its effect, before what compresses: no threads any more, so that the same seed gives the same history. */
import { syncBuiltinESMExports } from 'node:module';
import { Transform } from 'node:stream';
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

/** Each piece is a frame of its own, as with `flush: ZSTD_e_end`. */
const frameByFrame = (options: zlib.ZstdOptions) =>
  new Transform({
    transform: (piece: Uint8Array, _encoding, done) => done(null, zlib.zstdCompressSync(piece, options)),
  });

Object.assign(zlib, {
  zstdCompress: atOnce(zlib.zstdCompressSync),
  zstdDecompress: atOnce(zlib.zstdDecompressSync),
});
Object.defineProperty(zlib, 'createZstdCompress', { value: frameByFrame }); // it is not writable
syncBuiltinESMExports();
