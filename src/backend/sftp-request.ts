/** Single requests of the SFTP protocol, and what their failures mean. */
import type { SFTPWrapper } from 'ssh2';
import { HoldfastError, isHoldfastError, messageOf } from '../errors.ts';

/** What every server takes in one request. */
const PIECE_BYTES = 32 * 1024;
/** Requests of one object that are under way at once: two megabytes, enough for 100 ms at 20 MB/s. */
const PIECES_IN_FLIGHT = 64;
/** SFTP's status codes (draft-ietf-secsh-filexfer-02, 7). */
const END_OF_FILE = 1;
export const NO_SUCH_FILE = 2;
const PERMISSION_DENIED = 3;
/** All that has no status of its own, such as a full disk: an answer, which a repetition does not change. */
const FAILURE = 4;

/** Begins a request that calls back. */
export type Start<T> = (done: (error?: Error | null, value?: T) => void) => unknown;

const closed = new WeakSet<SFTPWrapper>();

/** To be called of a session before any request is made of it. */
export function watch(sftp: SFTPWrapper): void {
  sftp.setMaxListeners(0); // each request under way listens for the end
  sftp.once('close', () => closed.add(sftp));
}

/** One request, and an error of ours of what it fails with, also when the connection is lost before the answer. `failing` begins its message. */
export function request<T>(sftp: SFTPWrapper, start: Start<T>, failing: string): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const lost = () => finish(new Error('the connection was lost'));
    const finish = (error?: Error | null, value?: T) => {
      sftp.off('close', lost);
      if (error) reject(failed(failing, error));
      else resolve(value as T);
    };
    if (closed.has(sftp)) return lost(); // what is asked of it now is never answered
    sftp.once('close', lost);
    try {
      start(finish);
    } catch (error) {
      finish(error instanceof Error ? error : new Error(messageOf(error)));
    }
  });
}

function failed(failing: string, error: Error): HoldfastError {
  const status = statusOf(error);
  const isPermanent = status === NO_SUCH_FILE || status === PERMISSION_DENIED || status === FAILURE;
  return new HoldfastError('backend_unavailable', `${failing}: ${messageOf(error)}`, {
    hint:
      status === PERMISSION_DENIED
        ? 'The user may not do this there: check owner and mode of the folder.'
        : 'Look at the server: whether its disk is full or read-only, and its log.',
    retryable: !isPermanent,
    cause: error,
  });
}

/** Work for each piece of so many bytes, several at once; no piece is begun after one has failed. */
export async function inPieces(bytes: number, work: (at: number, end: number) => Promise<void>): Promise<void> {
  let next = 0;
  let isFailed = false;
  const lane = async (): Promise<void> => {
    while (next < bytes && !isFailed) {
      const at = next;
      next = Math.min(bytes, at + PIECE_BYTES);
      try {
        await work(at, next);
      } catch (error) {
        isFailed = true;
        throw error;
      }
    }
  };
  const lanes = Math.min(PIECES_IN_FLIGHT, Math.ceil(bytes / PIECE_BYTES));
  for (const end of await Promise.allSettled(Array.from({ length: lanes }, lane)))
    if (end.status === 'rejected') throw end.reason;
}

/** The SFTP status of an error, or of the cause of one of ours. */
export function statusOf(error: unknown): number | undefined {
  const inner = isHoldfastError(error) ? error.cause : error;
  return inner instanceof Error && 'code' in inner && typeof inner.code === 'number' ? inner.code : undefined;
}

export function isEndOfFile(error: unknown): boolean {
  return statusOf(error) === END_OF_FILE;
}
