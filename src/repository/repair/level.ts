/**
 * Bringing backends level: what one has and another lacks is copied, byte for byte, without the source and without opening a pack. The order of
 * copying is the order of writing: keys and what nobody may miss (condemned records, runs), packs, indexes, snapshots, annotations.
 */
import type { Clock } from '../../clock.ts';
import { HoldfastError, isHoldfastError, isSurvivable } from '../../errors.ts';
import type { Backend } from '../../backend/backend.ts';
import { drain } from '../../drain.ts';
import { PACKS_IN_FLIGHT } from '../../limits.ts';
import { openRecord, readRecords } from '../records/agent-record.ts';
import { CONDEMNED_FORM, readCondemned, type Condemned } from '../records/condemned.ts';
import { DRILL_FORM } from '../records/drills.ts';
import {
  checkContentName,
  packKey,
  parseKey,
  REPOSITORY_KEY,
  type ObjectName,
  type PackId,
} from '../records/object-name.ts';
import { addListed, LOOKS_MAX, mayBeReplaced, type ListedSnapshots, type Repository } from '../open.ts';
import type { PackIndex } from '../packs/pack-index.ts';
import { RUN_FORM, runsNotOver, type BegunRun } from '../records/runs.ts';

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
  /** What the indexes name, without the packs that no backend has or that are condemned: their chunks count as unknown, and a backup stores them again. */
  index: PackIndex;
  /** The condemned records on those backends. */
  condemned: Condemned[];
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
  /** The caller's, which is on every live backend: what is found from now on will not be deleted before it is over. */
  run: BegunRun;
  /** Backends without a repository that are to be filled. */
  fresh?: readonly { name: string; backend: Backend }[];
  /** Members that were left behind are no part of it. */
  liveOnly?: boolean;
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
  /** It is waited for no more. */
  isLeft: boolean;
  /** Aborted when patience with it has ended. */
  stop: AbortController;
}

/**
 * Levels all live backends of the repository's mirror, and those left behind, and reads the index on the way. A backend that fails is taken out of the
 * mirror with its error, so that no snapshot is written where something it needs is missing. One left behind that is level then is taken in again.
 */
