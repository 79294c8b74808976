/** `sync`: brings every backend level with the others, and fills one that is new. The source is not read. */
import { HoldfastError, isSurvivable } from '../errors.ts';
import type { Mirror } from '../backend/mirror.ts';
import type { Backend } from '../backend/backend.ts';
import { openBackend } from '../backend/open.ts';
import {
  heal,
  level,
  openRepository,
  parseKey,
  type Access,
  type HealResult,
  type LevelResult,
  type Repository,
} from '../repository/repository.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import { addressOf, openMirror, type BackendAddress } from './backends.ts';
import { beginHostRun } from './begin-run.ts';
import { checkLogIsComplete, seen } from './host/continuity.ts';
import { readLocalState, writeLocalState, type LocalFolders } from './host/local-state.ts';
import { takeLock } from './host/lock.ts';
import { extendLocks } from './host/locks.ts';
import { secondsSince, type Seams } from './seams.ts';
import { placeOf, VerifiedMemory } from './host/verified-memory.ts';

export interface SyncOptions {
  backends: readonly BackendAddress[];
  access: Access;
  /** The agent's key: it signs that what is copied must be left alone meanwhile. */
  signer: SigningKey;
  host: string;
  folders: LocalFolders;
  /** Names of backends that may be filled from nothing although they held the repository before. */
  refill: readonly string[];
}

export interface SyncResult {
  /** Objects and bytes copied to each. */
  backends: {
    name: string;
    state: 'level' | 'failed';
    objects: number;
    bytes: number;
    /** Keys of objects that were damaged there, and are stored again from another backend. */
    healed: string[];
    /** Objects whose lock was set anew, see `extendLocks`. */
    extended: number;
    error?: { code: string; message: string; hint?: string };
  }[];
  seconds: number;
  complete: boolean;
}

/**
 * A backend without a repository is filled when it is new to this host. One that held the repository before and is empty now looks like storage
 * that is not mounted, and is filled only when named in `refill`.
 * @throws `no_repository` when no backend holds one, `foreign_repository`, `wrong_key`, …
 */
export async function sync(options: SyncOptions, seams: Seams): Promise<SyncResult> {
  const started = seams.clock.monotonic();
  const { signal } = seams;
  for (const name of options.refill) addressOf(options.backends, name);
  using _lock = takeLock(options.folders.state, 'backup or sync');
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openRepository(mirror, options.access, seams);
  checkLogIsComplete(repository.log, mirror, options.folders);
  seams.progress({ type: 'phase', name: 'levelling' });

  const remembered = readLocalState(options.folders);
  const fresh: { name: string; backend: Backend }[] = [];
  await using _closing = {
    async [Symbol.asyncDispose]() {
      for (const { backend } of fresh) await backend[Symbol.asyncDispose]();
    },
  };
  const refused = new Map<string, HoldfastError>();
  for (const { name, error } of mirror.states()) {
    if (!error) continue;
    const address = options.backends.find((backend) => backend.name === name);
    const known = remembered?.backends.includes(name) ?? true;
    const mayFill = options.refill.includes(name) || !known;
    if (!address || !mayFill || (error.code !== 'no_repository' && error.code !== 'backend_unavailable')) {
      refused.set(name, known && error.code === 'no_repository' ? emptied(name) : error);
      continue;
    }
    try {
      fresh.push({ name, backend: await openToFill(address, mirror, seams) });
      forgetVerified(options.folders, address, seams);
    } catch (problem) {
      if (!isSurvivable(problem)) throw problem;
      refused.set(name, problem);
    }
  }
  const run = await beginHostRun(repository, { ...options, kind: 'write' }, seams);
  const levelling = await level(repository, { run, fresh, signal });
  const { healed, failed } = await healSkipped(repository, levelling.results, signal);
  // What a backend did not answer may arrive there yet.
  if (!failed.some(({ mayArrive }) => mayArrive) && levelling.results.every(({ error }) => !error)) await run.end();
  const results = new Map(levelling.results.map((result) => [result.name, result]));
  const backends = options.backends.map(({ name }): Outcome => {
    const result = results.get(name);
    const error = result?.error ?? refused.get(name) ?? notWhole(name, result?.skipped ?? []);
    const copied = {
      objects: result?.objects ?? 0,
      bytes: result?.bytes ?? 0,
      healed: healed.flatMap(({ backend, key }) => (backend === name ? [key] : [])),
    };
    if (!error) return { name, state: 'level', ...copied };
    return {
      name,
      state: 'failed',
      ...copied,
      error: { code: error.code, message: error.message, ...(error.hint === undefined ? {} : { hint: error.hint }) },
    };
  });
  const levelled = backends.filter(({ state }) => state === 'level').map(({ name }) => name);
  writeLocalState(options.folders, {
    backends: [...new Set([...(remembered?.backends ?? []), ...levelled])],
    keys: seen(repository.log),
  });
  await cleanUp(repository.mirror, signal);
  const locks = await extendLocks(repository, options.folders, seams);
  for (const [name, problem] of locks.failed) failBackend(backends, name, problem);
  return {
    backends: backends.map((backend) => ({ ...backend, extended: locks.extended.get(backend.name) ?? 0 })),
    seconds: secondsSince(seams.clock, started),
    complete: backends.every(({ state }) => state === 'level'),
  };
}

