/**
 * What there is, on which backend, and what of it is needed: the look that a deletion rests on. Looking again reads only what is new. Whatever cannot
 * be read may need anything, so it ends the look.
 */
import type { Clock } from '../../clock.ts';
import { HoldfastError, isHoldfastError, isSurvivable } from '../../errors.ts';
import { readAnnotations } from '../records/annotation.ts';
import { readCondemned, type Condemned } from '../records/condemned.ts';
import { goneIn, knownLosses } from '../records/known-loss.ts';
import { Marks } from './mark.ts';
import { packKey, parseKey, type PackId, type RunId, type SnapshotId } from '../records/object-name.ts';
import { LOOKS_MAX, mayBeReplaced, type Repository, type RepositoryProblem } from '../open.ts';
import { PackIndex, type ChunkLocation, type PackInfo } from '../packs/pack-index.ts';
import { readRuns, runsNotOver, type Run } from '../records/runs.ts';
import type { Snapshot } from '../records/snapshot.ts';

/** Somebody who may rely on what he saw. */
export interface Unfinished {
  run: RunId;
  key: string;
  /** Where it runs, as it says itself; null where its record cannot be read. */
  host: string | null;
  since: string | null;
  kind: 'write' | 'sweep' | null;
}

export interface PackUse {
  info: PackInfo;
  /** Number in the index. */
  number: number;
  /** Bytes of the needed chunks that are counted for this pack: each for one that it lies in. */
  liveBytes: number;
  /** Numbers of these chunks in the index. */
  needed: number[];
  /** Bytes of all its chunks. */
  bytes: number;
}

/** Looks whether these are all that there should be. @throws `damaged` when not */
export type CheckSnapshots = (snapshots: readonly Snapshot[]) => Promise<void>;

/** How well a pack serves for what lies in several, the best first. */
const RANK = { good: 0, condemned: 1, notWhole: 2, unindexed: 3 };

export class Survey {
  readonly index = new PackIndex();
  readonly marks = new Marks(this.index);
  /** Of every live backend, by its name: what it lists, with sizes. */
  listings = new Map<string, ReadonlyMap<string, number>>();
  /** For each index that a live backend lists, by its key, the packs it names. */
  packsOf = new Map<string, readonly PackId[]>();
  condemned: Condemned[] = [];
  /** Ids of the snapshots that any look has shown on a backend. */
  readonly seen = new Set<SnapshotId>();
  readonly #repository: Repository;
  readonly #signal: AbortSignal | undefined;
  readonly #check: CheckSnapshots;
  readonly #opened = new Map<string, Snapshot>();
  readonly #indexes = new Map<string, readonly PackId[]>();
  readonly #records = new Map<string, Condemned>();
  #snapshots: Snapshot[] = [];

  constructor(repository: Repository, check: CheckSnapshots, signal?: AbortSignal) {
    this.#repository = repository;
    this.#check = check;
    this.#signal = signal;
  }

  /**
   * Looks at everything, and marks what the snapshots need that are there now.
   * @param retry how long to wait before a second try: a listing may show a snapshot before its index
   * @throws `damaged` when anything that may name what is needed cannot be read from any backend
   */
  async look(retry: { clock: Clock; ms: number }): Promise<void> {
    try {
      await this.#look();
    } catch (error) {
      if (!isHoldfastError(error, 'damaged') || retry.ms === 0) throw error;
      await retry.clock.sleep(retry.ms, this.#signal);
      await this.#look();
    }
  }

  async #look(): Promise<void> {
    // Snapshots first: what a snapshot needs is there before it is.
    this.#snapshots = await this.#readSnapshots();
    await this.#check(this.#snapshots);
    for (let looks = 1; ; looks++) {
      const problems = await this.#lookAtObjects();
      if (problems.length === 0) break;
      if (looks >= LOOKS_MAX || !problems.some(mayBeReplaced)) throw unreadable(problems);
    }
    this.marks.resolve();
    const reader = this.#repository.reader(this.index);
    for (const snapshot of this.#snapshots) {
      await this.marks.add(snapshot, reader, this.#signal).catch(async (error: unknown) => {
        if (!isSurvivable(error)) throw error;
        // Nothing of it can be restored, and somebody has decided to go on without it.
        if (this.#isListGone(snapshot) && (await this.#givenUp()).has(snapshot.id)) return;
        throw unreadable([{ key: `the manifest of ${snapshot.key}`, error }]);
      });
    }
  }

