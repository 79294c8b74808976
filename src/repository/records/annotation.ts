/** Annotations: what is said of a snapshot after it was made. Like a snapshot signed by the agent, sealed, and never changed. */
import { HoldfastError } from '../../errors.ts';
import type { Random } from '../../clock.ts';
import { sealAge } from '../../crypto/age.ts';
import { signEnvelope } from '../../crypto/dsse.ts';
import { sha256Hex } from '../../crypto/hash.ts';
import { drain } from '../../drain.ts';
import { RECORDS_IN_FLIGHT } from '../../limits.ts';
import {
  ANNOTATION_PAYLOAD_TYPE,
  annotationSchema,
  FORMAT_VERSION,
  type AnnotationRecord,
  type Signer,
} from './format.ts';
import type { Generation } from '../keys/key-log.ts';
import { annotationKey, parseKey, type AnnotationId } from './object-name.ts';
import type { Repository, RepositoryProblem } from '../open.ts';
import { knownLosses, type KnownLoss } from './known-loss.ts';
import { openSigned, type Snapshot } from './snapshot.ts';

/** An annotation whose signature and name were checked. */
export interface Annotation {
  id: AnnotationId;
  record: AnnotationRecord;
  /** The object it was read from. */
  key: string;
}

/** @throws `damaged`, `forged`, `wrong_key`, `unsupported_format` */
export async function openAnnotation(
  bytes: Uint8Array,
  expected: { id: AnnotationId; key: string; generations: readonly Generation[]; repository: string },
  identities: readonly string[],
): Promise<Annotation> {
  const form = {
    what: `annotation ${expected.id.slice(0, 8)}`,
    type: ANNOTATION_PAYLOAD_TYPE,
    schema: annotationSchema,
    keyOf: ({ time }: AnnotationRecord) => annotationKey(Date.parse(time), expected.id),
  };
  const { record } = await openSigned(bytes, expected, form, identities);
  return { id: expected.id, record, key: expected.key };
}

/** Writes an annotation to the live backends of the mirror. The same one twice is one. */
export async function annotate(
  repository: Repository,
  said: Omit<AnnotationRecord, 'version' | 'critical' | 'repository' | 'agent'>,
  signer: Signer,
  { random, signal }: { random: Random; signal?: AbortSignal | undefined },
): Promise<Annotation> {
  const { handle, publicKey } = repository.keys.agent;
  const { snapshot, time, host, ...rest } = said;
  const record: AnnotationRecord = {
    version: FORMAT_VERSION,
    critical: [],
    repository: repository.id,
    agent: { handle, publicKey },
    ...{ snapshot, time, host },
    ...rest,
  };
  const payload = Buffer.from(JSON.stringify(record));
  const id = sha256Hex(payload) as AnnotationId;
  const { restore, writer } = repository.keys.recipients;
  const envelope = signEnvelope(ANNOTATION_PAYLOAD_TYPE, payload, [signer]);
  const { bytes } = await sealAge(envelope, [...restore, ...writer], random);
  const key = annotationKey(Date.parse(time), id);
  await repository.mirror.put(key, bytes, { ifAbsent: true, signal });
  return { id, record, key };
}

/**
 * The annotations that can be opened and verified, in the order in which they were made, and the problems of those that cannot.
 * @param keys of those that are wanted; all that any backend lists when not given
 */
export async function readAnnotations(
  repository: Repository,
  keys?: Iterable<string>,
  signal?: AbortSignal,
): Promise<{ annotations: Annotation[]; problems: RepositoryProblem[] }> {
  const listed = new Set(keys ?? []);
  if (!keys) for await (const { key } of repository.mirror.list('annotations/', { signal })) listed.add(key);
  const annotations: Annotation[] = [];
  const problems: RepositoryProblem[] = [];
  await drain([...listed], RECORDS_IN_FLIGHT, async (key) => {
    const name = parseKey(key);
    if (name?.kind !== 'annotation') return;
    try {
      const open = (bytes: Uint8Array) => repository.checkAnnotation(name.id, key, bytes);
      annotations.push(await repository.mirror.read(key, open, { signal }));
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code === 'interrupted' || error.code === 'bug') throw error;
      problems.push({ key, error });
    }
  });
  problems.sort((a, b) => (a.key < b.key ? -1 : 1));
  annotations.sort((a, b) =>
    a.record.time < b.record.time || (a.record.time === b.record.time && a.id < b.id) ? -1 : 1,
  );
  return { annotations, problems };
}

/** What is said of a snapshot beside its record, all annotations taken together. */
export interface Said {
  tags: string[];
  note: string | null;
  isAcknowledged: boolean;
  /** What of it was given up as lost on every backend. */
  lost: KnownLoss | undefined;
}

/** @param annotations in the order in which they were made */
export function whatIsSaid(snapshot: Pick<Snapshot, 'id' | 'record'>, annotations: readonly Annotation[]): Said {
  const { id, record } = snapshot;
  const tags = new Set(record.tags);
  let note = record.note ?? null;
  let isAcknowledged = false;
  for (const { record: said } of annotations) {
    if (said.snapshot !== id) continue;
    for (const tag of said.tags?.remove ?? []) tags.delete(tag);
    for (const tag of said.tags?.add ?? []) tags.add(tag);
    if (said.note !== undefined) note = said.note === '' ? null : said.note;
    if (said.acknowledged) isAcknowledged = true;
  }
  return { tags: [...tags], note, isAcknowledged, lost: knownLosses(annotations).get(id) };
}

/** By their times. */
export function inOrder(annotations: Iterable<Annotation>): Annotation[] {
  return [...annotations].sort((a, b) =>
    a.record.time < b.record.time || (a.record.time === b.record.time && a.id < b.id) ? -1 : 1,
  );
}
