/**
 * Bringing backends level: what one has and another lacks is copied, byte for byte, without the source and without opening a pack. The order of
 * copying is the order of writing: keys, packs, indexes, snapshots, annotations.
 */
import type { Clock } from '../clock.ts';
import { HoldfastError, isHoldfastError, isSurvivable } from '../errors.ts';
import type { Backend } from '../backend/backend.ts';
import { drain } from '../drain.ts';
import { PACKS_IN_FLIGHT } from '../limits.ts';
import { checkContentName, packKey, parseKey, REPOSITORY_KEY, type ObjectName, type PackId } from './object-name.ts';
import { addListed, type ListedSnapshots, type Repository } from './open.ts';
import type { PackIndex } from './pack-index.ts';

export interface LevelResult {
  name: string;
  /** Objects and bytes copied to this backend. */
  objects: number;
  bytes: number;
  /** Keys of objects that it lacks and no backend has whole. */
  skipped: string[];
  /** Why it could not be brought level. */
  error?: HoldfastError;
}

export interface Levelled {
  results: LevelResult[];
  /** What the indexes name, without the packs that no backend has: their chunks count as unknown, and a backup stores them again. */
  index: PackIndex;
  /** The snapshots that were on the backends that are still in use, as `Repository.listSnapshots` has them. */
  snapshots: ListedSnapshots;
  /** Keys of the annotations on those backends. */
  annotations: string[];
  /** Indexes and packs that no backend has whole. */
  problems: { key: string; error: HoldfastError }[];
}

/** How long the copying may take before backends that are not done are left behind. */
export interface Patience {
  clock: Clock;
  ms: number;
  /** Whether the run can go on with the backends that are done. Asked once the time is over, and whenever another one is done after that. */
  enough: (done: readonly LevelResult[]) => boolean;
}

export interface LevelOptions {
  /** Backends without a repository that are to be filled. */
  fresh?: readonly { name: string; backend: Backend }[];
  /** Default: all are waited for. */
  patience?: Patience;
  /** The index that is returned holds the packs without their chunks, which are most of its memory. */
  packsOnly?: boolean;
  signal?: AbortSignal | undefined;
}

interface Member {
  name: string;
  backend: Backend;
  /** What it holds, with sizes. */
  objects: Map<string, number>;
  result: LevelResult;
  isDone: boolean;
  /** Aborted when patience with it has ended. */
  stop: AbortController;
}

/**
 * Levels all live backends of the repository's mirror, and those left behind, and reads the index on the way. A backend that fails is taken out of the
 * mirror with its error, so that no snapshot is written where something it needs is missing. One left behind that is level then is taken in again.
 */
export async function level(repository: Repository, options: LevelOptions = {}): Promise<Levelled> {
  const { signal, patience, packsOnly = false } = options;
  const { mirror } = repository;
  const behind = new Set(mirror.behind().map(({ name }) => name));
  const members = [...mirror.live(), ...mirror.behind(), ...(options.fresh ?? [])].map(({ name, backend }): Member => ({
    name,
    backend,
    objects: new Map(),
    result: { name, objects: 0, bytes: 0, skipped: [] },
    isDone: false,
    stop: new AbortController(),
  }));
  const each = async (work: (member: Member) => Promise<void>) => {
    await Promise.all(
      members.map(async (member) => {
        if (member.result.error) return;
        try {
          await work(member);
        } catch (error) {
          if (!isSurvivable(error)) throw error;
          member.result.error = error;
          mirror.fail(member.name, error);
        }
      }),
    );
  };
  await each(async ({ backend, objects }) => {
    for await (const { key, size } of backend.list('', { signal })) if (parseKey(key)) objects.set(key, size);
  });
  const union = new Set(members.flatMap(({ objects }) => [...objects.keys()]));
  const { index, packsOf, problems } = await repository.readIndexes(union, { packsOnly, signal, quiet: true });
  const sizes = new Map(index.packs.map(({ id, storedBytes }) => [id, storedBytes]));
  const lost = new Set<PackId>();
  const isWholeSomewhere = (id: PackId) => members.some(({ objects }) => objects.get(packKey(id)) === sizes.get(id));
  let isTimeUp = false;
  const endPatience = (): void => {
    const done = members.flatMap(({ isDone, result }) => (isDone ? [result] : []));
    if (isTimeUp && patience?.enough(done)) for (const { isDone, stop } of members) if (!isDone) stop.abort();
  };
  const filled = new AbortController();
  patience?.clock.sleep(patience.ms, filled.signal).then(
    () => {
      isTimeUp = true;
      endPatience();
    },
    () => undefined, // all are done
  );
  try {
    await each(async (member) => {
      const { name, result, stop } = member;
      const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
      try {
        await fill(repository, member, { union, sizes, packsOf, lost, isWholeSomewhere }, either);
      } catch (error) {
        if (!stop.signal.aborted || signal?.aborted || !isHoldfastError(error, 'interrupted')) throw error;
        return mirror.leaveBehind(name, `it was not level after ${result.objects} objects were copied to it`);
      }
      member.isDone = true;
      if (behind.has(name) && result.skipped.length === 0) mirror.rejoin(name);
      endPatience();
    });
  } finally {
    filled.abort();
  }

  for (const id of lost)
    problems.push({ key: packKey(id), error: new HoldfastError('damaged', 'no backend has this pack whole') });
  const isListed = (key: string) => members.some(({ objects }) => objects.has(key));
  for (const key of repository.keyObjects) {
    if (!isListed(key))
      problems.push({ key, error: new HoldfastError('damaged', 'it is on no backend, and a recovery needs it') });
  }
  const inUse = members.filter(({ name }) => repository.mirror.live().some((one) => one.name === name));
  return {
    results: members.map(({ result }) => result),
    index: lost.size > 0 ? index.without(lost) : index,
    snapshots: snapshotsIn(inUse),
    annotations: [...new Set(inUse.flatMap(({ objects }) => [...objects.keys()]))].filter(
      (key) => parseKey(key)?.kind === 'annotation',
    ),
    problems,
  };
}

