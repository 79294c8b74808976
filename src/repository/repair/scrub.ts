/** Verification: looking at every backend on its own, and saying what a damaged object means for snapshots and paths. */
import { HoldfastError, isHoldfastError, isSurvivable } from '../../errors.ts';
import type { Clock, Random } from '../../clock.ts';
import { openAge } from '../../crypto/age.ts';
import { drain } from '../../drain.ts';
import { PACKS_IN_FLIGHT, RECORDS_IN_FLIGHT } from '../../limits.ts';
import { release } from '../../memory.ts';
import { inOrder, type Annotation } from '../records/annotation.ts';
import { accountFor, manifestsOf, type Account } from './account.ts';
import { Allowance, byAge, type Budget } from './allowance.ts';
import { meaningOf, tellImpact, type Damage, type Loss, type RememberedDamage } from './impact.ts';
import { forgottenIn, wasForgotten, type NumberRanges } from '../records/forgotten.ts';
import { goneIn, knownLosses, type KnownLoss } from '../records/known-loss.ts';
import { checkContentName, packKey, parseKey, type PackId, type SnapshotId } from '../records/object-name.ts';
import { checkStored } from './level.ts';
import { PackIndex, type IndexedPack } from '../packs/pack-index.ts';
import type { Repository } from '../open.ts';
import { openFrames } from '../packs/open-pack.ts';
import { timestamp } from '../records/format.ts';
import { checkChain, type Snapshot } from '../records/snapshot.ts';

/**
 * `listing`: every object that is needed is there and has its size; all but packs are read and opened, and the chain is checked.
 * `objects`: besides, every pack is read and compared with the hash in its name.
 * `chunks`: besides, every pack is opened and every chunk compared with its id, and every chunk of every snapshot is accounted for; needs the restore key.
 */
export type ScrubLevel = 'listing' | 'objects' | 'chunks';

/** An object that a backend did not let be read. */
export interface Unread {
  backend: string;
  key: string;
  problem: string;
}

/** Packs, each copy of one on a backend counting. */
export interface PackTally {
  /** Of all packs that an index names. */
  ids: PackId[];
  total: number;
  /** Read in this run, whole or not. */
  read: number;
  /** Found whole in this run, by the name of the backend. */
  whole: Map<string, Set<PackId>>;
  /** Those that are what their names say, and whose contents are wrong. */
  wrongInside: Set<PackId>;
  /** Not read, and told as damaged because they were found so before: by the name of the backend. */
  toldBefore: Map<string, Set<PackId>>;
  /** Passed over because they were verified not long ago. */
  passedOver: number;
  /** Not reached before the budget was used up. */
  left: number;
}

export interface ScrubResult {
  /** Objects looked at, on all backends together, and the bytes read of them. */
  objects: number;
  bytes: number;
  damaged: Damage[];
  unread: Unread[];
  /** What a backend has still that was forgotten on another. */
  behind: { backend: string; key: string }[];
  packs: PackTally;
  /** Snapshots whose every chunk was accounted for (level `chunks`), and how many there are. */
  accounted: { done: number; total: number };
  /** What of the damage no backend can make good, by snapshots. */
  loss: Loss;
  /** What was given up before, by the id of its snapshot. */
  known: Map<SnapshotId, KnownLoss>;
  /** Numbers of snapshots that were forgotten on purpose. */
  forgotten: NumberRanges;
  /** Ids of all snapshots that any backend lists, and the one with the highest number of those that can be read. */
  listed: Set<string>;
  newest: { seq: number; id: SnapshotId } | null;
  /** The highest number that a record of an earlier verification has seen. */
  witnessed: { seq: number; id: SnapshotId; time: string } | null;
}

export interface ScrubOptions {
  level: ScrubLevel;
  signal?: AbortSignal | undefined;
  onProgress?: (objects: number, total: number) => void;
  /** When a pack was last found whole on a backend, at this level or a deeper one: milliseconds since the Unix epoch, undefined for never. */
  lastWhole?: ((backend: string, pack: PackId) => number | undefined) | undefined;
  /** Packs that were found damaged and not whole since. They are read, whatever the level and the age, or else told again. */
  lastDamaged?: ((backend: string, pack: PackId) => RememberedDamage | undefined) | undefined;
  /** Packs that are read on every backend, whatever the level. */
  mustRead?: ((pack: PackId) => boolean) | undefined;
  /** Packs found whole at this moment or later are passed over. */
  freshFromMs?: number | undefined;
  budget?: Budget | undefined;
  /** For the budget, and for the order in which packs of one age are read. */
  seams: { clock: Clock; random: Random };
  /** After a repair: which packs are to be read again. */
  isDue?: ((backend: string, pack: PackId) => boolean) | undefined;
}