/** What a backend has otherwise than its name or index says is stored there again, where another has it whole. What was healed is `skipped` no more. */
async function healSkipped(
  repository: Repository,
  results: readonly LevelResult[],
  signal: AbortSignal | undefined,
): Promise<HealResult> {
  const live = repository.mirror.live().map(({ name }) => name);
  const mishaps = results
    .filter(({ name }) => live.includes(name))
    .flatMap(({ name, skipped }) =>
      skipped.map((key) => {
        const error = new HoldfastError('damaged', `${key} on backend ${name} is not whole`);
        return { backend: name, key, error, problem: error.message, servedBy: live.find((one) => one !== name) };
      }),
    );
  const { healed, failed } = await heal(repository, mishaps, signal);
  for (const result of results)
    result.skipped = result.skipped.filter(
      (key) => !healed.some(({ backend, key: one }) => backend === result.name && one === key),
    );
  return { healed, failed };
}

/** What is copied there now was never looked at there. */
function forgetVerified(folders: LocalFolders, address: BackendAddress, { clock }: Seams): void {
  const memory = new VerifiedMemory(folders);
  memory.forgetPlace(placeOf(address), clock.now());
  memory.save();
}

/** @throws `exists` for a place that holds something else */
async function openToFill(address: BackendAddress, mirror: Mirror, seams: Seams): Promise<Backend> {
  const { clock, random, signal } = seams;
  const backend = await (seams.openBackend ?? openBackend)(address, { clock, random, create: true });
  try {
    for await (const { key } of backend.list('', { signal })) {
      // What an interrupted fill left: packs, its run, and what the others have too. Objects of another repository would mix with ours.
      if (['pack', 'run', 'condemned'].includes(parseKey(key)?.kind ?? '') || (await mirror.head(key, { signal })))
        continue;
      throw new HoldfastError('exists', `backend ${address.name} is not empty: it holds ${key}`, {
        hint: 'Nothing was changed there. Choose a new or empty place.',
      });
    }
    return backend;
  } catch (error) {
    await backend[Symbol.asyncDispose]();
    throw error;
  }
}

/** Unfinished uploads cost room and harm nothing: what is refused is left, for a rule of the bucket. */
async function cleanUp(mirror: Mirror, signal: AbortSignal | undefined): Promise<void> {
  for (const { backend } of mirror.live()) {
    await backend.cleanUp?.({ signal }).catch(ignoreSurvivable);
  }
}

function ignoreSurvivable(error: unknown): void {
  if (!isSurvivable(error)) throw error;
}

type Outcome = Omit<SyncResult['backends'][number], 'extended'>;

function failBackend(backends: Outcome[], name: string, { code, message, hint }: HoldfastError): void {
  const backend = backends.find((one) => one.name === name);
  if (!backend || backend.error) return;
  backend.state = 'failed';
  backend.error = { code, message, ...(hint === undefined ? {} : { hint }) };
}

function notWhole(name: string, skipped: readonly string[]): HoldfastError | undefined {
  const [first] = skipped;
  if (first === undefined) return undefined;
  const what = `${skipped.length} objects could not be copied to backend ${name}, the first being ${first}`;
  return new HoldfastError('damaged', `${what}: no backend has them whole, or what they need`, {
    hint: '`holdfast verify --level listing` tells what of it is damaged, or lacks what it needs.',
  });
}

function emptied(name: string): HoldfastError {
  return new HoldfastError('no_repository', `backend ${name} held this repository and is empty now`, {
    hint: `If its storage is not mounted, mount it. If it is really gone, run \`holdfast sync --refill ${name}\`.`,
  });
}
