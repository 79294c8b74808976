/** An agent with its state, keys and repository in a temporary folder, on backends in memory or in folders. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { openBackend } from '../../src/backend/open.ts';
import { systemClock, type Clock, type Random } from '../../src/clock.ts';
import { HoldfastError } from '../../src/errors.ts';
import { parseAgentKey, type SigningKey } from '../../src/identity/agent-key.ts';
import { parseWordsText, restoreIdentity, type Root } from '../../src/identity/root.ts';
import { parseWriterKey, type WriterKey } from '../../src/identity/writer-key.ts';
import type { BackendAddress } from '../../src/operations/backends.ts';
import { backup, type BackupOptions, type BackupResult } from '../../src/operations/backup.ts';
import { init } from '../../src/operations/init.ts';
import { MARKER } from '../../src/operations/host/continuity.ts';
import { recover, type RecoverOptions, type RecoverResult } from '../../src/operations/recover.ts';
import { restore, type RestoreOptions, type RestoreResult } from '../../src/operations/restore.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { sync, type SyncResult } from '../../src/operations/sync.ts';
import { verify, type VerifyResult } from '../../src/operations/verify.ts';
import { noProgress } from '../../src/progress.ts';
import { Mirror } from '../../src/backend/mirror.ts';
import { openRepository, type Access, type Repository, type ScrubLevel } from '../../src/repository/repository.ts';
import { seededRandom } from '../crypto/support.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import { contentDifference, inventory, removeFolder, temporaryFolder } from '../state/trees.ts';

/**
 * A clock that runs an hour ahead: files made just now count as long untouched, so that the cache of the last manifest
 * is trusted without waiting for the file system's clock to tick.
 */
export const aheadClock: Clock = { ...systemClock, now: () => systemClock.now() + 3_600_000 };

export interface AgentOptions {
  /** Names of the backends. Default: a and b. */
  backends?: readonly string[];
  /** `memory` (default): in `stores`, each behind a FaultyBackend. `folders`: in folders of these names below `folder`. */
  storage?: 'memory' | 'folders';
  importedKey?: SigningKey;
  /** In the place of `backends` and `storage`: backends by their addresses. */
  addresses?: readonly BackendAddress[];
  /** Makes each of the backends in memory. */
  stores?: (name: string) => FaultyBackend;
  /** What is random depends on it: two agents with one seed have the same keys. */
  seed?: string;
  /** Fills the empty state folder. */
  fill?: (state: string) => void;
}

export interface TestAgent extends AsyncDisposable {
  /** Holds everything of this agent; removed on disposal. */
  readonly folder: string;
  readonly state: string;
  readonly addresses: BackendAddress[];
  readonly files: { identity: string; writerKey: string; config: string; words: string };
  readonly folders: { state: string; cache: string };
  /** The backends in memory, by name. A test may replace one. */
  readonly stores: Map<string, FaultyBackend>;
  readonly root: Root;
  readonly writerKey: WriterKey;
  readonly signer: SigningKey;
  /** The age identity that opens everything. */
  readonly restoreKey: string;
  readonly access: { writer: Access; restore: Access };
  seams(over?: Partial<Seams>): Seams;
  backup(over?: Partial<BackupOptions>, seams?: Partial<Seams>): Promise<BackupResult>;
  restore(target: string, over?: Partial<RestoreOptions>): Promise<RestoreResult>;
  recover(home: string, over?: Partial<RecoverOptions>): Promise<RecoverResult>;
  /** With the restore key for `chunks`, else with the writer's key unless told otherwise. */
  verify(level: ScrubLevel, by?: 'writer' | 'restore', how?: { repair: boolean }): Promise<VerifyResult>;
  sync(refill?: readonly string[], addresses?: readonly BackendAddress[]): Promise<SyncResult>;
  /** The repository, opened as one does for restoring, over the backends named (all when none is). */
  open(kind?: 'writer' | 'restore', names?: readonly string[]): Promise<Repository & AsyncDisposable>;
}

