/**
 * The world of a drill: a scratch folder with hosts that have their own HOME, XDG folders and state, and the backends seen through overlays. What
 * happens in it changes nothing outside, and nothing of it is left.
 */
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { lstat, mkdtemp, readdir } from 'node:fs/promises';
import { isAbsolute, join, relative } from 'node:path';
import { HoldfastError, isHoldfastError, isSurvivable, messageOf, systemErrorCode } from '../errors.ts';
import { rawFromText, type RawPath } from '../raw-path.ts';
import type { Backend } from '../backend/backend.ts';
import { withCutoff, type CutoffBackend } from '../backend/cutoff.ts';
import { createDirectory } from '../backend/directory.ts';
import { openBackend } from '../backend/open.ts';
import { Overlay } from '../backend/overlay.ts';
import { withDeadline } from '../policy/deadline.ts';
import type { BackendAddress } from '../operations/backends.ts';
import type { LocalFolders } from '../operations/host/local-state.ts';
import { takeLock } from '../operations/host/lock.ts';
import type { Seams } from '../operations/seams.ts';
import { killNow } from './processes.ts';
import { clearFlags } from '../state/attributes.ts';
import { isSystemError } from '../state/system-error.ts';

/** The real backends, opened once for all scenarios, to be read only. */
export class Sources implements AsyncDisposable {
  readonly #members: readonly Source[];

  private constructor(members: readonly Source[]) {
    this.#members = members;
  }

  /** One that cannot be opened is kept with its error. */
  static async open(
    addresses: readonly BackendAddress[],
    seams: Seams,
    silenceMs: number | undefined,
  ): Promise<Sources> {
    const { clock, random, signal } = seams;
    const open = seams.openBackend ?? openBackend;
    const opening = addresses.map(async (address): Promise<Source> => {
      const { name } = address;
      const late = () =>
        new HoldfastError('backend_unavailable', `backend ${name} could not be opened in ${OPENING_MS / 1000} s`);
      try {
        const real = await withDeadline(() => open(address, { clock, random, insist: true }), {
          ...{ clock, signal, ms: OPENING_MS, graceMs: 0, expired: late },
        });
        return { name, real, view: withCutoff(real, { name, clock, silenceMs }) };
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        return { name, error };
      }
    });
    const ends = await Promise.allSettled(opening);
    const sources = new Sources(ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : [])));
    const failed = ends.find((end) => end.status === 'rejected');
    if (!failed) return sources;
    await sources[Symbol.asyncDispose]();
    throw failed.reason;
  }

  get names(): string[] {
    return this.#members.map(({ name }) => name);
  }

  /** Why a backend cannot be used any more; undefined while it can. */
  problem(name: string): HoldfastError | undefined {
    const source = this.#of(name);
    return 'error' in source ? source.error : source.view.cut;
  }

  /** An overlay on it. */
  async overlay(name: string, folder: string, { clock, random }: Pick<Seams, 'clock' | 'random'>): Promise<Overlay> {
    const source = this.#of(name);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const scratch = await createDirectory(folder, { name, clock, random });
    if ('view' in source) return new Overlay({ name, base: source.view, scratch });
    const overlay = new Overlay({ name, base: scratch, scratch });
    overlay.lose(source.error);
    return overlay;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const member of this.#members) if ('real' in member) await member.real[Symbol.asyncDispose]();
  }

  #of(name: string): Source {
    const found = this.#members.find((one) => one.name === name);
    if (!found) throw new HoldfastError('bug', `no backend ${name}`);
    return found;
  }
}

type Source = { name: string; real: Backend; view: CutoffBackend } | { name: string; error: HoldfastError };

/** As long as opening a remote backend in vain takes. */
const OPENING_MS = 60_000;

/** A machine in the world. */
export interface Host {
  name: string;
  /** Its HOME. */
  home: string;
  /** The root of the state: below HOME where it is below that of production. */
  state: string;
  files: { identity: string; writerKey: string; config: string };
  folders: LocalFolders;
  tmp: string;
  /** What a command on it finds in its environment, besides where programs lie. */
  env: Readonly<Record<string, string>>;
}

/** Backends as a host sees them. */
export interface View {
  /** Names and places in the world, which say nothing about where the real ones are. */
  addresses: BackendAddress[];
  overlays: ReadonlyMap<string, Overlay>;
  /** Those of the drill, with backends opened as this view has them. */
  seams: Seams;
}

