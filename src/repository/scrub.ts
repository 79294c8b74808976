/** Verification: looking at every backend on its own, and saying what a damaged object means for snapshots and paths. */
import { HoldfastError, isSurvivable } from '../errors.ts';
import { openAge } from '../crypto/age.ts';
import { drain } from '../drain.ts';
import type { Backend } from '../backend/backend.ts';
import { PACKS_IN_FLIGHT } from '../limits.ts';
import { release } from '../memory.ts';
import { rawForDisplay } from '../raw-path.ts';
import { checkContentName, packKey, parseKey, type PackId } from './object-name.ts';
import { checkStored } from './level.ts';
import { PackIndex, type IndexedPack } from './pack-index.ts';
import type { Repository } from './open.ts';
import { openFrames } from './open-pack.ts';
import { checkChain, type Snapshot } from './snapshot.ts';

/**
 * `listing`: every object that is needed is there and has its size; indexes and snapshots are opened and the chain is checked.
 * `objects`: besides, every object is read and compared with the hash in its name.
 * `chunks`: besides, every pack is opened and every chunk compared with its id, and every chunk of every snapshot is accounted for; needs the restore key.
 */
export type ScrubLevel = 'listing' | 'objects' | 'chunks';

export interface Damage {
  backend: string;
  key: string;
  problem: string;
  /** Ids of the snapshots that need the object; empty when it is not known which do. */
  snapshots: string[];
  /** For display; empty when it is not known. */
  paths: string[];
  repaired: boolean;
}

/** An object that a backend did not let be read. */
export interface Unread {
  backend: string;
  key: string;
  problem: string;
}

export interface ScrubResult {
  /** Objects looked at, on all backends together, and the bytes read of them. */
  objects: number;
  bytes: number;
  damaged: Damage[];
  unread: Unread[];
}

export interface ScrubOptions {
  level: ScrubLevel;
  signal?: AbortSignal | undefined;
  onProgress?: (objects: number, total: number) => void;
}

const MISSING = 'the object is missing';
/** Paths told for one damaged object; the rest is counted. */
const PATHS_TOLD = 1000;

export async function scrub(repository: Repository, options: ScrubOptions): Promise<ScrubResult> {
  const state = new Scrub(repository, options);
  const listings = new Map<string, Map<string, number>>();
  for (const { name, backend } of repository.mirror.live()) {
    const listing = new Map<string, number>();
    for await (const { key, size } of backend.list('', { signal: options.signal })) listing.set(key, size);
    listings.set(name, listing);
  }
  const union = new Set([...listings.values()].flatMap((listing) => [...listing.keys()]));
  state.total = [...listings.values()].reduce((sum, listing) => sum + listing.size, 0);
  for (const { name, backend } of repository.mirror.live()) {
    await state.backend(name, backend, listings.get(name) ?? new Map<string, number>(), union);
  }
  await state.tellImpact();
  return { objects: state.objects, bytes: state.bytes, damaged: state.damaged, unread: state.unread };
}

/** Of both manifests. */
const manifestChunks = ({ record }: Snapshot) => [...record.manifest.chunks, ...(record.secrets?.chunks ?? [])];

class Scrub {
  readonly damaged: Damage[] = [];
  /** What a backend did not let be read, which says nothing about it. */
  readonly unread: Unread[] = [];
  objects = 0;
  bytes = 0;
  total = 0;
  readonly #repository: Repository;
  readonly #options: ScrubOptions;
  /** All that any backend's indexes name. */
  readonly #packs = new Map<PackId, IndexedPack>();
  readonly #snapshots = new Map<string, Snapshot>();

