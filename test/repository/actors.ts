/** What hosts do to one repository in a history, with the real code; and what must hold of the backends at every moment. */
import { createMemory } from '../../src/backend/memory.ts';
import { Mirror } from '../../src/backend/mirror.ts';
import type { Backend } from '../../src/backend/backend.ts';
import type { Clock, Random } from '../../src/clock.ts';
import { hex } from '../../src/crypto/hash.ts';
import { ageRecipientOf, newAgeIdentity } from '../../src/crypto/age.ts';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import type { ChunkId } from '../../src/entry.ts';
import { collect } from '../../src/repository/deletion/collect.ts';
import { condemn, putBack, readCondemned } from '../../src/repository/records/condemned.ts';
import { createRepository } from '../../src/repository/create.ts';
import { FORMAT_VERSION, timestamp, type Signer } from '../../src/repository/records/format.ts';
import { recoveryCommitment } from '../../src/repository/keys/key-log.ts';
import { level } from '../../src/repository/repair/level.ts';
import {
  packKey,
  parseKey,
  type PackId,
  type RunId,
  type SnapshotId,
} from '../../src/repository/records/object-name.ts';
import { openRepository, type Repository } from '../../src/repository/open.ts';
import { beginRun, endRun } from '../../src/repository/records/runs.ts';
import { seededRandom } from '../crypto/support.ts';
import { LAG_MS, Store, World, type Actor } from './world.ts';

const DAY_MS = 86_400_000;
export const SETTLE_MS = 2 * LAG_MS + 20_000;
const REPOSITORY_ID = '5a'.repeat(16);
const signerOf = (fill: number): Signer => {
  const seed = new Uint8Array(32).fill(fill);
  return { seed, publicKey: publicKeyOf(seed) };
};
const signer = signerOf(1);

/** The backend as an actor has it, and as a flawed one would. */
export type Flaw = (backend: Backend) => Backend;

export interface Case {
  base: ReadonlyMap<string, Uint8Array>;
  restore: string;
  /** What was done to it before every history; undefined: nothing. */
  before?: Past;
}

/** What is known of the objects that are there. */
interface Past {
  acknowledged: ReadonlySet<SnapshotId>;
  forgotten: ReadonlySet<SnapshotId>;
  needs: ReadonlyMap<SnapshotId, Set<ChunkId>>;
  announced: ReadonlyMap<RunId, Set<ChunkId>>;
  indexes: ReadonlyMap<string, { id: PackId; chunks: ChunkId[] }[]>;
  runs: readonly RunId[];
}

/** Contents there are in this world. Few, so that runs share them, and leave them, and come back to them. */
const CONTENTS = 10;
/** Of these so many are needed by nothing when a history begins, and their packs are still there. */
const NEEDLESS = 8;

/** A repository with a pack for each content, most of whose snapshots are forgotten. */
export async function newRepository(): Promise<Case> {
  const history = new History(0, await emptyRepository());
  const before = await history.prepare();
  const base = history.world.stores[0]?.objects ?? new Map<string, Uint8Array>();
  return { ...history.of, base, before };
}

async function emptyRepository(): Promise<Case> {
  const random = seededRandom('interleavings');
  const restore = await newAgeIdentity(random);
  const writer = await newAgeIdentity(random);
  const memory = createMemory('base');
  await createRepository(new Mirror([{ name: 'base', backend: memory }]), {
    id: REPOSITORY_ID,
    chunkIdKey: new Uint8Array(32).fill(7),
    handle: 'ada',
    agent: signer,
    origin: 'derived',
    recovery: signerOf(2),
    next: signerOf(3).publicKey,
    nextRecovery: recoveryCommitment(hex(signerOf(4).publicKey), 'ab'.repeat(32)),
    restoreRecipients: [await ageRecipientOf(restore)],
    writer: { identity: writer, recipient: await ageRecipientOf(writer) },
    agentKeyFile: new Uint8Array([1]),
    clock: { now: () => Date.UTC(2020, 0, 1), monotonic: () => 0, sleep: async () => {} },
    random,
  });
  const base = new Map<string, Uint8Array>();
  for await (const { key } of memory.list('')) base.set(key, await memory.get(key));
  return { base, restore };
}

interface Host {
  name: string;
  /** It prunes; the others write. */
  isKeeper: boolean;
  skewMs: number;
  runs: RunId[];
  /** One run at a time. */
  actor: Actor | undefined;
  /** What its prune is at. */
  phase?: string;
}

