/**
 * Records about the repository itself that the agent's key signs and that are sealed to all who write or restore: runs, condemned records and drills. Unlike a
 * snapshot's, their signature counts whichever of the agent's keys it is by, whenever: they say what must be left alone, and to heed one more
 * costs time only, while one that is passed over because of a clock or a rotation could cost a pack.
 */
import type { z } from 'zod';
import { HoldfastError, isHoldfastError, isSurvivable } from '../../errors.ts';
import type { Random } from '../../clock.ts';
import { sealAge } from '../../crypto/age.ts';
import { signEnvelope } from '../../crypto/dsse.ts';
import { sha256Hex } from '../../crypto/hash.ts';
import { drain } from '../../drain.ts';
import { RECORDS_IN_FLIGHT } from '../../limits.ts';
import { FORMAT_VERSION, type Signer } from './format.ts';
import type { Repository, RepositoryProblem } from '../open.ts';
import { openSigned } from './snapshot.ts';

export interface AgentRecord {
  version: typeof FORMAT_VERSION;
  critical: string[];
  repository: string;
  agent: { handle: string; publicKey: string };
  time: string;
  host: string;
}

/** One kind of them. */
export interface RecordForm<R extends AgentRecord, I extends string> {
  /** For messages. */
  noun: string;
  /** Where they lie, with the slash. */
  prefix: string;
  type: string;
  schema: z.ZodType<R>;
  keyOf: (timeMs: number, id: I) => string;
  /** The id in a key of this kind; undefined for other keys. */
  idIn: (key: string) => I | undefined;
}

/** A record whose signature and name were checked. */
export interface Signed<R, I> {
  id: I;
  record: R;
  /** The object it was read from, or goes into. */
  key: string;
}

/** @returns the record with the object's bytes; nothing is stored. */
export async function sealRecord<R extends AgentRecord, I extends string>(
  repository: Repository,
  form: RecordForm<R, I>,
  said: Omit<R, 'version' | 'critical' | 'repository' | 'agent'>,
  signer: Signer,
  random: Random,
): Promise<Signed<R, I> & { bytes: Uint8Array }> {
  const { handle, publicKey } = repository.keys.agent;
  const head = { version: FORMAT_VERSION, critical: [], repository: repository.id, agent: { handle, publicKey } };
  const record = { ...head, ...said } as unknown as R;
  const payload = Buffer.from(JSON.stringify(record));
  const id = sha256Hex(payload) as I;
  const { restore, writer } = repository.keys.recipients;
  const { bytes } = await sealAge(signEnvelope(form.type, payload, [signer]), [...restore, ...writer], random);
  return { id, record, key: form.keyOf(Date.parse(said.time), id), bytes };
}

/** @throws `damaged`, `forged`, `unsupported_format` */
export async function openRecord<R extends AgentRecord, I extends string>(
  repository: Repository,
  form: RecordForm<R, I>,
  key: string,
  bytes: Uint8Array,
): Promise<Signed<R, I>> {
  const id = form.idIn(key);
  if (id === undefined) throw new HoldfastError('bug', `${key} is no ${form.noun}`);
  const { noun, type, schema } = form;
  const generations = repository.state.generations.map((one) => ({ ...one, fromMs: -Infinity, untilMs: Infinity }));
  const signed = {
    ...{ what: `${noun} ${id.slice(0, 8)}`, type, schema },
    keyOf: ({ time }: R) => form.keyOf(Date.parse(time), id),
  };
  try {
    const expected = { id, key, generations, repository: repository.id };
    const { record } = await openSigned(bytes, expected, signed, repository.identities);
    return { id, record, key };
  } catch (error) {
    // The key is right, or the repository would not be open.
    if (!isHoldfastError(error, 'wrong_key')) throw error;
    throw new HoldfastError('damaged', `${key} does not open with the keys of this repository`, { cause: error });
  }
}

/**
 * Those of the keys that can be opened, by time; and the problems of those that cannot be opened from any backend, `not_found` among them.
 * @param keys of those that are wanted; all that any live backend lists when not given
 */
export async function readRecords<R extends AgentRecord, I extends string>(
  repository: Repository,
  form: RecordForm<R, I>,
  keys?: Iterable<string>,
  signal?: AbortSignal,
): Promise<{ records: Signed<R, I>[]; problems: RepositoryProblem[] }> {
  const listed = new Set(keys ?? []);
  if (!keys) for await (const { key } of repository.mirror.list(form.prefix, { signal })) listed.add(key);
  const records: Signed<R, I>[] = [];
  const problems: RepositoryProblem[] = [];
  await drain([...listed], RECORDS_IN_FLIGHT, async (key) => {
    if (form.idIn(key) === undefined) return;
    try {
      const open = (bytes: Uint8Array) => openRecord(repository, form, key, bytes);
      records.push(await repository.mirror.read(key, open, { signal, quiet: true }));
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      problems.push({ key, error });
    }
  });
  problems.sort((a, b) => (a.key < b.key ? -1 : 1));
  records.sort((a, b) => (a.key < b.key ? -1 : 1));
  return { records, problems };
}
