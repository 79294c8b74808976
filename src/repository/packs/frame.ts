/**
 * Frames: the independent zstd frames of a pack. zstd runs in libuv's threads, which start at once and share this one's memory; a worker
 * thread would cost 50 ms of processor time and 80 MB.
 */
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { constants, createZstdCompress, zstdDecompress } from 'node:zlib';
import { HoldfastError } from '../../errors.ts';
import { FRAME_TAR_MAX_BYTES, FRAMES_IN_FLIGHT_MAX, ZSTD_WINDOW_LOG_MAX } from '../../limits.ts';
import { release, ROOM_BYTES, trimmed } from '../../memory.ts';

const decompress = promisify(zstdDecompress);

const ZSTD_LEVEL = 3;
/**
 * Frames being compressed at once: every core is busy, and memory stays in bounds on a large host. More than there are cores, for a frame that
 * is compressed waits for the main thread before it is opened again, and that is cutting the next. libuv has four threads unless
 * UV_THREADPOOL_SIZE says otherwise; the program sets it.
 */
export const FRAMES_IN_FLIGHT = Math.min(2 * availableParallelism() + 2, FRAMES_IN_FLIGHT_MAX);

/**
 * Compresses a frame, opens the result again and compares: bad memory is caught before it becomes a backup (I10).
 * @param tar must not change before the promise settles.
 */
export async function compressFrame(tar: Uint8Array): Promise<Uint8Array> {
  const packed = await compress(tar);
  const back = await openFrame(packed, tar.length).catch(() => undefined);
  const isSame = back !== undefined && Buffer.compare(back, tar) === 0;
  if (back) release(back);
  if (isSame) return packed;
  throw new HoldfastError('bug', 'compressed data did not decompress to what it was made from', {
    hint: 'Nothing was stored. Test the memory of this machine.',
  });
}

/**
 * Decompresses one frame, into memory of its own.
 * @throws `damaged` when it is no zstd frame or not exactly `tarBytes` long, without ever allocating much more than that.
 */
export async function openFrame(compressed: Uint8Array, tarBytes: number): Promise<Uint8Array> {
  if (tarBytes < 0 || tarBytes > FRAME_TAR_MAX_BYTES) {
    throw new HoldfastError('damaged', `a frame of ${tarBytes} bytes is over the limit`);
  }
  let tar: Buffer;
  try {
    // A piece that is filled to its end would be followed by another.
    tar = await decompress(compressed, {
      maxOutputLength: Math.max(1, tarBytes),
      chunkSize: tarBytes + ROOM_BYTES,
      params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
    });
  } catch (cause) {
    throw new HoldfastError('damaged', 'a frame of the pack does not decompress', { cause });
  }
  if (tar.length !== tarBytes) {
    throw new HoldfastError('damaged', `a frame has ${tar.length} bytes where the index says ${tarBytes}`);
  }
  return tar;
}

/**
 * All at once, where `zstdCompress` would first take what there is and then ask for the end: so zstd knows the length, writes straight into the output,
 * and needs no copy of the input.
 */
function compress(tar: Uint8Array): Promise<Uint8Array> {
  const chunkSize = tar.length + (tar.length >> 8) + 1024; // zstd never makes more of it, so the output is one piece
  const stream = createZstdCompress({
    params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL },
    flush: constants.ZSTD_e_end,
    chunkSize,
  });
  return new Promise((resolve, reject) => {
    stream.once('error', reject);
    stream.once('data', (output: Buffer) => {
      resolve(trimmed(output, chunkSize));
      stream.destroy();
    });
    stream.write(tar);
  });
}
