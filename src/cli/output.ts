/** Writing to the standard streams; stdout carries the result and nothing else. */
import { systemErrorCode } from '../errors.ts';
import { escapeJson } from '../raw-path.ts';

/**
 * Writes to stdout and resolves when the bytes are handed over. Resolves to false when nobody reads any more (`| head`):
 * then the caller may stop early, and that is no error.
 */
export function writeStdout(data: string | Uint8Array): Promise<boolean> {
  return new Promise((resolve, reject) => {
    process.stdout.write(data, (error) => {
      if (!error) resolve(true);
      else if (systemErrorCode(error) === 'EPIPE' || systemErrorCode(error) === 'ERR_STREAM_DESTROYED') resolve(false);
      else reject(error);
    });
  });
}

/** One JSON document: indented on a terminal, one line otherwise; a bigint becomes a string of decimal digits. No string writes to the terminal. */
export function toJson(value: unknown, stream: { isTTY?: boolean } = process.stdout): string {
  const plain = (_key: string, item: unknown): unknown => (typeof item === 'bigint' ? item.toString() : item);
  return `${escapeJson(JSON.stringify(value, plain, stream.isTTY === true ? 2 : 0))}\n`;
}

/** One of several JSON documents, each on a line. */
export function toJsonLine(value: unknown): string {
  return toJson(value, {});
}
