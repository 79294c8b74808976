/** Files of the user's that commands read and that are no secrets. */
import { createReadStream } from 'node:fs';
import { addAbortSignal } from 'node:stream';
import { HoldfastError, systemErrorCode } from '../errors.ts';

/** Where a file is asked for, and this is given, stdin is read. */
export const STDIN = '-';
const PIECE_BYTES = 1024 * 1024;
const TEXT_MAX_BYTES = 64 * 1024;

/**
 * The bytes of a file, or of stdin for `-`, in pieces. Throws `not_found` when it is not there, `usage` when it is a folder,
 * `io` when it cannot be read, and an AbortError.
 */
export async function* readPieces(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const stream =
    path === STDIN
      ? addAbortSignal(signal, process.stdin)
      : createReadStream(path, { signal, highWaterMark: PIECE_BYTES });
  try {
    for await (const piece of stream) yield piece as Uint8Array;
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT') {
      throw new HoldfastError('not_found', `${path} is not there`, {
        hint: 'Check the path; a relative one counts from the current folder.',
      });
    }
    if (code === 'EISDIR') {
      throw new HoldfastError('usage', `${path} is a folder`, { hint: 'Give a file.' });
    }
    throw error;
  }
}

/** A short text file, `what` it is meant to be. Throws what `readPieces` throws, and `usage` when it is too long. */
export async function readShortText(path: string, what: string, signal: AbortSignal): Promise<string> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of readPieces(path, signal)) {
    length += piece.length;
    if (length > TEXT_MAX_BYTES) {
      throw new HoldfastError('usage', `${path} is too long for ${what}`, { hint: 'Check that it is the right file.' });
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}
