/**
 * Bringing backends level: what one has and another lacks is copied, byte for byte, without the source and without opening a pack.
 *
 * A backend that holds an index holds its packs (I1), so comparing the short listings of keys, indexes and snapshots tells what is missing. The
 * order of copying is the order of writing: keys, packs, index, snapshots.
 */
import { HoldfastError, isHoldfastError } from '../errors.ts';
import type { Backend } from '../backend/backend.ts';
import { checkContentName, packKey, parseKey, REPOSITORY_KEY, type ObjectName } from './format.ts';
import type { Repository } from './open.ts';

export interface LevelResult {
  name: string;
  /** Objects and bytes copied to this backend. */
  objects: number;
  bytes: number;
  /** Why it could not be brought level. */
  error?: HoldfastError;
}

interface Member {
  name: string;
  backend: Backend;
  keys: Set<string>;
  result: LevelResult;
}

/**
 * Levels all live backends of the repository's mirror. One that cannot be brought level is taken out of the mirror with its error,
 * so that no snapshot is written where something it needs is missing.
 * @param fresh backends without a repository that are to be filled.
 */
export async function level(
  repository: Repository,
  options: { fresh?: readonly { name: string; backend: Backend }[]; signal?: AbortSignal | undefined } = {},
): Promise<LevelResult[]> {
  const { mirror } = repository;
  const { signal } = options;
  const members = [...mirror.live(), ...(options.fresh ?? [])].map(({ name, backend }): Member => ({
    name,
    backend,
    keys: new Set(),
    result: { name, objects: 0, bytes: 0 },
  }));
  for (const member of members) {
    try {
      member.keys = await shortListing(member.backend, signal);
    } catch (error) {
      takeOut(repository, member, error);
    }
  }
  const union = new Set(members.flatMap((member) => [...member.keys]));
  await Promise.all(
    members.map(async (member) => {
      if (member.result.error) return;
      try {
        await fill(repository, member, union, signal);
      } catch (error) {
        takeOut(repository, member, error);
      }
    }),
  );
  return members.map((member) => member.result);
}

function takeOut(repository: Repository, member: Member, error: unknown): void {
  if (!isHoldfastError(error) || error.code === 'interrupted' || error.code === 'bug') throw error;
  member.result.error = error;
  repository.mirror.fail(member.name, error);
}

async function shortListing(backend: Backend, signal: AbortSignal | undefined): Promise<Set<string>> {
  const keys = new Set<string>();
  if (await backend.head(REPOSITORY_KEY, { signal })) keys.add(REPOSITORY_KEY);
  for (const prefix of ['keys/', 'identity/', 'index/', 'snapshots/']) {
    for await (const { key } of backend.list(prefix, { signal })) if (parseKey(key)) keys.add(key);
  }
  return keys;
}

async function fill(
  repository: Repository,
  member: Member,
  union: ReadonlySet<string>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const missing = [...union].filter((key) => !member.keys.has(key)).toSorted();
  const ofKind = (...kinds: ObjectName['kind'][]) =>
    missing.filter((key) => kinds.includes(parseKey(key)?.kind ?? 'pack'));
  for (const key of ofKind('keys', 'secrets', 'identity')) await copy(repository, member, key, signal);
  for (const key of ofKind('index')) {
    const packs = await repository.mirror.read(key, (bytes) => repository.checkIndex(idOf(key), bytes), { signal, quiet: true });
    for (const pack of packs) {
      const there = await member.backend.head(packKey(pack.id), { signal });
      if (there?.size === pack.storedBytes) continue;
      if (there)
        throw new HoldfastError('damaged', `${packKey(pack.id)} on backend ${member.name} has the wrong size`, {
          hint: 'Run `holdfast verify` for it.',
        });
      await copy(repository, member, packKey(pack.id), signal);
    }
    await copy(repository, member, key, signal);
  }
  for (const key of ofKind('snapshot')) await copy(repository, member, key, signal);
  for (const key of ofKind('repository')) await copy(repository, member, key, signal);
}

async function copy(
  repository: Repository,
  member: Member,
  key: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const bytes = await repository.mirror.read(
    key,
    async (candidate) => {
      await checkStored(repository, key, candidate);
      return candidate;
    },
    { signal, quiet: true }, // that some lack it is the reason for reading it
  );
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
      checkContentName(bytes, name.id, key);
      break;
    case 'index':
      await repository.checkIndex(name.id, bytes);
      break;
    case 'snapshot':
      await repository.checkSnapshot(name.id, key, bytes);
      break;
    case 'repository':
      if (!Buffer.from(bytes).equals(repository.plain))
        throw new HoldfastError('damaged', `${REPOSITORY_KEY} differs from the one that was opened`);
      break;
    case 'identity':
    case undefined:
      break; // nothing but the restore key can tell; scrub looks into it where that is at hand
  }
}

function idOf(key: string): string {
  const name = parseKey(key);
  if (name?.kind !== 'index') throw new HoldfastError('bug', 'not an index key');
  return name.id;
}