  /** Whether a part of its lists of files is nowhere. What is there, and could not be read this time, another time may be. */
  #isListGone({ record: { manifest, secrets } }: Snapshot): boolean {
    const { packs } = this.index;
    const isListed = ({ pack }: ChunkLocation) =>
      [...this.listings.values()].some((objects) => objects.has(packKey(packs[pack]?.id as PackId)));
    return [...manifest.chunks, ...(secrets?.chunks ?? [])].some((id) => {
      const number = this.index.numberOf(id);
      return number < 0 || !this.index.chunkAt(number).places.some(isListed);
    });
  }

  async #givenUp(): Promise<Set<string>> {
    const { annotations } = await readAnnotations(this.#repository, undefined, this.#signal);
    return goneIn(knownLosses(annotations));
  }

  /** Marks besides what can be put back for as long as these records are there. */
  async hold(records: readonly Condemned[]): Promise<void> {
    const reader = this.#repository.reader(this.index);
    for (const snapshot of await this.#held(records)) await this.marks.add(snapshot, reader, this.#signal);
  }

  /** The runs that are not over, but for `own`, as a new look at the backends shows them. `unsaid`: all but `own` of which no snapshot says that they are over. */
  async unfinished(own: RunId | undefined): Promise<{ runs: Run[]; unfinished: Unfinished[]; unsaid: Run[] }> {
    const { runs, problems } = await readRuns(this.#repository, this.#signal);
    this.#snapshots = await this.#readSnapshots(); // after the runs: one that has ended since shows its snapshot
    const said = [...this.#snapshots, ...(await this.#held(this.condemned))];
    const open = runsNotOver(
      runs,
      said.map(({ record }) => record),
    ).filter(({ id }) => id !== own);
    const told = open.map(({ id, key, record: { host, time, kind } }) => ({ run: id, key, host, since: time, kind }));
    const bad = problems.flatMap(({ key }) => {
      const name = parseKey(key);
      return name?.kind === 'run' ? [{ run: name.id, key, host: null, since: null, kind: null }] : [];
    });
    const named = new Set(said.map(({ record }) => record.run));
    const unsaid = runs.filter(({ id }) => id !== own && !named.has(id));
    return { runs, unfinished: [...told, ...bad], unsaid };
  }

  get condemnedPacks(): Set<PackId> {
    return new Set(this.condemned.flatMap(({ record }) => record.packs));
  }

  /** True when every live backend lists the pack whole, and an index names it. */
  isWhole({ id, storedBytes }: PackInfo): boolean {
    return [...this.listings.values()].every((objects) => objects.get(packKey(id)) === storedBytes);
  }

  /**
   * For every pack that an index names, what of it is needed. A chunk that lies in several is counted for one: that is whole and not condemned where there
   * is such, else a condemned one; where none is whole, for each.
   * @param going are as good as condemned
   */
  use(going: readonly PackId[] = []): Map<PackId, PackUse> {
    const { packs } = this.index;
    const ranks = this.#ranks(new Set([...this.condemnedPacks, ...going]));
    const uses = packs.map((info, number): PackUse => ({ info, number, liveBytes: 0, bytes: 0, needed: [] }));
    for (let number = 0; number < this.index.size; number++) {
      const { places } = this.index.chunkAt(number);
      for (const { pack, length } of places) (uses[pack] as PackUse).bytes += length;
      if (!this.marks.isNeeded(number)) continue;
      const rankOf = ({ pack }: ChunkLocation) => ranks[pack] as number;
      const idOf = ({ pack }: ChunkLocation) => packs[pack]?.id as PackId;
      const [best] = places.toSorted((a, b) => rankOf(a) - rankOf(b) || (idOf(a) < idOf(b) ? -1 : 1));
      if (!best) continue;
      for (const place of rankOf(best) <= RANK.condemned ? [best] : places) {
        const use = uses[place.pack] as PackUse;
        use.liveBytes += place.length;
        use.needed.push(number);
      }
    }
    return new Map(uses.flatMap((use) => (ranks[use.number] === RANK.unindexed ? [] : [[use.info.id, use]])));
  }

  #ranks(condemned: ReadonlySet<PackId>): number[] {
    const indexed = new Set([...this.packsOf.values()].flat());
    return this.index.packs.map((info) => {
      if (!indexed.has(info.id)) return RANK.unindexed;
      if (!this.isWhole(info)) return RANK.notWhole;
      return condemned.has(info.id) ? RANK.condemned : RANK.good;
    });
  }

  /** Packs that a live backend lists and no index names. */
  orphans(): Map<PackId, number> {
    const indexed = new Set([...this.packsOf.values()].flat());
    const found = new Map<PackId, number>();
    for (const objects of this.listings.values()) {
      for (const [key, size] of objects) {
        const name = parseKey(key);
        if (name?.kind === 'pack' && !indexed.has(name.id)) found.set(name.id, size);
      }
    }
    return found;
  }

  async #readSnapshots(): Promise<Snapshot[]> {
    const listed = await this.#repository.listSnapshots(this.#signal);
    const snapshots: Snapshot[] = [];
    for (const [key, { id }] of listed) {
      this.seen.add(id);
      let snapshot = this.#opened.get(key);
      try {
        snapshot ??= await this.#repository.readSnapshot(id, key, this.#signal);
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        // Forgotten since it was listed.
        if (mayBeReplaced({ key, error }) && !(await this.#repository.listSnapshots(this.#signal)).has(key)) continue;
        throw unreadable([{ key, error }]);
      }
      this.#opened.set(key, snapshot);
      snapshots.push(snapshot);
    }
    return snapshots;
  }

  async #lookAtObjects(): Promise<RepositoryProblem[]> {
    const { mirror } = this.#repository;
    const listings = new Map<string, ReadonlyMap<string, number>>();
    await Promise.all(
      mirror.live().map(async ({ name, backend }) => {
        try {
          const objects = new Map<string, number>();
          for await (const { key, size } of backend.list('', { signal: this.#signal })) objects.set(key, size);
          listings.set(name, objects);
        } catch (error) {
          if (!isSurvivable(error)) throw error;
          mirror.fail(name, error);
        }
      }),
    );
    this.listings = listings;
    const keys = new Set([...listings.values()].flatMap((objects) => [...objects.keys()]));
    const ofKind = (kind: string) => [...keys].filter((key) => parseKey(key)?.kind === kind);
    const isNew = (known: ReadonlyMap<string, unknown>) => (key: string) => !known.has(key);
    const records = await readCondemned(
      this.#repository,
      ofKind('condemned').filter(isNew(this.#records)),
      this.#signal,
    );
    for (const one of records.condemned) this.#records.set(one.key, one);
    const indexes = await this.#repository.readIndexes(ofKind('index').filter(isNew(this.#indexes)), {
      into: this.index,
      signal: this.#signal,
    });
    for (const [key, packs] of indexes.packsOf) this.#indexes.set(key, packs);
    this.condemned = [...this.#records.values()].filter(({ key }) => keys.has(key));
    this.packsOf = new Map([...this.#indexes].filter(([key]) => keys.has(key)));
    return [...records.problems, ...indexes.problems];
  }

  /** Snapshots that records keep, but for those that are listed too. */
  async #held(records: readonly Condemned[]): Promise<Snapshot[]> {
    const held: Snapshot[] = [];
    for (const { record } of records) {
      for (const { key, object } of record.snapshots) {
        const name = parseKey(key);
        if (name?.kind !== 'snapshot') continue;
        let snapshot = this.#opened.get(key);
        try {
          snapshot ??= await this.#repository.checkSnapshot(name.id, key, Buffer.from(object, 'base64'));
        } catch (error) {
          if (!isSurvivable(error)) throw error;
          continue; // what cannot be opened cannot be put back
        }
        this.#opened.set(key, snapshot);
        held.push(snapshot);
      }
    }
    return held;
  }
}

function unreadable(problems: readonly RepositoryProblem[]): HoldfastError {
  const [first] = problems;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
  return new HoldfastError(
    'damaged',
    `${first?.key}${more} cannot be read, and may need anything: ${first?.error.message}`,
    {
      hint:
        first?.error.code === 'forged'
          ? 'Nothing was deleted. Somebody else has written it, perhaps with a stolen key: `holdfast verify` lists such objects; if none is yours, `holdfast repair --forget-damaged` removes them.'
          : 'Nothing was deleted. `holdfast verify` shows the damage, and with --repair heals it from another backend.',
      cause: first?.error,
    },
  );
}
