/** From key records in storage to the identity log: which of them belong to it, and which of several branches is the right one. */
import type { Mirror } from '../../backend/mirror.ts';
import { inLanes } from '../../drain.ts';
import { HoldfastError, isHoldfastError } from '../../errors.ts';
import { RECORDS_IN_FLIGHT } from '../../limits.ts';
import { KEYS_TYPE, keysSchema, parseSignedRecord, type KeysRecord, type RepositoryRecord } from '../records/format.ts';
import { compareLogs, firstEntry, nextEntry, type KeyLog, type KeyLogEntry, type Witness } from './key-log.ts';
import { checkContentName, parseKey } from '../records/object-name.ts';

export interface KeyRecordOptions {
  nowMs: number;
  signal?: AbortSignal | undefined;
  /** The agent's snapshots made after a moment, for entries that may be dated back. Without it times are taken as they are said. */
  witnesses?: ((afterMs: number) => Promise<Witness[]>) | undefined;
}

interface StoredRecord {
  key: string;
  id: string;
  record: KeysRecord;
  signedBy: (publicKeyHex: string) => boolean;
}

interface Unreadable {
  key: string;
  seq: number;
  error: HoldfastError;
}

/** More than any agent ever writes; it bounds what a full folder costs. */
const RECORDS_MAX = 4096;

/**
 * Reads all key records and follows them. Those that may not follow anything are no part of the log: an interrupted `init` leaves such, and
 * anybody who can write to storage can add them.
 * @throws `damaged` when one that may be part of the log cannot be read, or is missing between others: going back to older keys in silence is
 *   worse than stopping
 */
export async function readKeyLog(
  mirror: Mirror,
  repository: RepositoryRecord,
  options: KeyRecordOptions,
): Promise<KeyLog> {
  const { records, unreadable } = await readRecords(mirror, options.signal);
  let log = bestLog(records, repository, options.nowMs, []);
  const contestedMs = log?.flatMap(({ by, record }) => (by === 'recovery' ? [Date.parse(record.created)] : [])) ?? [];
  if (contestedMs.length > 0 && options.witnesses)
    log = bestLog(records, repository, options.nowMs, await options.witnesses(Math.min(...contestedMs)));
  if (!log) {
    throw (
      unreadable[0]?.error ??
      (records.length > 0
        ? new HoldfastError('forged', "no key record is part of this repository's chain of keys", {
            hint: 'Restore from another backend.',
          })
        : new HoldfastError('damaged', 'the repository has lost its key records', {
            hint: 'Restore from another backend.',
          }))
    );
  }
  checkNothingHides(log, records, unreadable);
  return log;
}

async function readRecords(
  mirror: Mirror,
  signal: AbortSignal | undefined,
): Promise<{ records: StoredRecord[]; unreadable: Unreadable[] }> {
  const names: { key: string; seq: number; id: string }[] = [];
  for await (const { key } of mirror.list('keys/', { signal })) {
    const name = parseKey(key);
    if (name?.kind === 'keys') names.push({ key, ...name });
  }
  if (names.length > RECORDS_MAX)
    throw new HoldfastError('damaged', `there are ${names.length} key records, more than ${RECORDS_MAX}`, {
      hint: 'Find out who writes to the backends; remove what is not of this repository.',
    });
  const records: StoredRecord[] = [];
  const unreadable: Unreadable[] = [];
  const found = await inLanes(names, RECORDS_IN_FLIGHT, async (name) => {
    const check = (bytes: Uint8Array): Uint8Array => {
      checkContentName(bytes, name.id, name.key);
      return bytes;
    };
    try {
      return { ...name, bytes: await mirror.read(name.key, check, { signal }) };
    } catch (error) {
      if (!isHoldfastError(error, 'damaged', 'not_found')) throw error;
      return { ...name, error };
    }
  });
  for (const { key, seq, id, ...read } of found) {
    if ('error' in read) {
      unreadable.push({ key, seq, error: read.error });
      continue;
    }
    const { bytes } = read;
    try {
      const parsed = parseSignedRecord(bytes, KEYS_TYPE, keysSchema, `key record ${seq}`);
      if (parsed.record.seq === seq) records.push({ key, id, ...parsed });
    } catch (error) {
      // Bytes that are what their name says and no key record were never one.
      if (!isHoldfastError(error, 'damaged')) throw error;
    }
  }
  return { records, unreadable };
}

/** Each record names the one before it, so they form trees; a log is a path from a first record to a last. */
function bestLog(
  records: readonly StoredRecord[],
  repository: RepositoryRecord,
  nowMs: number,
  witnesses: readonly Witness[],
): KeyLog | undefined {
  const children = Map.groupBy(records, ({ record }) => record.previous);
  let best: KeyLog | undefined;
  const consider = (log: KeyLog) => {
    if (!best || compareLogs(log, best) < 0) best = log;
  };
  const follow = (log: KeyLog): void => {
    consider(log);
    for (const { id, record, signedBy } of children.get(log.at(-1)?.id ?? '') ?? []) {
      const entry = unlessForged(() => nextEntry(log, id, record, signedBy, { nowMs, witnesses }));
      if (entry) follow([...log, entry]);
    }
  };
  for (const { id, record, signedBy } of children.get(null) ?? []) {
    const entry = unlessForged(() => firstEntry(id, record, signedBy, repository));
    if (entry) follow([entry]);
  }
  return best;
}

function unlessForged(make: () => KeyLogEntry): KeyLogEntry | undefined {
  try {
    return make();
  } catch (error) {
    if (isHoldfastError(error, 'forged')) return undefined;
    throw error;
  }
}

/** What might belong to the log and cannot be followed stops, unless an entry that only the words can write stands there or after it. */
function checkNothingHides(log: KeyLog, records: readonly StoredRecord[], unreadable: readonly Unreadable[]): void {
  const settled = log.findLastIndex(({ weight }) => weight === 2);
  for (const { key, seq, error } of unreadable) {
    if (seq <= settled) continue;
    throw new HoldfastError(
      error.code,
      `${key} cannot be read, and may be the newest change of keys: ${error.message}`,
      {
        hint: 'Bring a backend that has it whole, and repeat. If it is certain that nobody of you made it, remove the object.',
        cause: error,
      },
    );
  }
  const ids = new Set(records.map(({ id }) => id));
  const signers = [...new Set(log.flatMap(({ record }) => [record.agent.publicKey, record.recovery]))];
  for (const { key, record, signedBy } of records) {
    const isOrphan = record.previous !== null && !ids.has(record.previous);
    if (!isOrphan || record.seq <= settled || record.repository !== log[0].record.repository || !signers.some(signedBy))
      continue;
    throw new HoldfastError('damaged', `the key record before ${key} is missing on every backend`, {
      hint: 'Bring a backend that has it, and repeat. If it is certain that nobody of you made this one, remove the object.',
    });
  }
}
