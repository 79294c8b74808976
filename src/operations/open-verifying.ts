/** Opening a repository to look for damage: a backend that is one of its own, and whose `holdfast.json` is not right, is damaged and not absent. */
import { isHoldfastError, isSurvivable } from '../errors.ts';
import type { Backend } from '../backend/backend.ts';
import type { Mirror } from '../backend/mirror.ts';
import { openBackend } from '../backend/open.ts';
import {
  openRepository,
  REPOSITORY_KEY,
  type Access,
  type Damage,
  type Repository,
  type ScrubOptions,
} from '../repository/repository.ts';
import { openForRestore, type ExpectedRepository, type RestoreSecret } from './access.ts';
import { openMirror, type BackendAddress } from './backends.ts';
import type { LocalFolders } from './host/local-state.ts';
import type { Seams } from './seams.ts';
import { placeOf, VerifiedMemory } from './host/verified-memory.ts';

export type VerifyAccess =
  | { kind: 'writer'; access: Access }
  | { kind: 'restore'; secret: RestoreSecret; expected?: ExpectedRepository | undefined };

export interface OpenedToVerify extends AsyncDisposable {
  mirror: Mirror;
  repository: Repository;
  /** Backends whose `holdfast.json` is not right; none of the rest of them was looked at unless it is repaired. */
  damaged: Damage[];
}

/** What a `holdfast.json` that is missing, changed, or another one looks like. */
const SUSPICIOUS = [
  'damaged',
  'forged',
  'foreign_repository',
  'no_repository',
  'wrong_key',
  'unsupported_format',
] as const;

export async function openToVerify(
  backends: readonly BackendAddress[],
  access: VerifyAccess,
  { repair }: { repair: boolean },
  seams: Seams,
): Promise<OpenedToVerify> {
  let mirror = await openMirror(backends, seams);
  try {
    let repository = await open(mirror, access, seams);
    const damaged: Damage[] = [];
    for (const { name, error } of mirror.states()) {
      const address = backends.find((one) => one.name === name);
      if (!address || !isHoldfastError(error, ...SUSPICIOUS)) continue;
      if (!(await isOurs(address, repository, { repair }, seams))) continue;
      damaged.push({
        ...{ backend: name, key: REPOSITORY_KEY, problem: error.message, snapshots: [], paths: [] },
        means: 'says what this repository is: without it the backend serves for nothing',
        elsewhere: mirror.live().map((one) => one.name),
        unread: [],
        repaired: false,
      });
    }
    if (repair && damaged.length > 0) {
      const again = await openMirror(backends, seams);
      await mirror[Symbol.asyncDispose]();
      mirror = again;
      repository = await open(mirror, access, seams);
      for (const one of damaged) one.repaired = mirror.live().some(({ name }) => name === one.backend);
    }
    const opened = mirror;
    return { mirror, repository, damaged, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
  } catch (error) {
    await mirror[Symbol.asyncDispose]();
    throw error;
  }
}

function open(mirror: Mirror, access: VerifyAccess, seams: Seams): Promise<Repository> {
  return access.kind === 'writer'
    ? openRepository(mirror, access.access, seams)
    : openForRestore(mirror, access.secret, access.expected, seams);
}

/** Whether the backend holds entries of this repository's identity log, by their names. With `repair` it gets the right `holdfast.json`. */
async function isOurs(
  address: BackendAddress,
  repository: Repository,
  { repair }: { repair: boolean },
  seams: Seams,
): Promise<boolean> {
  const { clock, random, signal } = seams;
  let backend: Backend | undefined;
  let isOne = false;
  try {
    backend = await (seams.openBackend ?? openBackend)(address, { clock, random, create: false });
    for await (const { key } of backend.list('keys/', { signal }))
      isOne ||= repository.log.some(({ id }) => key.endsWith(`-${id}.json`));
    if (isOne && repair) await backend.put(REPOSITORY_KEY, repository.plain, { signal });
  } catch (error) {
    if (!isSurvivable(error)) throw error; // it shows when the backend is opened again
  } finally {
    await backend?.[Symbol.asyncDispose]();
  }
  return isOne;
}

export interface Remembered {
  /** What runs before found; undefined where there is no folder for it. */
  memory: VerifiedMemory | undefined;
  /** By the name of a backend: what is remembered of it stands under its place. */
  placeOf: (name: string) => string;
  /** What every look at the objects is given. */
  how: Pick<ScrubOptions, 'signal' | 'onProgress' | 'lastDamaged' | 'seams'>;
}

/** What a look at the objects of these backends goes by. */
export function remembered(
  { backends, folders }: { backends: readonly BackendAddress[]; folders?: LocalFolders | undefined },
  seams: Seams,
): Remembered {
  const memory = folders && new VerifiedMemory(folders);
  const places = new Map(backends.map((address) => [address.name, placeOf(address)]));
  const place = (name: string): string => places.get(name) ?? '';
  return {
    ...{ memory, placeOf: place },
    how: {
      ...{ seams, signal: seams.signal },
      onProgress: (done, total) =>
        seams.progress({ type: 'progress', phase: 'verifying', done, total, unit: 'objects' }),
      lastDamaged: (name, pack) => memory?.lastDamaged(place(name), pack),
    },
  };
}