/** Makes an agent and its repository with `init`. */
export async function makeAgent(options: AgentOptions = {}): Promise<TestAgent> {
  const { seed = 'agent', importedKey } = options;
  const names = options.addresses?.map(({ name }) => name) ?? options.backends ?? ['a', 'b'];
  const storage = options.addresses ? 'folders' : (options.storage ?? 'memory');
  const folder = temporaryFolder();
  const state = join(folder, 'state');
  mkdirSync(state);
  options.fill?.(state);
  const file = (name: string) => join(folder, 'keys', name);
  const files = {
    identity: file('identity.key'),
    writerKey: file('writer.key'),
    config: file('holdfast.yaml'),
    words: file('words.txt'),
  };
  const folders = { state: join(folder, 'local'), cache: join(folder, 'cache') };
  const stores = new Map<string, FaultyBackend>();
  const addresses = options.addresses?.slice() ?? names.map((name) => ({ name, url: `file://${join(folder, name)}` }));
  if (storage === 'memory') for (const name of names) stores.set(name, (options.stores ?? emptyStore)(name));
  const random = seededRandom(seed);
  const opener: typeof openBackend = async (address, how) => {
    if (storage === 'folders') return openBackend(address, how);
    const store = stores.get(address.name);
    if (store) return store;
    if (!how.create) throw new HoldfastError('backend_unavailable', `backend ${address.name} is not there`);
    const made = emptyStore(address.name);
    stores.set(address.name, made);
    return made;
  };
  const seams = (over: Partial<Seams> = {}): Seams => ({
    clock: aheadClock,
    random,
    progress: noProgress,
    openBackend: opener,
    ...over,
  });
  await init(
    {
      handle: 'ada',
      backends: addresses,
      stateRoot: state,
      kind: 'x25519',
      files,
      importedKey,
      foldersOf: () => folders,
      configText: 'agent: {handle: ada}\n',
    },
    seams(),
  );
  const root = parseWordsText(readFileSync(files.words, 'utf8'));
  if (importedKey) writeFileSync(files.identity, Buffer.from(importedKey.seed).toString('hex'), { mode: 0o600 });
  const signer = parseAgentKey(readFileSync(files.identity, 'utf8'));
  const writerKey = parseWriterKey(readFileSync(files.writerKey, 'utf8'));
  const agent = Buffer.from(signer.publicKey).toString('hex');
  const restoreKey = restoreIdentity(root, 'x25519');
  const access: TestAgent['access'] = {
    writer: {
      kind: 'writer',
      repository: writerKey.repositoryId,
      agent,
      chunkIdKey: writerKey.chunkIdKey,
      identity: writerKey.ageIdentity,
    },
    restore: { kind: 'restore', identities: [restoreKey] },
  };
  const secret = { kind: 'root', root } as const;

  return {
    ...{ folder, state, addresses, files, folders, stores, root, writerKey, signer, restoreKey, access, seams },
    backup: (over = {}, given = {}) =>
      backup(
        {
          backends: addresses,
          writerKey,
          signer,
          state: { root: state, exclude: [], keepOut: [] },
          require: addresses.length,
          tags: [],
          host: 'test-host',
          tool: 'holdfast/test',
          config: 'agent: {handle: ada}\n',
          folders,
          ...over,
        },
        seams(given),
      ),
    restore: (target, over = {}) =>
      restore({ backends: addresses, secret, snapshot: 'latest', target, paths: [], ...over }, seams()),
    recover: (home, over = {}) =>
      recover(
        {
          backends: addresses,
          secret,
          snapshot: 'latest',
          target: join(home, 'state'),
          files: {
            identity: join(home, 'identity.key'),
            writerKey: join(home, 'writer.key'),
            config: join(home, 'holdfast.yaml'),
          },
          foldersOf: () => ({ state: join(home, 'local'), cache: join(home, 'cache') }),
          renderConfig: (old) => ({ text: old, backends: addresses }),
          ...over,
        },
        seams(),
      ),
    verify: (level, by = level === 'chunks' ? 'restore' : 'writer', how = { repair: false }) =>
      verify(
        {
          backends: addresses,
          level,
          ...how,
          access: by === 'restore' ? { kind: 'restore', secret } : { kind: 'writer', access: access.writer },
        },
        seams(),
      ),
    sync: (refill = [], among = addresses) =>
      sync({ backends: among, access: access.writer, signer, host: 'test-host', folders, refill }, seams()),
    open: async (kind = 'restore', chosen = names) => {
      const members = addresses.filter(({ name }) => chosen.includes(name));
      const mirror = new Mirror(
        await Promise.all(
          members.map(async (address) => ({
            name: address.name,
            backend: await opener(address, { clock: aheadClock, random }),
          })),
        ),
      );
      const repository = await openRepository(mirror, access[kind], { clock: aheadClock });
      return Object.assign(repository, { [Symbol.asyncDispose]: () => mirror[Symbol.asyncDispose]() });
    },
    [Symbol.asyncDispose]: async () => removeFolder(folder),
  };
}