const MISSING = 'the object is missing';
/** Listings of objects that are replaced meanwhile are out of date soon: so often it is begun anew. */
const LOOKS_MAX = 3;

export async function scrub(repository: Repository, options: ScrubOptions): Promise<ScrubResult> {
  const whole = new Map<string, Set<PackId>>();
  for (let look = 1; ; look++) {
    const state = new Scrub(repository, options, whole);
    await state.look();
    if (look < LOOKS_MAX && (await state.isOutOfDate())) continue;
    return state.result();
  }
}

interface Listed {
  name: string;
  backend: ReturnType<Repository['mirror']['live']>[number]['backend'];
  sizes: Map<string, number>;
  snapshots: Snapshot[];
}

class Scrub {
  readonly #damaged: Damage[] = [];
  readonly #unread: Unread[] = [];
  readonly #missing: { backend: string; key: string }[] = [];
  readonly #behind: ScrubResult['behind'] = [];
  #objects = 0;
  #bytes = 0;
  #total = 0;
  readonly #repository: Repository;
  readonly #options: ScrubOptions;
  readonly #allowance: Allowance;
  #backends: Listed[] = [];
  /** What the indexes name that could be read on any backend; the same index is opened once. */
  readonly #indexes = new Map<string, IndexedPack[]>();
  readonly #packs = new Map<PackId, IndexedPack>();
  #index = new PackIndex();
  readonly #snapshots = new Map<SnapshotId, Snapshot>();
  readonly #annotations = new Map<string, Annotation>();
  #known = new Map<SnapshotId, KnownLoss>();
  #forgotten: NumberRanges = [];
  #witnessed: ScrubResult['witnessed'] = null;
  readonly #tally: PackTally;
  #accounted = { done: 0, total: 0 };
  /** Packs whose chunks were compared: their name is the hash of their bytes, so another copy needs only that. */
  readonly #opened = new Set<IndexedPack>();
  /** Keys that a listing shows, and the backend does not have. */
  readonly #vanished = new Set<string>();

  constructor(repository: Repository, options: ScrubOptions, whole: Map<string, Set<PackId>>) {
    this.#repository = repository;
    this.#options = options;
    this.#allowance = new Allowance(options.budget, options.seams.clock);
    const none = { wrongInside: new Set<PackId>(), toldBefore: new Map<string, Set<PackId>>() };
    this.#tally = { ids: [], total: 0, read: 0, whole, ...none, passedOver: 0, left: 0 };
  }