const isBusy = ({ actor }: Host): boolean => actor !== undefined && !actor.isOver;

export interface Flaws {
  writer?: Flaw;
  pruner?: Flaw;
  undoer?: Flaw;
  settleMs?: number;
}

export class History {
  readonly world: World;
  /** Snapshots that were acknowledged, and the chunks that each needs. */
  readonly acknowledged = new Set<SnapshotId>();
  readonly needs = new Map<SnapshotId, Set<ChunkId>>();
  /** Somebody has begun to forget them. */
  readonly forgotten = new Set<SnapshotId>();
  /** Snapshots that were forgotten, and put back. */
  readonly putBack = new Set<SnapshotId>();
  deletedPacks = 0;
  /** Of them by prunes beside others, before all came to rest. */
  deletedBeside = 0;
  readonly of: Case;
  readonly #flaws: Flaws;
  readonly #entropy: Random;
  readonly #hosts: Host[];
  #actors = 0;
  /** Packs that an index names with their chunks, by the index' key. */
  readonly #indexes = new Map<string, { id: PackId; chunks: ChunkId[] }[]>();
  #judge: Repository | undefined;

  constructor(seed: number, of: Case, flaws: Flaws = {}) {
    this.of = of;
    this.#flaws = flaws;
    this.#entropy = seededRandom(`history ${seed}`);
    this.world = new World(seed, [new Store('a', of.base), new Store('b', of.base)]);
    const years = () => Math.floor((this.world.random() - 0.5) * 6 * 365) * DAY_MS;
    this.#hosts = ['one', 'two', 'keeper', 'other keeper'].map((name) => ({
      name,
      isKeeper: name.endsWith('keeper'),
      skewMs: this.world.random() < 0.6 ? 0 : years(),
      runs: name === 'one' ? [...(of.before?.runs ?? [])] : [],
      actor: undefined,
    }));
    for (const id of of.before?.acknowledged ?? []) this.acknowledged.add(id);
    for (const id of of.before?.forgotten ?? []) this.forgotten.add(id);
    for (const [id, needs] of of.before?.needs ?? []) this.needs.set(id, needs);
    for (const [id, needs] of of.before?.announced ?? []) this.#announced.set(id, needs);
    for (const [key, packs] of of.before?.indexes ?? []) this.#indexes.set(key, packs);
    this.world.onChange = (store, key, actor) => this.#changed(store, key, actor);
  }

  /** One after the other, undisturbed: a snapshot of each content by itself, of which most are forgotten. */
  async prepare(): Promise<Past> {
    const { world } = this;
    this.#judge = await this.#open(world.mirror(newActor('judge')));
    const host = { ...(this.#hosts[0] as Host), skewMs: 0 };
    for (let content = 0; content < CONTENTS; content++) {
      this.#only = [content];
      await this.#start(host, 'backup', { down: [], mayDie: false });
      await world.drain();
      if (content >= NEEDLESS) continue;
      await this.#start(host, 'forget', { down: [], mayDie: false });
      await world.drain();
    }
    this.#throwDefect();
    const { acknowledged, forgotten, needs } = this;
    return { acknowledged, forgotten, needs, announced: this.#announced, indexes: this.#indexes, runs: host.runs };
  }
  /** The contents that a backup saves; undefined: by chance. */
  #only: number[] | undefined;

  /** Random deeds; then, unless told otherwise, all come to their end, and what must be there in the end is. */
  async run(deeds: number, { isEnded = true } = {}): Promise<void> {
    const { world } = this;
    const judging = world.mirror({ ...newActor('judge'), skewMs: 0 });
    this.#judge = await this.#open(judging);
    for (let i = 0; i < deeds; i++) {
      if (world.random() < (i === 0 ? 0.6 : 0.06)) await this.#pruneInEarnest();
      await this.#begin();
      const isPruning = this.#hosts.some((one) => one.isKeeper && isBusy(one));
      const turns = Math.floor(isPruning ? world.random() * 30 : world.random() ** 2 * 30);
      for (let turn = 0; turn < turns && (await world.step()); turn++) {
        this.#throwDefect();
        for (const keeper of this.#hosts.filter((one) => one.isKeeper && isBusy(one))) await this.#disturb(keeper);
      }
      if (world.random() < 0.2) world.nowMs += Math.floor(world.random() * 10 * DAY_MS);
    }
    await world.drain();
    this.#throwDefect();
    if (isEnded) await this.#end();
  }

  #throwDefect(): void {
    if (this.world.defect !== undefined) throw this.world.defect;
  }

  async #begin(): Promise<void> {
    const { world } = this;
    const busy = this.#hosts.filter(isBusy);
    if (busy.length > 0 && (busy.length === this.#hosts.length || world.random() < 0.35)) {
      // Mostly for as long as a prune may take; but no length is safer than another.
      const writers = busy.filter(({ isKeeper }) => !isKeeper);
      const actor = world.pick(writers.length > 0 && world.random() < 0.8 ? writers : busy).actor as Actor;
      const exponent = world.random() < 0.7 ? 2 + world.random() * 2 : world.random() * 6.4;
      actor.pausedUntilMs = world.nowMs + Math.floor(1000 * 10 ** exponent);
      return world.note(actor, `is paused for ${Math.round((actor.pausedUntilMs - world.nowMs) / 1000)}s`);
    }
    const idle = this.#hosts.filter((one) => !isBusy(one));
    // Nothing is deleted before one that died has begun anew.
    const dead = idle.find(({ actor }) => actor?.hasDied);
    const keeper = idle.find(({ name }) => name === 'keeper');
    const usual = idle.filter(({ name }) => name !== 'other keeper' || world.random() < 0.15);
    const host = dead && world.random() < 0.6 ? dead : keeper && world.random() < 0.3 ? keeper : world.pick(usual);
    if (!host) return;
    const chance = world.random();
    // Beside a prune mostly backups: that is where the harm would be.
    const isPruning = busy.some(({ isKeeper }) => isKeeper);
    const forget = isPruning ? 0.1 : 0.3;
    const deed = host.isKeeper ? 'prune' : chance < forget ? 'forget' : chance < forget + 0.1 ? 'undo' : 'backup';
    const down = world.random() < 0.08 ? [world.pick(['a', 'b'])] : [];
    await this.#start(host, deed, { down, mayDie: true });
  }

  /** What is hardest for a prune, and rare by chance: others who begin, and stand still, in the worst moments of it. */
  async #disturb(keeper: Host): Promise<void> {
    const { world } = this;
    const actor = keeper.actor as Actor;
    const host = this.#hosts.find((one) => !one.isKeeper && !isBusy(one));
    if (!host) return;
    if (keeper.phase === 'deleting' && world.random() < 0.12) {
      delete keeper.phase;
      // It has looked for runs, and stands still; somebody who comes now must see that it is there.
      actor.pausedUntilMs = world.nowMs + Math.floor((2 + world.random() * 4) * SETTLE_MS);
      world.note(actor, 'stands still');
      await this.#start(host, 'undo', { down: [], mayDie: false });
      await this.#goOn(host, 60);
    } else if (world.isAsleep(actor) && world.random() < 0.35) {
      await this.#start(host, 'backup', { down: [], mayDie: false });
      await this.#goOn(host, Math.floor(world.random() * 20));
      this.#standStill(host, SETTLE_MS + world.random() * 20 * SETTLE_MS);
    }
  }

  /**
   * Prunes that get far: what one condemns another deletes, after the grace. Either a backup, begun before them, stands still somewhere all that time; or
   * nobody is left whom they must wait for, so that they delete, whoever comes then.
   */
  async #pruneInEarnest(): Promise<void> {
    const { world } = this;
    const [keeper] = this.#hosts.filter((one) => one.isKeeper) as [Host];
    const writers = this.#hosts.filter((one) => !one.isKeeper);
    const isBeside = world.random() < 0.5;
    for (const host of this.#hosts) {
      if (!host.isKeeper && !isBusy(host) && host.actor?.hasDied)
        await this.#start(host, 'backup', { down: [], mayDie: false });
      if (host.actor && isBusy(host)) host.actor.pausedUntilMs = 0;
      if (isBusy(host)) await this.#goOn(host, 100);
    }
    if (isBusy(keeper)) return;
    const host = world.pick(writers);
    if (!isBusy(host)) {
      await this.#start(host, 'forget', { down: [], mayDie: false });
      await this.#goOn(host, 40);
    }
    if (isBeside && !isBusy(host)) {
      await this.#start(host, 'backup', { down: [], mayDie: false });
      await this.#goOn(host, Math.floor(world.random() * 25));
      this.#standStill(host, 30 * DAY_MS);
    }
    for (let prunes = 0; prunes < 2 && !isBusy(keeper); prunes++) {
      this.#graceMs = prunes === 0 ? 7 * DAY_MS : 0;
      await this.#start(keeper, 'prune', { down: [], mayDie: false });
      await this.#goOn(keeper, 150);
      this.#graceMs = undefined;
      world.nowMs += 8 * DAY_MS;
    }
  }

  /** Of the prunes that come to it now; undefined: by chance. */
  #graceMs: number | undefined;

  /** So many turns for one, and for others only where he cannot go on. */
  async #goOn(host: Host, turns: number): Promise<void> {
    const actor = host.actor as Actor;
    actor.rank = 2;
    for (let turn = 0; turn < turns && !actor.isOver && (await this.world.step()); turn++) {
      this.#throwDefect();
      if (host.isKeeper) await this.#disturb(host);
    }
    actor.rank = this.world.random();
  }

  #standStill({ actor }: Host, ms: number): void {
    if (!actor || actor.isOver) return;
    actor.pausedUntilMs = this.world.nowMs + Math.floor(ms);
    this.world.note(actor, 'stands still');
  }

  async #start(
    host: Host,
    deed: 'backup' | 'forget' | 'undo' | 'prune' | 'prune all',
    { down, mayDie }: { down: string[]; mayDie: boolean },
  ): Promise<void> {
    const { world } = this;
    const dies = mayDie && world.random() < 0.12;
    const actor: Actor = {
      ...newActor(`${deed}#${++this.#actors}@${host.name}`),
      skewMs: host.skewMs,
      rank: world.random(),
      diesAt: dies ? 1 + Math.floor(world.random() * (deed === 'prune' ? 120 : 25)) : Infinity,
      lastTakesEffect: world.random() < 0.5,
    };
    host.actor = actor;
    delete host.phase;
    world.note(actor, `begins${down.length > 0 ? ` without ${down[0]}` : ''}`);
    const { pruner, writer, undoer = writer } = this.#flaws;
    const flaw = deed.startsWith('prune') ? pruner : deed === 'undo' ? undoer : writer;
    const mirror = this.#flawed(world.mirror(actor, down), flaw);
    const seams = { clock: world.clock(actor), random: this.#entropy };
    const repository = await this.#open(mirror);
    const work = {
      backup: () => this.#backup(host, repository, seams),
      forget: () => this.#forget(host, repository, seams),
      undo: () => this.#undo(host, repository, seams),
      prune: () => this.#prune(host, repository, seams, false),
      'prune all': () => this.#prune(host, repository, seams, true),
    }[deed];
    world.start(actor, work);
  }

  #flawed(mirror: Mirror, flaw: Flaw | undefined): Mirror {
    if (!flaw) return mirror;
    const error = new Map(mirror.states().map((state) => [state.name, state.error]));
    return new Mirror(
      mirror.states().map(({ name }) => {
        const failed = error.get(name);
        return failed ? { name, error: failed } : { name, backend: flaw(mirror.member(name)) };
      }),
    );
  }

  #open(mirror: Mirror): Promise<Repository> {
    const clock: Clock = { now: () => this.world.nowMs, monotonic: () => this.world.nowMs, sleep: async () => {} };
    return openRepository(mirror, { kind: 'restore', identities: [this.of.restore] }, { clock });
  }

  async #run(host: Host, repository: Repository, kind: 'write' | 'sweep', seams: { clock: Clock; random: Random }) {
    const after = host.runs;
    const remember = (id: RunId) => void (host.runs = [...after, id].slice(-32));
    return beginRun(repository, { kind, host: host.name, after, remember }, signer, seams);
  }

  async #backup(host: Host, repository: Repository, seams: { clock: Clock; random: Random }): Promise<void> {
    const { world } = this;
    const run = await this.#run(host, repository, 'write', seams);
    const { index, snapshots, problems } = await level(repository, { run });
    if (problems.length > 0) world.note(host.actor, `problems: ${problems.map(({ key }) => key).join(' ')}`);
    const listed = [...snapshots.values()].map(({ id }) => id);
    const writer = repository.writer(index, seams);
    const needs = new Set<ChunkId>();
    const add = (bytes: Uint8Array, kind: 'data' | 'manifest') => {
      const id = writer.add(bytes, kind);
      needs.add(id);
      return id;
    };
    const contents =
      this.#only ??
      Array.from({ length: 1 + Math.floor(world.random() * 2) }, () => Math.floor(world.random() * CONTENTS));
    const ids = contents.map((one) => add(Buffer.alloc(300, `content ${one} `), 'data'));
    await writer.ready();
    const line = `${JSON.stringify({ path: 'file', type: 'file', size: 300, chunks: ids })}\n`;
    const cutAt = 1 + Math.floor(world.random() * (line.length - 1));
    const pieces = [line.slice(0, cutAt), line.slice(cutAt)];
    const chunks = pieces.map((piece) => add(Buffer.from(piece), 'manifest'));
    await writer.flush();
    const seq = listed.length;
    const time = timestamp(Math.max(seams.clock.now(), repository.state.entry.inForceFromMs));
    const record = {
      version: FORMAT_VERSION,
      critical: [],
      repository: repository.id,
      agent: { handle: 'ada', publicKey: hex(signer.publicKey) },
      ...{ seq, parent: null, time, host: host.name },
      sources: [{ root: '/state' }],
      manifest: { chunks, bytes: line.length, entries: 1 },
      counts: { files: 1, folders: 0, symlinks: 0, bytes: 300 },
      ...{ tags: [], tool: `holdfast/${host.actor?.name}`, config: '', run: run.id },
    } as const;
    // Known before it can be seen: also of a run that dies the snapshot must be whole.
    this.#announced.set(run.id, needs);
    const snapshot = await writer.commit({ ...record, critical: [], sources: [...record.sources], tags: [] }, signer);
    this.needs.set(snapshot.id, needs);
    this.acknowledged.add(snapshot.id);
    world.note(host.actor, `has made snapshot ${snapshot.id.slice(0, 6)}`);
  }
  /** By the run that is about to store it, what the snapshot needs. */
  readonly #announced = new Map<RunId, Set<ChunkId>>();

  async #forget(host: Host, repository: Repository, seams: { clock: Clock; random: Random }): Promise<void> {
    const listed = [...(await repository.listSnapshots())].map(([key, { id }]) => ({ key, id }));
    if (listed.length < (this.#only ? 1 : 2)) return;
    const { key, id } = this.world.pick(listed);
    const object = await repository.mirror.get(key);
    const said = { time: timestamp(seams.clock.now()), host: host.name, packs: [] };
    this.forgotten.add(id);
    const snapshots = [{ key, object: Buffer.from(object).toString('base64') }];
    await condemn(repository, { ...said, snapshots }, signer, seams);
    await repository.mirror.delete(key);
  }

  async #undo(host: Host, repository: Repository, seams: { clock: Clock; random: Random }): Promise<void> {
    const found = (await readCondemned(repository)).condemned.filter(({ record }) => record.snapshots.length > 0);
    if (found.length === 0) return;
    const of = this.world.pick(found);
    const run = await this.#run(host, repository, 'write', seams);
    await putBack(repository, of, run, { clock: seams.clock, settleMs: this.#flaws.settleMs ?? SETTLE_MS });
    for (const { key } of of.record.snapshots) {
      const name = parseKey(key);
      if (name?.kind === 'snapshot') this.putBack.add(name.id);
      this.world.note(host.actor, `has put back ${key.slice(27, 33)}`);
    }
    await endRun(repository, run);
  }

  async #prune(
    host: Host,
    repository: Repository,
    seams: { clock: Clock; random: Random },
    all: boolean,
  ): Promise<void> {
    const { world } = this;
    const run = await this.#run(host, repository, 'sweep', seams);
    const { deleted, waiting } = await collect(
      repository,
      {
        ...{ run, signer, host: host.name, presumeOver: [], check: async () => {} },
        graceMs: this.#graceMs ?? (all ? -100 * 365 * DAY_MS : world.random() < 0.8 ? 0 : 7 * DAY_MS),
        settleMs: this.#flaws.settleMs ?? SETTLE_MS,
        waitMs: world.random() < 0.5 ? 0 : 600_000,
        repackBytes: !all && world.random() < 0.7 ? 2 ** 30 : 0, // at the end: what it condemns would go a prune later
      },
      { ...seams, progress: (event) => void (event.type === 'phase' && (host.phase = event.name)) },
    );
    this.deletedPacks += deleted.packs;
    if (!all) this.deletedBeside += deleted.packs;
    world.note(host.actor, `has deleted ${deleted.packs} packs; waits for ${waiting.length}`);
  }

  /**
   * After a change: what a backend shows as a snapshot is whole there when its maker has stored it, and once whole it stays so. (Who copies one
   * to another backend by a listing that lags may bring the snapshot first, and the rest the next time.)
   */
  async #changed(store: Store, key: string, actor: Actor): Promise<void> {
    const name = parseKey(key);
    const isThere = store.objects.has(key);
    if (name?.kind === 'snapshot' && isThere) {
      const opened = await this.#judge?.checkSnapshot(name.id, key, store.objects.get(key) as Uint8Array);
      const needs = opened?.record.run && this.#announced.get(opened.record.run);
      if (!needs) throw new Error(`${key} was made by nobody`);
      this.needs.set(name.id, needs);
      if (opened.record.tool === `holdfast/${actor.name}`) this.#whole.add(`${store.name} ${key}`);
    }
    if (name?.kind === 'snapshot' && !isThere) this.#whole.delete(`${store.name} ${key}`);
    if (name?.kind === 'index' && isThere && !this.#indexes.has(key)) {
      const packs = await this.#judge?.checkIndex(name.id, store.objects.get(key) as Uint8Array);
      this.#indexes.set(
        key,
        (packs ?? []).map(({ id, chunks }) => ({ id, chunks: chunks.map((chunk) => chunk.id) })),
      );
    }
    if (name?.kind === 'run' || name?.kind === 'condemned' || (name?.kind === 'pack' && isThere)) return;
    this.#checkWhole(store);
  }
  /** By backend and key, the snapshots that are whole there. */
  readonly #whole = new Set<string>();

  #checkWhole(store: Store, isEnd = false): void {
    const there = new Set<ChunkId>();
    for (const key of store.objects.keys())
      for (const { id, chunks } of this.#indexes.get(key) ?? [])
        if (store.objects.has(packKey(id))) for (const chunk of chunks) there.add(chunk);
    for (const key of store.objects.keys()) {
      const name = parseKey(key);
      if (name?.kind !== 'snapshot') continue;
      const at = `${store.name} ${key}`;
      const missing = [...(this.needs.get(name.id) ?? [])].find((chunk) => !there.has(chunk));
      if (missing === undefined) this.#whole.add(at);
      else if (isEnd || this.#whole.has(at)) {
        const what = `snapshot ${name.id.slice(0, 6)} has lost chunk ${missing.slice(0, 6)}`;
        this.world.defect ??= new Error(`backend ${store.name}: ${what}`);
      }
    }
  }

  /** All run once more, undisturbed: nothing that counts is lost, and nothing that is needless stays. */
  async #end(): Promise<void> {
    const { world } = this;
    for (const name of ['one', 'two', 'other keeper', 'keeper', 'keeper', 'keeper']) {
      world.nowMs += 60 * DAY_MS;
      const host = this.#hosts.find((one) => one.name === name) as Host;
      await this.#start(host, host.isKeeper ? 'prune all' : 'backup', { down: [], mayDie: false });
      await world.drain();
      this.#throwDefect();
    }
    for (const store of world.stores) {
      this.#checkWhole(store, true);
      this.#throwDefect();
      for (const id of this.acknowledged) {
        if (this.forgotten.has(id)) continue;
        const isThere = [...store.objects.keys()].some(
          (key) => key.endsWith(`-${id}.age`) && key.startsWith('snapshots/'),
        );
        if (!isThere) throw new Error(`backend ${store.name}: snapshot ${id.slice(0, 6)} is lost`);
      }
      const shown = [...store.objects.keys()].flatMap((key) => {
        const name = parseKey(key);
        return name?.kind === 'snapshot' ? [name.id] : [];
      });
      const needed = new Set(shown.flatMap((id) => [...(this.needs.get(id) ?? [])]));
      const chunksOf = new Map([...this.#indexes.values()].flat().map(({ id, chunks }) => [id, chunks]));
      for (const key of store.objects.keys()) {
        const name = parseKey(key);
        if (name?.kind === 'condemned' || name?.kind === 'run')
          throw new Error(`backend ${store.name}: ${key} stays for ever`);
        if (name?.kind === 'pack' && !(chunksOf.get(name.id) ?? []).some((chunk) => needed.has(chunk)))
          throw new Error(`backend ${store.name}: ${key} is needless, and stays for ever`);
      }
    }
  }
}

const newActor = (name: string): Actor => ({
  ...{
    name,
    skewMs: 0,
    diesAt: Infinity,
    lastTakesEffect: false,
    operations: 0,
    rank: 1,
    pausedUntilMs: 0,
    isOver: false,
    hasDied: false,
  },
});