function snapshotsIn(members: readonly Member[]): ListedSnapshots {
  const found: ListedSnapshots = new Map();
  for (const { name, objects } of members) {
    for (const key of objects.keys()) addListed(found, key, name);
  }
  return found;
}

async function fill(
  repository: Repository,
  member: Member,
  all: {
    union: ReadonlySet<string>;
    /** Bytes of every pack that an index names. */
    sizes: ReadonlyMap<PackId, number>;
    /** For each index, by its key, the packs it names. */
    packsOf: ReadonlyMap<string, readonly PackId[]>;
    /** Packs that turn out to be whole nowhere, or not indexed where they are. */
    lost: Set<PackId>;
    isWholeSomewhere: (id: PackId) => boolean;
  },
  signal: AbortSignal | undefined,
): Promise<void> {
  const { union, sizes, packsOf, lost, isWholeSomewhere } = all;
  const missing = [...union].filter((key) => !member.objects.has(key)).toSorted();
  const ofKind = (...kinds: ObjectName['kind'][]) =>
    missing.filter((key) => kinds.includes(parseKey(key)?.kind ?? 'pack'));
  let hasKeys = true;
  for (const key of ofKind('keys', 'secrets', 'identity', 'vault'))
    if (!(await copyIfGood(repository, member, key, signal))) hasKeys = false;
  let hasAll = hasKeys;
  await drain([...sizes], PACKS_IN_FLIGHT, async ([id, storedBytes]) => {
    const key = packKey(id);
    const size = member.objects.get(key);
    if (size === storedBytes) return;
    // One of a wrong size is damage; it is told, never overwritten.
    if (size !== undefined) member.result.skipped.push(key);
    if (size !== undefined ? isWholeSomewhere(id) : await copyIfGood(repository, member, key, signal)) return;
    lost.add(id);
    hasAll = false;
  });
  for (const key of ofKind('index')) {
    const packs = packsOf.get(key);
    if (packs && (await copyIfGood(repository, member, key, signal))) continue;
    // One that could not be read before may be readable by now, but the packs it names were not copied.
    if (!packs) member.result.skipped.push(key);
    // The backend that had it went away meanwhile: without it, nobody would find these packs here.
    for (const id of packs ?? []) lost.add(id);
    hasAll = false;
  }
  // Which packs a snapshot needs only the restore key could tell: where anything is lacking, any old snapshot may be.
  for (const key of ofKind('snapshot')) {
    if (hasAll) await copyIfGood(repository, member, key, signal);
    else member.result.skipped.push(key);
  }
  // What is said of a snapshot needs the keys and nothing else.
  for (const key of ofKind('annotation', 'verified')) await copyIfGood(repository, member, key, signal);
  // Without its keys it cannot be opened, and is none.
  for (const key of ofKind('repository'))
    if (hasKeys) await store(member, key, await readGood(repository, key, signal), signal);
}

/** Undefined when no backend has the object whole. */
async function unlessBad<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isHoldfastError(error, 'damaged', 'forged', 'wrong_key', 'not_found', 'not_enough_backends')) return undefined;
    throw error;
  }
}

/** @returns false when no backend has the object whole; it is noted, and nothing is stored. */
async function copyIfGood(
  repository: Repository,
  member: Member,
  key: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const bytes = await unlessBad(readGood(repository, key, signal));
  if (bytes) await store(member, key, bytes, signal);
  else member.result.skipped.push(key);
  return bytes !== undefined;
}

function readGood(repository: Repository, key: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const check = async (bytes: Uint8Array) => {
    await checkStored(repository, key, bytes);
    return bytes;
  };
  return repository.mirror.read(key, check, { signal, quiet: true }); // that some lack it is the reason for reading it
}

async function store(member: Member, key: string, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
  await member.backend.put(key, bytes, { ifAbsent: true, signal });
  member.result.objects++;
  member.result.bytes += bytes.length;
}

/** Checks a stored object as far as it can be without the restore key. @throws `damaged`, `forged`, … */
export async function checkStored(repository: Repository, key: string, bytes: Uint8Array): Promise<void> {
  const name = parseKey(key);
  switch (name?.kind) {
    case 'pack':
    case 'keys':
    case 'secrets':
    case 'vault':
      checkContentName(bytes, name.id, key);
      break;
    case 'index':
      await repository.checkIndex(name.id, bytes);
      break;
    case 'snapshot':
      await repository.checkSnapshot(name.id, key, bytes);
      break;
    case 'annotation':
      await repository.checkAnnotation(name.id, key, bytes);
      break;
    case 'verified':
      await repository.checkVerified(name.id, key, bytes);
      break;
    case 'repository':
      if (!Buffer.from(bytes).equals(repository.plain))
        throw new HoldfastError('damaged', `${REPOSITORY_KEY} differs from the one that was opened`);
      break;
    case 'identity': {
      const id = name.id ?? repository.log.find(({ identityObject }) => identityObject === key)?.record.identity;
      if (id !== undefined) checkContentName(bytes, id, key);
      break;
    }
    case undefined:
      break;
  }
}