export interface WorldOptions {
  /** Where scratch folders are made. */
  folder: string;
  /** The root of the state in production, and the HOME it may lie below. */
  stateRoot?: string | undefined;
  home?: string | undefined;
  /** See `DrillOptions`. */
  atExit?: ((work: () => void) => () => void) | undefined;
}

/** Where records of snapshots lie: docs/format.md. */
const SNAPSHOTS = 'snapshots/';
const PREFIX = 'holdfast-drill-';
/** A younger folder may be about to be locked. */
const STALE_AFTER_MS = 10 * 60_000;

export class World implements AsyncDisposable {
  readonly folder: string;
  readonly view: View;
  readonly #options: WorldOptions;
  readonly #sources: Sources;
  readonly #seams: Seams;
  readonly #lock: Disposable;
  readonly #overlays: Overlay[] = [];
  readonly #atExitNoMore: (() => void) | undefined;
  #views = 0;

  private constructor(folder: string, options: WorldOptions, sources: Sources, seams: Seams) {
    this.folder = folder;
    this.#options = options;
    this.#sources = sources;
    this.#seams = seams;
    this.#lock = takeLock(folder, 'drill');
    // For an end of this process that waits for nothing: the secrets go all the same.
    this.#atExitNoMore = options.atExit?.(() => {
      killNow(undefined, folder);
      try {
        removeTree(folder);
      } catch {
        // the next drill takes it away
      }
    });
    this.view = this.#viewOf(new Map());
  }

  static async create(options: WorldOptions, sources: Sources, seams: Seams): Promise<World> {
    const folder = await mkdtemp(join(options.folder, PREFIX)).catch((cause: unknown) => {
      throw new HoldfastError('io', `no scratch folder can be made in ${options.folder}: ${messageOf(cause)}`, {
        hint: 'Set TMPDIR to a folder with room for the state of the agent.',
        cause,
      });
    }); // mode 0700
    let world: World | undefined;
    try {
      world = new World(folder, options, sources, seams);
      const overlays = world.view.overlays as Map<string, Overlay>;
      for (const name of sources.names)
        overlays.set(name, world.#own(await sources.overlay(name, join(folder, 'written', name), seams)));
      await world.#stopTime();
      return world;
    } catch (error) {
      if (world) await world[Symbol.asyncDispose]();
      else removeTree(folder);
      throw error;
    }
  }

  /** A view beside the first: what is written there the other does not see, as when both look before either has written. */
  async fork(): Promise<View> {
    const overlays = new Map<string, Overlay>();
    for (const [name, overlay] of this.view.overlays) {
      const place = join(this.folder, `fork-${++this.#views}`, name);
      mkdirSync(place, { recursive: true, mode: 0o700 });
      const { clock, random } = this.#seams;
      const scratch = await createDirectory(place, { name, clock, random });
      const fork = this.#own(new Overlay({ name, base: await overlayBase(overlay, scratch), scratch }));
      if (overlay.isLost) fork.lose();
      overlays.set(name, fork);
    }
    return this.#viewOf(overlays);
  }

  /** A new machine, with nothing on it. */
  host(wanted: string): Host {
    // A scenario may go through a step twice.
    const isTaken = (one: string) => existsSync(join(this.folder, one));
    let name = wanted;
    for (let i = 2; isTaken(name); i++) name = `${wanted}-${i}`;
    const at = (...names: string[]) => join(this.folder, name, ...names);
    const home = at('home');
    const { stateRoot, home: realHome } = this.#options;
    const inside = stateRoot === undefined || realHome === undefined ? '..' : relative(realHome, stateRoot);
    const state = inside.startsWith('..') || isAbsolute(inside) ? join(home, 'state') : join(home, inside);
    const xdg = { config: at('config'), state: at('local'), cache: at('cache'), data: at('data') };
    const config = join(xdg.config, 'holdfast', 'holdfast.yaml');
    for (const folder of [...Object.values(xdg), at('tmp'), at('keys'), join(xdg.config, 'holdfast')])
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (state !== home) mkdirSync(home, { mode: 0o700 });
    return {
      name,
      home,
      state,
      files: { identity: at('keys', 'identity.key'), writerKey: at('keys', 'writer.key'), config },
      folders: { state: join(xdg.state, 'holdfast', 'repository'), cache: join(xdg.cache, 'holdfast', 'repository') },
      tmp: at('tmp'),
      env: {
        HOME: home,
        XDG_CONFIG_HOME: xdg.config,
        XDG_STATE_HOME: xdg.state,
        XDG_CACHE_HOME: xdg.cache,
        XDG_DATA_HOME: xdg.data,
        TMPDIR: at('tmp'),
        HOLDFAST_CONFIG: config,
        HOLDFAST_DRILL_STATE: state,
        HOLDFAST_DRILL_IDENTITY: at('keys', 'identity.key'),
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const overlay of this.#overlays) await overlay[Symbol.asyncDispose]();
    this.#lock[Symbol.dispose]();
    removeTree(this.folder);
    this.#atExitNoMore?.();
  }

  /** The agent in production may make a snapshot meanwhile: what was compared with the newest must find the same one to the end. */
  async #stopTime(): Promise<void> {
    const overlays = [...this.view.overlays.values()];
    const there = new Set<string>();
    const listing = overlays.map(async (overlay) => {
      try {
        const backend = await overlay.open();
        for await (const { key } of backend.list(SNAPSHOTS, { signal: this.#seams.signal })) there.add(key);
      } catch (error) {
        if (!isSurvivable(error)) throw error; // whoever reads there meets it again
      }
    });
    await Promise.all(listing);
    for (const overlay of overlays) overlay.listOnly((key) => !key.startsWith(SNAPSHOTS) || there.has(key));
  }

  #own(overlay: Overlay): Overlay {
    this.#overlays.push(overlay);
    return overlay;
  }

  #viewOf(overlays: Map<string, Overlay>): View {
    return {
      addresses: this.#sources.names.map((name) => ({ name, url: `file://${this.folder}/written/${name}` })),
      overlays,
      seams: {
        ...this.#seams,
        openBackend: async ({ name }) => {
          const overlay = overlays.get(name);
          if (!overlay) throw new HoldfastError('bug', `no backend ${name} in this world`);
          return overlay.open();
        },
      },
    };
  }
}

/** The local file system may refuse at any place, for want of room above all: that is told of the scenario, and is no end of the others. */
export function ofSystem(cause: unknown): unknown {
  if (isHoldfastError(cause) || !isSystemError(cause)) return cause;
  return new HoldfastError('io', `the scratch folder of the drill: ${messageOf(cause)}`, {
    hint: 'See that TMPDIR has room for the state, and that no step of the scenario takes its folders away.',
    cause,
  });
}

async function overlayBase(overlay: Overlay, instead: Backend): Promise<Backend> {
  return overlay.isLost ? instead : overlay.open();
}

/** What drills that were killed have left, for it holds the state of an agent. Failures are the next drill's. */
export async function removeLeftovers(folder: string, nowMs: number): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.startsWith(PREFIX)) continue;
    const path = join(folder, name);
    try {
      const found = await lstat(path);
      // A link of somebody else's may lead anywhere.
      if (!found.isDirectory() || nowMs - found.mtimeMs < STALE_AFTER_MS || found.uid !== process.getuid?.()) continue;
      takeLock(path, 'drill')[Symbol.dispose](); // held by one that runs
      killNow(undefined, path);
      removeTree(path);
    } catch (error) {
      if (!isHoldfastError(error) && systemErrorCode(error) === undefined) throw error;
    }
  }
}

/** With what does not let itself be removed: folders without write permission, immutable files. @throws `io` */
export function removeTree(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    try {
      makeRemovable(folder);
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    } catch (cause) {
      throw new HoldfastError('io', `the scratch folder ${folder} cannot be removed: ${messageOf(cause)}`, {
        hint: 'It holds what was restored, secrets too: remove it.',
        cause,
      });
    }
  }
}

function makeRemovable(path: string | Buffer): void {
  const raw = (typeof path === 'string' ? rawFromText(path) : path.toString('latin1')) as RawPath;
  const found = lstatSync(path);
  if (!found.isDirectory() && !found.isFile()) return;
  try {
    clearFlags(raw);
  } catch {
    // then it has none, or removing says why not
  }
  if (!found.isDirectory()) return;
  chmodSync(path, 0o700);
  const inside = Buffer.concat([Buffer.from(raw, 'latin1'), Buffer.from('/')]);
  for (const name of readdirSync(path, { encoding: 'buffer' })) makeRemovable(Buffer.concat([inside, name]));
}