/** Makes agents with a state of two small files, and adds more such files to it. */
export function smallAgents(random: Random, bytes = 2000) {
  const change = ({ state }: { state: string }, name: string) => writeFileSync(join(state, name), random.bytes(bytes));
  const fill = (state: string) => {
    mkdirSync(join(state, 'folder'));
    for (const name of ['one', 'folder/two']) change({ state }, name);
  };
  return { make: (options: AgentOptions = {}) => makeAgent({ fill, ...options }), change };
}

/** The backends of the agent in memory as they were, and a folder for one test, in which `target` is not there yet. */
export async function newCase(
  agent: TestAgent,
  before: Iterable<[string, ReadonlyMap<string, Uint8Array>]>,
): Promise<{ parent: string; target: string }> {
  await putBack(agent, before);
  const parent = mkdtempSync(join(agent.folder, 'case-'));
  return { parent, target: join(parent, 'target') };
}

export function emptyStore(name: string): FaultyBackend {
  return new FaultyBackend(createMemory(name), { name });
}

/** Everything a backend holds. */
export async function contentOf(backend: Backend): Promise<Map<string, Uint8Array>> {
  const content = new Map<string, Uint8Array>();
  for await (const { key } of backend.list('')) content.set(key, Uint8Array.from(await backend.get(key)));
  return new Map([...content].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** A new backend in memory with this content. */
export async function storeWith(name: string, content: ReadonlyMap<string, Uint8Array>): Promise<FaultyBackend> {
  const store = createMemory(name);
  for (const [key, bytes] of content) await store.put(key, Uint8Array.from(bytes));
  return new FaultyBackend(store, { name });
}

/** Puts an agent's backends in memory into the state that `contentOf` gave before. */
export async function putBack(
  agent: TestAgent,
  contents: Iterable<[string, ReadonlyMap<string, Uint8Array>]>,
): Promise<void> {
  for (const [name, content] of contents) agent.stores.set(name, await storeWith(name, content));
}

/** The content of every backend in memory, by backend. */
export async function contentsOf(agent: TestAgent): Promise<Map<string, Map<string, Uint8Array>>> {
  const contents = new Map<string, Map<string, Uint8Array>>();
  for (const [name, store] of agent.stores) contents.set(name, await contentOf(store.inner));
  return contents;
}

/** Asserts that backends hold what they held, without a diff of megabytes when they do not. */
export function expectSameContent(now: ReadonlyMap<string, Uint8Array>, before: ReadonlyMap<string, Uint8Array>): void {
  expect([...now.keys()]).toEqual([...before.keys()]);
  for (const [key, bytes] of now) {
    if (Buffer.compare(bytes, before.get(key) ?? Buffer.alloc(0)) !== 0) expect.fail(`${key} was changed`);
  }
}

/** Asserts that two trees are equal: paths, types, modes, times, owners, link targets, contents. */
export function expectSameTree(actual: string, wanted: string): void {
  expect(inventory(actual)).toEqual(inventory(wanted));
  expect(contentDifference(actual, wanted)).toBe('');
}

/** The same for a tree that was recovered: beside the state it holds the marker, which is returned. */
export function expectRecoveredTree(actual: string, wanted: string): unknown {
  expect(inventory(actual).filter((line) => !line.startsWith(`${MARKER}\0`))).toEqual(inventory(wanted));
  const difference = contentDifference(actual, wanted).split('\n').filter(Boolean);
  expect(difference).toEqual([`Only in ${actual}: ${MARKER}`]);
  return JSON.parse(readFileSync(join(actual, MARKER), 'utf8'));
}

/** The keys of all objects of one kind of pack, from the indexes. */
export async function packKeysOf(agent: TestAgent, kind: 'data' | 'manifest'): Promise<string[]> {
  const repository = await agent.open();
  const { index } = await repository.loadIndex();
  return index.packs.filter((pack) => pack.kind === kind).map(({ id }) => `packs/${id.slice(0, 2)}/${id}.tar.zst.age`);
}

/** The backend in memory of that name. */
export const storeOf = (agent: TestAgent, name: string) => {
  const store = agent.stores.get(name);
  if (!store) throw new Error(`no store ${name}`);
  return store;
};

/** Both backends hold the same objects. */
export async function expectLevel(agent: TestAgent, one = 'a', two = 'b'): Promise<void> {
  expectSameContent(await contentOf(storeOf(agent, one).inner), await contentOf(storeOf(agent, two).inner));
}

/** Does something that must leave the backends of the agent as they are. */
export async function leavingBackends<T>(of: TestAgent, work: () => Promise<T>): Promise<T> {
  const before = await contentsOf(of);
  try {
    return await work();
  } finally {
    for (const [name, now] of await contentsOf(of)) expectSameContent(now, before.get(name) ?? new Map());
  }
}