  async look(): Promise<void> {
    await this.#list();
    const union = new Set(this.#backends.flatMap(({ sizes }) => [...sizes.keys()]));
    this.#total = this.#backends.reduce((sum, { sizes }) => sum + sizes.size, 0);
    for (const one of this.#backends) await this.#records(one, union);
    this.#known = knownLosses(inOrder(this.#annotations.values()));
    this.#forgotten = forgottenIn([...this.#annotations.values()]);
    for (const one of this.#missing) this.#isMissing(one);
    for (const one of this.#backends) this.#chain(one);
    for (const packs of this.#indexes.values()) for (const pack of packs) this.#packs.set(pack.id, pack);
    for (const pack of this.#packs.values()) this.#index.addPack(pack);
    this.#tally.ids.push(...this.#packs.keys());
    await this.#allPacks();
    await this.#account();
  }

  /** True when what was missing was replaced meanwhile by a run that merges or removes: it is on no backend any more. */
  async isOutOfDate(): Promise<boolean> {
    for (const key of this.#vanished) {
      const there = await Promise.all(this.#backends.map(({ backend }) => this.#sizeNow(backend, key)));
      if (there.every((size) => size === undefined)) return true;
    }
    return false;
  }

  async result(): Promise<ScrubResult> {
    const { mirror } = this.#repository;
    const order = new Map(mirror.states().map(({ name }, i) => [name, i]));
    const rank = ({ backend }: Damage) => order.get(backend) ?? order.size;
    this.#damaged.sort((a, b) => rank(a) - rank(b) || (a.key < b.key ? -1 : Number(a.key > b.key)));
    const loss = await tellImpact(
      this.#repository,
      {
        damaged: this.#damaged,
        backends: this.#backends.map(({ name, sizes }) => ({
          ...{ name, has: (key: string) => sizes.has(key), isWhole: (key: string) => this.#isWhole(name, key) },
        })),
        index: this.#index,
        indexes: this.#indexes,
        snapshots: [...this.#snapshots.values()],
        annotations: this.#annotations,
        known: this.#known,
      },
      this.#options.signal,
    );
    const [newest] = [...this.#snapshots.values()].sort((a, b) => b.record.seq - a.record.seq);
    const listed = new Set<string>();
    for (const { sizes } of this.#backends)
      for (const key of sizes.keys()) {
        const name = parseKey(key);
        if (name?.kind === 'snapshot') listed.add(name.id);
      }
    return {
      ...{
        objects: this.#objects,
        bytes: this.#bytes,
        damaged: this.#damaged,
        unread: this.#unread,
        behind: this.#behind,
      },
      ...{
        packs: this.#tally,
        accounted: this.#accounted,
        loss,
        known: this.#known,
        forgotten: this.#forgotten,
        listed,
      },
      newest: newest ? { seq: newest.record.seq, id: newest.id } : null,
      witnessed: this.#witnessed,
    };
  }

  /** Of what is listed and not found damaged. */
  #isWhole(backend: string, key: string): boolean {
    const name = parseKey(key);
    if (name?.kind !== 'pack') return !this.#unread.some((one) => one.backend === backend && one.key === key);
    const isRead = this.#tally.whole.get(backend)?.has(name.id) === true;
    return isRead || this.#options.lastWhole?.(backend, name.id) !== undefined;
  }

  async #list(): Promise<void> {
    const { mirror } = this.#repository;
    const { signal } = this.#options;
    const listings = await Promise.all(
      mirror.live().map(async ({ name, backend }) => {
        const sizes = new Map<string, number>();
        try {
          for await (const { key, size } of backend.list('', { signal })) sizes.set(key, size);
          return [{ name, backend, sizes, snapshots: [] }];
        } catch (error) {
          if (!isSurvivable(error)) throw error;
          mirror.fail(name, error);
          return [];
        }
      }),
    );
    this.#backends = listings.flat();
    if (this.#backends.length > 0) return;
    throw mirror.states()[0]?.error ?? new HoldfastError('not_enough_backends', 'no backend could be listed');
  }

  /** Everything but packs, read and opened. */
  async #records(one: Listed, union: ReadonlySet<string>): Promise<void> {
    const needed = [...union]
      .filter((key) => parseKey(key) && parseKey(key)?.kind !== 'pack')
      // These come and go; a backend that lacks one which another still has lacks nothing.
      .filter((key) => one.sizes.has(key) || !['run', 'condemned'].includes(parseKey(key)?.kind ?? ''))
      .concat(this.#repository.keyObjects);
    await drain([...new Set(needed)], RECORDS_IN_FLIGHT, (key) =>
      this.#attempt(one.name, key, async () => {
        if (!one.sizes.has(key) && (await this.#sizeNow(one.backend, key)) === undefined)
          return void this.#missing.push({ backend: one.name, key });
        await this.#record(one, key, await this.#read(one, key));
      }),
    );
    one.snapshots.sort((a, b) => a.record.seq - b.record.seq);
    for (const snapshot of one.snapshots) this.#snapshots.set(snapshot.id, snapshot);
  }

  async #record(one: Listed, key: string, bytes: Uint8Array): Promise<void> {
    const repository = this.#repository;
    const name = parseKey(key);
    switch (name?.kind) {
      case 'index':
        if (this.#indexes.has(key)) checkContentName(bytes, name.id, key);
        else this.#indexes.set(key, await repository.checkIndex(name.id, bytes));
        break;
      case 'snapshot':
        one.snapshots.push(await repository.checkSnapshot(name.id, key, bytes));
        break;
      case 'annotation':
        this.#annotations.set(key, await repository.checkAnnotation(name.id, key, bytes));
        break;
      case 'verified': {
        const { newest, time } = (await repository.checkVerified(name.id, key, bytes)).record;
        if (newest && newest.seq >= (this.#witnessed?.seq ?? 0)) this.#witnessed = { ...newest, time };
        break;
      }
      default:
        await checkStored(repository, key, bytes);
    }
  }

  /** What was forgotten on purpose is missing on no backend: the others lag behind. */
  #isMissing({ backend, key }: { backend: string; key: string }): void {
    if (!wasForgotten(key, this.#forgotten, this.#snapshots, this.#annotations))
      return this.#damage(backend, key, MISSING);
    for (const { name, sizes } of this.#backends)
      if (sizes.has(key) && !this.#behind.some((one) => one.backend === name && one.key === key))
        this.#behind.push({ backend: name, key });
  }

  #chain({ name, snapshots }: Listed): void {
    for (const { snapshot, problem } of checkChain(snapshots, this.#forgotten, goneIn(this.#known)))
      this.#damage(name, snapshot.key, `chain: ${problem}`);
    const isNeeded = snapshots.some(({ id }) => !this.#known.get(id)?.whole);
    if (isNeeded && this.#indexes.size === 0)
      this.#damage(name, 'index/', 'no index is left that says where the chunks of the snapshots are');
  }

  async #allPacks(): Promise<void> {
    const { level, lastWhole, lastDamaged, mustRead, freshFromMs = Infinity, isDue, seams } = this.#options;
    const due: {
      one: Listed;
      pack: IndexedPack;
      lastMs: number | undefined;
      before: RememberedDamage | undefined;
    }[] = [];
    for (const one of this.#backends) {
      const { name, sizes } = one;
      const whole = this.#tally.whole.get(name) ?? new Set<PackId>();
      this.#tally.whole.set(name, whole);
      this.#tally.total += this.#packs.size;
      await this.#askForMissing(one);
      for (const pack of this.#packs.values()) {
        const key = packKey(pack.id);
        const size = sizes.get(key);
        if (size === undefined) this.#damage(name, key, MISSING);
        else if (size !== pack.storedBytes)
          this.#damage(name, key, `the object has ${size} bytes, its index says ${pack.storedBytes}`);
        else if (whole.has(pack.id)) this.#seen(0);
        else {
          const before = lastDamaged?.(name, pack.id);
          if (before?.isInside && level !== 'chunks') {
            this.#toldBefore(name, key, before);
            continue;
          }
          const lastMs = lastWhole?.(name, pack.id);
          if (before || mustRead?.(pack.id)) due.push({ one, pack, lastMs: before?.timeMs, before });
          else if (level === 'listing' || isDue?.(name, pack.id) === false) this.#seen(0);
          else if (lastMs !== undefined && lastMs >= freshFromMs) {
            this.#tally.passedOver++;
            this.#seen(0);
          } else due.push({ one, pack, lastMs, before });
        }
      }
    }
    await drain(byAge(due, seams.random), PACKS_IN_FLIGHT, async ({ one, pack, before }) => {
      if (!this.#allowance.take(pack.storedBytes)) {
        this.#tally.left++;
        return before ? this.#toldBefore(one.name, packKey(pack.id), before) : this.#seen(0);
      }
      await this.#pack(one, pack);
    });
  }

  #toldBefore(backend: string, key: string, { problem, timeMs }: RememberedDamage): void {
    this.#seen(0);
    const told = this.#tally.toldBefore.get(backend) ?? new Set();
    this.#tally.toldBefore.set(backend, told.add(packIn(key)));
    this.#damage(backend, key, `${problem} (found on ${timestamp(timeMs)}, not read again)`);
  }

  /** What came while backends were being listed, by a backup that runs beside, is in some listings and not in others. */
  async #askForMissing({ backend, sizes }: Listed): Promise<void> {
    const missing = [...this.#packs.keys()].map(packKey).filter((key) => !sizes.has(key));
    await drain(missing, RECORDS_IN_FLIGHT, async (key) => {
      const size = await this.#sizeNow(backend, key);
      if (size !== undefined) sizes.set(key, size);
    });
  }

  async #pack(one: Listed, pack: IndexedPack): Promise<void> {
    const { name } = one;
    const key = packKey(pack.id);
    await this.#attempt(name, key, async () => {
      const bytes = await this.#read(one, key);
      this.#tally.read++;
      checkContentName(bytes, pack.id, key);
      if (this.#options.level === 'chunks' && !this.#opened.has(pack)) {
        this.#tally.wrongInside.add(pack.id);
        await this.#chunks(pack, bytes);
        this.#tally.wrongInside.delete(pack.id);
      } else release(bytes);
      this.#tally.whole.get(name)?.add(pack.id);
    });
  }

  async #chunks(pack: IndexedPack, bytes: Uint8Array): Promise<void> {
    const { identities, fileKeys, idOf } = this.#repository;
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
    this.#opened.add(pack);
  }

  /** Every chunk that a snapshot names must be in an index; that those are on every backend is known by now. */
  async #account(): Promise<void> {
    const { level, signal } = this.#options;
    const snapshots = [...this.#snapshots.values()];
    this.#accounted.total = snapshots.length;
    const reader = this.#repository.reader(this.#index);
    const accounts = new Map<string, Account>();
    for (const { pack } of byAge(
      snapshots.map((snapshot) => ({ pack: snapshot, lastMs: undefined })),
      this.#options.seams.random,
    )) {
      const known = this.#known.get(pack.id);
      const name = manifestsOf(pack).join();
      const unlisted = manifestsOf(pack).filter((id) => !this.#index.has(id) && known?.has(id) !== true);
      if (unlisted.length > 0) {
        const problem = `its list of files cannot be read: ${unlisted.length} chunks of it are in no index`;
        this.#ofSnapshot(pack, problem, []);
        continue;
      }
      if (known?.whole) {
        this.#accounted.done++;
        continue;
      }
      if (level !== 'chunks' || (!accounts.has(name) && this.#allowance.isOver)) continue;
      const account = accounts.get(name) ?? (await accountFor(this.#repository, pack, this.#index, reader, signal));
      accounts.set(name, account);
      this.#accounted.done++;
      if (account.error) this.#ofSnapshot(pack, `its manifest cannot be read: ${account.error.message}`, []);
      const files = account.files.filter(({ chunks }) => chunks.length === 0 || !chunks.every((id) => known?.has(id)));
      const [first] = files;
      if (!first) continue;
      const more = files.length > 1 ? ` (and of ${files.length - 1} more)` : '';
      this.#ofSnapshot(
        pack,
        `file ${JSON.stringify(first.path)}: ${first.problem}${more}`,
        files.map(({ path }) => path),
      );
    }
  }

  /** What is wrong with a snapshot is wrong with it on every backend. */
  #ofSnapshot({ id, key }: Snapshot, problem: string, paths: string[]): void {
    for (const { name } of this.#backends) this.#damage(name, key, problem, [id], paths);
  }

  async #sizeNow(backend: Listed['backend'], key: string): Promise<number | undefined> {
    return (await backend.head(key, { signal: this.#options.signal }))?.size;
  }

  async #read({ backend, sizes }: Listed, key: string): Promise<Uint8Array> {
    try {
      const bytes = await backend.get(key, undefined, { signal: this.#options.signal });
      this.#seen(bytes.length);
      return bytes;
    } catch (error) {
      if (isHoldfastError(error, 'not_found') && sizes.has(key)) this.#vanished.add(key);
      throw error;
    }
  }

  #seen(bytes: number): void {
    this.#objects++;
    this.#bytes += bytes;
    this.#options.onProgress?.(this.#objects, this.#total);
  }

  async #attempt(backend: string, key: string, check: () => Promise<void>): Promise<void> {
    try {
      await check();
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      if (error.code === 'backend_unavailable') this.#unread.push({ backend, key, problem: error.message });
      else this.#damage(backend, key, error.code === 'not_found' ? MISSING : error.message);
    }
  }

  #damage(backend: string, key: string, problem: string, snapshots: string[] = [], paths: string[] = []): void {
    const means = meaningOf(key, this.#packs.get(packIn(key))?.kind, this.#repository);
    this.#damaged.push({
      ...{ backend, key, problem, means, snapshots: [...snapshots], paths: [...paths] },
      ...{ elsewhere: [], unread: [], repaired: false },
    });
  }
}

function packIn(key: string): PackId {
  const name = parseKey(key);
  return (name?.kind === 'pack' ? name.id : '') as PackId;
}