export async function level(repository: Repository, options: LevelOptions): Promise<Levelled> {
  const { signal, patience, run, liveOnly = false, packsOnly = false } = options;
  const { mirror } = repository;
  const behind = new Set(mirror.behind().map(({ name }) => name));
  const members = [...mirror.live(), ...(liveOnly ? [] : mirror.behind()), ...(options.fresh ?? [])].map(
    ({ name, backend }): Member => ({
      name,
      backend,
      objects: new Map(),
      result: { name, objects: 0, bytes: 0, skipped: [] },
      isDone: false,
      isLeft: false,
      stop: new AbortController(),
    }),
  );
  const each = async (work: (member: Member) => Promise<void>) => {
    await Promise.all(
      members.map(async (member) => {
        if (member.result.error || member.isLeft) return;
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
  /** @returns false when patience with the member ended first: it is left behind then. */
  const unlessLeft = async (member: Member, work: (either: AbortSignal) => Promise<unknown>): Promise<boolean> => {
    const { name, result, stop } = member;
    try {
      await work(signal ? AbortSignal.any([signal, stop.signal]) : stop.signal);
      return true;
    } catch (error) {
      if (!stop.signal.aborted || signal?.aborted || !isHoldfastError(error, 'interrupted')) throw error;
      member.isLeft = true;
      mirror.leaveBehind(name, `it was not level after ${result.objects} objects were copied to it`);
      return false;
    }
  };
  const isLive = new Set(mirror.live().map(({ name }) => name));
  // Of a backend without a repository nothing is ever deleted.
  const isFresh = new Set(options.fresh?.map(({ name }) => name));
  const late = members.filter(({ name }) => !isLive.has(name) && !isFresh.has(name));
  const begun = new AbortController();
  patience?.clock.sleep(patience.ms, begun.signal).then(
    () => isLive.size > 0 && late.forEach(({ stop }) => stop.abort()),
    () => undefined, // all have it
  );
  try {
    await each(async (member) => {
      if (!late.includes(member)) return;
      await unlessLeft(member, (either) => member.backend.put(run.key, run.bytes, { ifAbsent: true, signal: either }));
    });
  } finally {
    begun.abort();
  }
  const look = async () => {
    await each(async (member) => {
      member.objects = new Map();
      for await (const { key, size } of member.backend.list('', { signal }))
        if (parseKey(key)) member.objects.set(key, size);
    });
    const union = new Set(members.flatMap(({ objects }) => [...objects.keys()]));
    const records = await readCondemned(repository, union, signal);
    const condemned = new Set(records.condemned.flatMap(({ record }) => record.packs));
    const indexes = await repository.readIndexes(union, { packsOnly, without: condemned, signal, quiet: true });
    return { union, records, condemned, ...indexes };
  };
  let seen = await look();
  for (let looks = 1; looks < LOOKS_MAX && [...seen.problems, ...seen.records.problems].some(mayBeReplaced); looks++)
    seen = await look();
  const { union, records, condemned, index, packsOf, problems } = seen;
  for (const { key, error } of records.problems) {
    // Any pack may be the one that it names: nothing that is there can be relied upon.
    const unreadable = new HoldfastError('damaged', `${key} cannot be read: ${error.message}`, {
      hint: 'It says which packs are about to be deleted. `holdfast verify --repair` heals it where another backend has it; else see docs/prune.md.',
      cause: error,
    });
    await each(({ objects }) => (objects.has(key) ? Promise.reject(unreadable) : Promise.resolve()));
    if (members.every(({ result }) => result.error)) throw unreadable;
  }
  // A sweep takes these away first, and on one backend after the other: one that came back would say that its snapshots can be put back.
  const held = new Set(records.condemned.flatMap(({ key, record }) => (record.snapshots.length > 0 ? [key] : [])));
  const isLacked = [...held].some((key) => members.some(({ objects }) => !objects.has(key)));
  const going = isLacked && (await isSwept(repository, union, run, signal)) ? held : new Set<string>();
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
      const { name, result } = member;
      const all = { run: run.key, union, going, sizes, packsOf, lost, isWholeSomewhere };
      if (!(await unlessLeft(member, (either) => fill(repository, member, all, either)))) return;
      member.isDone = true;
      if (behind.has(name) && result.skipped.length === 0) mirror.rejoin(name);
      endPatience();
    });
  } finally {
    filled.abort();
  }

  for (const id of lost) {
    if (condemned.has(id)) continue; // somebody is deleting it
    problems.push({ key: packKey(id), error: new HoldfastError('damaged', 'no backend has this pack whole') });
  }
  const isListed = (key: string) => members.some(({ objects }) => objects.has(key));
  for (const key of repository.keyObjects) {
    if (!isListed(key))
      problems.push({ key, error: new HoldfastError('damaged', 'it is on no backend, and a recovery needs it') });
  }
  const inUse = members.filter(({ name }) => repository.mirror.live().some((one) => one.name === name));
  return {
    results: members.map(({ result }) => result),
    index: lost.size > 0 ? index.without(lost) : index,
    condemned: records.condemned,
    snapshots: snapshotsIn(inUse),
    annotations: [...new Set(inUse.flatMap(({ objects }) => [...objects.keys()]))].filter(
      (key) => parseKey(key)?.kind === 'annotation',
    ),
    problems,
  };
}

/**
 * Whether a sweep may have been under way when the keys were listed. One that deletes has waited for every run that was on before it began to, so whoever
 * has a run on record and still finds what it deletes finds its record, too; one that is gone by now counts.
 */
async function isSwept(
  repository: Repository,
  listed: ReadonlySet<string>,
  own: BegunRun,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { records, problems } = await readRecords(repository, RUN_FORM, listed, signal);
  const others = runsNotOver([...records, own], []).filter(({ id }) => id !== own.id);
  return problems.length > 0 || others.some(({ record }) => record.kind === 'sweep');
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
    /** Not copied: where it is needed it is. */
    run: string;
    union: ReadonlySet<string>;
    /** Condemned records that are not copied: somebody may be deleting them. */
    going: ReadonlySet<string>;
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
  for (const key of ofKind('condemned')) if (!all.going.has(key)) await copyIfGood(repository, member, key, signal);
  // That of a run which only a new backend has, or which has ended meanwhile, is missed by nobody.
  for (const key of ofKind('run')) {
    if (key === all.run) continue;
    const bytes = await readGood(repository, key, signal).catch((error: unknown) => {
      if (!isSurvivable(error)) throw error;
      if (!isHoldfastError(error, 'not_found', 'not_enough_backends')) member.result.skipped.push(key);
    });
    if (bytes) await store(member, key, bytes, signal);
  }
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
  for (const key of ofKind('annotation', 'verified', 'drill')) await copyIfGood(repository, member, key, signal);
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
    case 'run':
      await openRecord(repository, RUN_FORM, key, bytes);
      break;
    case 'condemned':
      await openRecord(repository, CONDEMNED_FORM, key, bytes);
      break;
    case 'drill':
      await openRecord(repository, DRILL_FORM, key, bytes);
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