  constructor(repository: Repository, options: ScrubOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  async backend(
    name: string,
    backend: Backend,
    listing: ReadonlyMap<string, number>,
    union: ReadonlySet<string>,
  ): Promise<void> {
    const packs = new Map<PackId, IndexedPack>();
    const snapshots: Snapshot[] = [];
    const needed = [...union]
      .filter((key) => parseKey(key) && parseKey(key)?.kind !== 'pack')
      .concat(this.#repository.keyObjects);
    for (const key of new Set(needed)) {
      await this.#attempt(name, key, async () => {
        if (!listing.has(key) && !(await this.#sizeNow(backend, key))) return this.#damage(name, key, MISSING);
        const bytes = await this.#read(backend, key);
        const parsed = parseKey(key);
        if (parsed?.kind === 'index') {
          for (const pack of await this.#repository.checkIndex(parsed.id, bytes)) packs.set(pack.id, pack);
        } else if (parsed?.kind === 'snapshot') {
          snapshots.push(await this.#repository.checkSnapshot(parsed.id, key, bytes));
        } else {
          await checkStored(this.#repository, key, bytes);
        }
      });
    }
    snapshots.sort((a, b) => a.record.seq - b.record.seq);
    for (const { snapshot, problem } of checkChain(snapshots)) this.#damage(name, snapshot.key, `chain: ${problem}`);
    if (snapshots.length > 0 && packs.size === 0)
      this.#damage(name, 'index/', 'no index is left that says where the chunks of the snapshots are');
    for (const snapshot of snapshots) this.#snapshots.set(snapshot.id, snapshot);
    for (const pack of packs.values()) this.#packs.set(pack.id, pack);
    const before = this.damaged.length;
    await drain([...packs.values()], PACKS_IN_FLIGHT, (pack) => this.#pack(name, backend, listing, pack));
    this.damaged.push(...this.damaged.splice(before).sort((one, other) => (one.key < other.key ? -1 : 1)));
    if (this.#options.level === 'chunks') await this.#chunksAccountedFor(name, packs, snapshots);
  }

  async #pack(name: string, backend: Backend, listing: ReadonlyMap<string, number>, pack: IndexedPack): Promise<void> {
    const key = packKey(pack.id);
    const size = listing.get(key) ?? (await this.#sizeNow(backend, key));
    if (size === undefined) return this.#damage(name, key, MISSING);
    if (size !== pack.storedBytes)
      return this.#damage(name, key, `the object has ${size} bytes, its index says ${pack.storedBytes}`);
    if (this.#options.level === 'listing') {
      this.#seen(0);
      return;
    }
    await this.#attempt(name, key, async () => {
      const bytes = await this.#read(backend, key);
      if (this.#options.level !== 'chunks') return checkStored(this.#repository, key, bytes);
      const { identities, fileKeys, idOf } = this.#repository;
      checkContentName(bytes, pack.id, key);
      const plain = await openAge(bytes, identities, fileKeys.get(pack.id));
      release(bytes);
      const frames = pack.frames.map((entry, frame) => ({ frame, ...entry }));
      const byFrame = Map.groupBy(pack.chunks, ({ frame }) => frame);
      let wrong = 0;
      for await (const { frame, tar } of openFrames(plain, frames)) {
        if (!tar) throw new HoldfastError('damaged', `frame ${frame} of it does not decompress`);
        for (const { id, offset, length } of byFrame.get(frame) ?? [])
          if (idOf(tar.subarray(offset, offset + length)) !== id) wrong++;
        release(tar);
      }
      if (wrong > 0) throw new HoldfastError('damaged', `${wrong} chunks of it do not match their ids`);
    });
  }

  /** Every chunk that a snapshot names must be in an index of the same backend. */
  async #chunksAccountedFor(
    name: string,
    packs: ReadonlyMap<PackId, IndexedPack>,
    snapshots: readonly Snapshot[],
  ): Promise<void> {
    const index = new PackIndex();
    for (const pack of packs.values()) index.addPack(pack);
    const reader = this.#repository.reader(index, name);
    for (const snapshot of snapshots) {
      try {
        for await (const entry of this.#repository.allEntries(snapshot, reader, this.#options.signal)) {
          if (entry.type !== 'file') continue;
          const bytes = entry.chunks.reduce((sum, id) => sum + (index.lengthOf(id) ?? Number.NaN), 0);
          if (bytes === entry.size) continue;
          const problem = Number.isNaN(bytes)
            ? 'a chunk of it is in no index'
            : `its chunks add up to ${bytes} bytes, not ${entry.size}`;
          this.#damage(
            name,
            snapshot.key,
            `file ${JSON.stringify(rawForDisplay(entry.path))}: ${problem}`,
            [snapshot.id],
            [rawForDisplay(entry.path)],
          );
        }
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        this.#damage(name, snapshot.key, `its manifest cannot be read: ${error.message}`, [snapshot.id]);
      }
    }
  }

  /** For each damaged pack: which snapshots and paths need it. Only the restore key can tell. */
  async tellImpact(): Promise<void> {
    const lost = new Map<PackId, Damage[]>();
    for (const damage of this.damaged) {
      const parsed = parseKey(damage.key);
      if (parsed?.kind === 'pack') lost.set(parsed.id, [...(lost.get(parsed.id) ?? []), damage]);
      if (parsed?.kind === 'snapshot' && damage.snapshots.length === 0) damage.snapshots.push(parsed.id);
    }
    if (lost.size === 0) return;
    const index = new PackIndex();
    for (const pack of this.#packs.values()) index.addPack(pack);
    const reader = this.#repository.reader(index);
    for (const snapshot of this.#snapshots.values()) {
      const hit = (ids: readonly string[]): Damage[] => {
        const packs = new Set(ids.map((id) => index.locate(id as Parameters<PackIndex['locate']>[0])?.pack));
        return [...packs].flatMap((pack) =>
          pack === undefined ? [] : (lost.get(index.packs[pack]?.id as PackId) ?? []),
        );
      };
      for (const damage of hit(manifestChunks(snapshot)))
        if (!damage.snapshots.includes(snapshot.id)) damage.snapshots.push(snapshot.id);
      try {
        for await (const entry of this.#repository.allEntries(snapshot, reader, this.#options.signal)) {
          if (entry.type !== 'file') continue;
          for (const damage of hit(entry.chunks)) {
            if (!damage.snapshots.includes(snapshot.id)) damage.snapshots.push(snapshot.id);
            const path = rawForDisplay(entry.path);
            if (damage.paths.length < PATHS_TOLD && !damage.paths.includes(path)) damage.paths.push(path);
          }
        }
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        // Without the restore key, or with the manifest lost, paths stay unknown.
      }
    }
  }

  /** What came while backends were being listed, by a backup that runs beside, is in some listings and not in others: it is asked for. */
  async #sizeNow(backend: Backend, key: string): Promise<number | undefined> {
    return (await backend.head(key, { signal: this.#options.signal }))?.size;
  }

  async #read(backend: Backend, key: string): Promise<Uint8Array> {
    const bytes = await backend.get(key, undefined, { signal: this.#options.signal });
    this.#seen(bytes.length);
    return bytes;
  }

  #seen(bytes: number): void {
    this.objects++;
    this.bytes += bytes;
    this.#options.onProgress?.(this.objects, this.total);
  }

  async #attempt(backend: string, key: string, check: () => Promise<void>): Promise<void> {
    try {
      await check();
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      if (error.code === 'backend_unavailable') this.unread.push({ backend, key, problem: error.message });
      else this.#damage(backend, key, error.message);
    }
  }

  #damage(backend: string, key: string, problem: string, snapshots: string[] = [], paths: string[] = []): void {
    this.damaged.push({ backend, key, problem, snapshots, paths, repaired: false });
  }
}
