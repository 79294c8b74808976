/** Append-only logs in a backup: stored to the end of a line, and compared with what the last snapshot has, for they should only grow. */
import type { ChunkId, Warning } from '../../entry.ts';
import { rawForDisplay, type RawPath } from '../../raw-path.ts';
import { chunksInLine, type SnapshotWriter } from '../../repository/repository.ts';
import { isFinished } from '../../state/log-end.ts';
import { matcher } from '../../state/patterns.ts';
import type { CachedLine } from '../host/local-state.ts';

const DEFAULT_PATTERNS = ['*.jsonl'];

export interface LogOptions {
  /** As of `ScanOptions.exclude`. */
  patterns: readonly string[] | undefined;
  /** Wall clock, milliseconds. */
  now: number;
  idOf: (bytes: Uint8Array) => ChunkId;
  writer: Pick<SnapshotWriter, 'lengthOf'>;
}

export class Logs {
  readonly now: number;
  readonly #options: LogOptions;
  readonly #isLog: (path: RawPath, isFolder: boolean) => boolean;

  constructor(options: LogOptions) {
    this.now = options.now;
    this.#options = options;
    this.#isLog = matcher(options.patterns ?? DEFAULT_PATTERNS);
  }

  /** For one reading of the file at `path`; undefined for what is no log. */
  watch(path: RawPath, before: CachedLine | undefined): LogWatch | undefined {
    return this.#isLog(path, false) ? new LogWatch(this.#options, path, before) : undefined;
  }

  /** Whether a last line without an end is taken for whole by now. */
  isFinished({ mtimeNs }: { mtimeNs: bigint }): boolean {
    return isFinished(mtimeNs, this.now);
  }
}

/** Sees the chunks of a log as it is read. */
export class LogWatch {
  readonly #options: LogOptions;
  readonly #path: RawPath;
  readonly #old: { size: number; chunks: readonly ChunkId[] } | undefined;
  #seen = 0;
  #firstOther: number | undefined;

  constructor(options: LogOptions, path: RawPath, before: CachedLine | undefined) {
    this.#options = options;
    this.#path = path;
    this.#old = before?.isFile ? contentsIn(before.line) : undefined;
  }

  /** @param bytes valid only now */
  chunk(id: ChunkId, bytes: Uint8Array): void {
    const at = this.#seen++;
    if (at < (this.#old?.chunks.length ?? 0) && !this.#isAsBefore(at, id, bytes)) this.#firstOther ??= at;
  }

  /**
   * @param storedBytes where the last whole line ends
   * @param fileBytes with what comes after it
   */
  warning(storedBytes: number, fileBytes: number): Warning | undefined {
    if (!this.#old) return undefined;
    const { size } = this.#old;
    const path = rawForDisplay(this.#path);
    const kept = 'since the last snapshot; older snapshots keep what it held before';
    if (fileBytes < size)
      return { code: 'log_shrank', path, message: `the log ${path} shrank from ${size} to ${fileBytes} bytes ${kept}` };
    // Where less is stored than before, because a whole line became a part of one, the end of the last chunk says nothing.
    const isOther = this.#firstOther !== undefined && (this.#firstOther < this.#seen - 1 || storedBytes >= size);
    return isOther ? { code: 'log_rewritten', path, message: `the log ${path} was rewritten ${kept}` } : undefined;
  }

  /** The last chunk ended with the log, so it is the beginning of what is in its place now. */
  #isAsBefore(at: number, id: ChunkId, bytes: Uint8Array): boolean {
    const chunks = this.#old?.chunks ?? [];
    const old = chunks[at];
    if (old === undefined || id === old) return true;
    if (at < chunks.length - 1) return false;
    const length = this.#options.writer.lengthOf(old);
    return length === undefined || (bytes.length > length && this.#options.idOf(bytes.subarray(0, length)) === old);
  }
}

/** Size and chunks in the line of a file. No name can look like their members, as a quote in it would be escaped. */
function contentsIn(line: string): { size: number; chunks: readonly ChunkId[] } | undefined {
  const found = /,"size":(\d+),"chunks":\[/.exec(line);
  if (!found) return undefined;
  const chunks = chunksInLine(line, line.slice(0, found.index + found[0].length));
  return chunks && { size: Number(found[1]), chunks };
}
