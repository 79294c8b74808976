/**
 * Bringing the state of an agent back that cannot be started with the one it has: newest snapshot first, then older ones, until it is well.
 *
 *     restore beside the state -> stop the agent -> its state aside, the restored one in its place -> start -> wait until it is well
 *
 * Nothing is ever removed of what the agent had: it lies aside, and is put back when no snapshot helped. A process that was killed between the two
 * renames leaves no folder at all: whoever comes next knows that by the names of what lies beside, and puts back what the agent had.
 */
import { existsSync, readdirSync, readlinkSync, realpathSync, renameSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { Clock, Random } from '../clock.ts';
import { HoldfastError, isSurvivable, messageOf, throwIfAborted } from '../errors.ts';
import { fingerprint } from '../identity/agent-key.ts';
import { agentKeyOf, openForRestore, type ExpectedRepository, type RestoreSecret } from '../operations/access.ts';
import { checkTarget } from '../operations/restoring/apart.ts';
import { openMirror, type BackendAddress } from '../operations/backends.ts';
import { readSnapshots } from '../operations/looking/open-look.ts';
import { writeMarker } from '../operations/recover.ts';
import { restoreFrom } from '../operations/restore.ts';
import type { Seams } from '../operations/seams.ts';
import type { Profile } from '../state/profile.ts';
import { removeTree } from '../state/remove-tree.ts';
import type { RunCommand } from './actions.ts';
import type { AgentHealth } from './health.ts';
import { VITAL } from './health.ts';
import type { Evidence } from './rules.ts';

export interface RestoreStateOptions {
  agent: string;
  backends: readonly BackendAddress[];
  secret: RestoreSecret;
  expected?: ExpectedRepository | undefined;
  /** Of a profile of the user's own. */
  profile?: Profile | undefined;
  /** The folder of the state. */
  root: string;
  stop: string;
  start: string;
  /** What the commands are told. */
  env: Readonly<Record<string, string>>;
  run: RunCommand;
  /** One look at the agent, now. */
  look: (signal: AbortSignal) => Promise<AgentHealth | undefined>;
  /** How long a start may take until every vital layer is ok. */
  withinMs: number;
  /** Snapshots that are tried. */
  most: number;
}

const LOOK_EVERY_MS = 1000;
const SHOWN_ID = 8;

/**
 * @returns which snapshot it was, what was tried before, and where the old state lies
 * @throws `not_found` when no snapshot helped (the old state is in its place again), `hook_failed` when the agent cannot be stopped; what opening a repository throws
 */
export async function restoreState(
  options: RestoreStateOptions,
  seams: Seams & { signal: AbortSignal },
): Promise<Evidence> {
  const root = placeOf(options.root);
  checkTarget(root, options.backends);
  const wasAside = putBack(root);
  await using mirror = await openMirror(options.backends, seams);
  const repository = await openForRestore(mirror, options.secret, options.expected, seams);
  const { publicKey } = await agentKeyOf(repository, options.secret, seams.signal);
  const { snapshots } = await readSnapshots(repository, seams.signal);
  const tried: string[] = [];
  const swap = new Swap(root, seams);
  for (const { id, record } of snapshots.toReversed().slice(0, options.most)) {
    throwIfAborted(seams.signal);
    const name = `${id.slice(0, SHOWN_ID)} of ${record.time}`;
    const target = swap.beside(id.slice(0, SHOWN_ID));
    let problem: string | undefined;
    try {
      const request = { snapshot: id, target, paths: [], withSecrets: true, profile: options.profile };
      const { complete, lost } = await restoreFrom(repository, request, seams, {
        isThere: (base, snapshot) => writeMarker(base, snapshot, fingerprint(publicKey), seams),
      });
      if (!complete || lost.length > 0) problem = `not whole: ${lost.length} files lost`;
    } catch (error) {
      if (!isSurvivable(error)) {
        removeTree(target);
        throw error;
      }
      problem = error.message;
    }
    if (problem !== undefined) {
      removeTree(target); // ours, and the agent never saw it
      tried.push(`${name}: ${problem}`);
      continue;
    }
    try {
      await command('stop', options, seams.signal);
    } catch (error) {
      removeTree(target);
      throw error;
    }
    try {
      swap.put(target, id.slice(0, SHOWN_ID));
    } catch (error) {
      swap.back();
      removeTree(target);
      await options.run(options.start, options.env, seams.signal); // as it was before
      throw error;
    }
    problem = await start(options, seams);
    if (problem === undefined) {
      const before = {
        ...(tried.length > 0 && { triedBefore: tried.join('; ') }),
        ...(wasAside !== undefined && { wasCutOff: `its state lay at ${wasAside}: an earlier try was cut off` }),
      };
      return { snapshot: id, time: record.time, aside: swap.original, ...before };
    }
    tried.push(`${name}: ${problem}`);
  }
  const wasSwapped = swap.isDone;
  if (wasSwapped) {
    await command('stop', options, seams.signal);
    swap.back();
    await options.run(options.start, options.env, seams.signal);
  }
  const what = snapshots.length === 0 ? 'there is no snapshot' : `none of ${tried.length} helped: ${tried.join('; ')}`;
  throw new HoldfastError('not_found', `the state of ${options.agent} was not restored: ${what}`, {
    hint: wasSwapped
      ? `The state it had is in its place again; the others lie beside it: ${basename(root)}.aside-…`
      : 'Nothing was changed.',
  });
}

/**
 * After a restore that was killed: when it had taken the folder of the state away and brought nothing in its place, the state the agent had is put
 * back, and the agent started. Nothing is removed.
 *
 * @returns what was done; undefined where the folder is in its place, or nothing of such a restore is found
 * @throws `io` when it cannot be moved
 */
export async function putStateBack(
  { root, start, env, run }: Pick<RestoreStateOptions, 'root' | 'start' | 'env' | 'run'>,
  signal: AbortSignal,
): Promise<Evidence | undefined> {
  const place = placeOf(root);
  const aside = putBack(place);
  if (aside === undefined) return undefined;
  const { exitCode, problem } = await run(start, env, signal);
  const started = problem === undefined ? 'it was started' : `the start command ${problem}`;
  return { done: `its state, which lay at ${aside}, is in its place again, and ${started}`, aside, exitCode };
}

async function command(which: 'stop' | 'start', options: RestoreStateOptions, signal: AbortSignal): Promise<void> {
  const { problem, output } = await options.run(options[which], options.env, signal);
  throwIfAborted(signal);
  if (problem === undefined) return;
  throw new HoldfastError('hook_failed', `the command that should ${which} ${options.agent} ${problem}: ${output}`, {
    hint: 'Run it by itself to see what it lacks.',
  });
}

/** Starts the agent and waits until it is well. @returns why it is not */
async function start(options: RestoreStateOptions, { clock, signal }: { clock: Clock; signal: AbortSignal }) {
  const { problem, output } = await options.run(options.start, options.env, signal);
  throwIfAborted(signal);
  if (problem !== undefined) return `the start command ${problem}: ${output}`;
  const endMs = clock.monotonic() + options.withinMs;
  for (;;) {
    const seen = await options.look(signal);
    const bad = VITAL.flatMap((layer) => {
      const one = seen?.layers[layer];
      return one && !one.last.ok ? [`${layer}: ${one.last.evidence}`] : [];
    });
    const isLookedAt = seen !== undefined && VITAL.some((layer) => seen.layers[layer]);
    if (isLookedAt && bad.length === 0) return undefined;
    if (clock.monotonic() >= endMs)
      return `not well within ${options.withinMs / 1000} s: ${bad.join(', ') || 'nothing tells whether it is well'}`;
    await clock.sleep(LOOK_EVERY_MS, signal);
  }
}

/** Of what lies beside: when, so that the names of one restore are known by it. */
const SUFFIX = /^\d{8}T\d{6}Z-[0-9a-f]{4}$/;

/** Where the folder is, or would be: behind a link, also when nothing is there. */
function placeOf(root: string): string {
  if (existsSync(root)) return realpathSync(root);
  try {
    return resolve(dirname(root), readlinkSync(root));
  } catch {
    return root; // no link
  }
}

/**
 * What the agent had, in its place again, when a restore of it was cut off between two renames: there is no folder, and of the same restore there lies
 * aside what the agent had, and what should have taken its place.
 * @returns where it lay
 */
function putBack(root: string): string | undefined {
  const parent = dirname(root);
  if (existsSync(root) || !existsSync(parent)) return undefined;
  const names = readdirSync(parent);
  const aside = `${basename(root)}.aside-`;
  const [newest] = names
    .filter((name) => name.startsWith(aside) && SUFFIX.test(name.slice(aside.length)))
    .filter((name) => {
      const restored = `${basename(root)}.restored-${name.slice(aside.length)}-`;
      return names.some((other) => other.startsWith(restored) || other.startsWith(`${name}-`));
    })
    .toSorted()
    .toReversed();
  if (newest === undefined) return undefined;
  move(join(parent, newest), root);
  return join(parent, newest);
}

function move(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (cause) {
    throw new HoldfastError('io', `${from} cannot be moved to ${basename(to)}: ${messageOf(cause)}`, {
      hint: 'The folder of the state must not be a mount point, and the folder it lies in must be writable.',
      cause,
    });
  }
}

/** The folder of a state and what takes its place. Each step is one rename. */
class Swap {
  readonly #root: string;
  readonly #suffix: string;
  /** Where what the agent had before lies; null: it had nothing, or has it still. */
  original: string | null = null;
  isDone = false;
  #current = '';

  constructor(root: string, { clock, random }: { clock: Clock; random: Random }) {
    this.#root = root;
    const time = new Date(clock.now()).toISOString().replace(/[-:]|\.\d+/g, '');
    this.#suffix = `${time}-${Buffer.from(random.bytes(2)).toString('hex')}`;
  }

  /** A path on the same file system, as long as the root is no mount point. */
  beside(name: string): string {
    return join(dirname(this.#root), `${basename(this.#root)}.restored-${this.#suffix}-${name}`);
  }

  put(restored: string, name: string): void {
    const aside = `${this.#root}.aside-${this.#suffix}${this.isDone ? `-${this.#current}` : ''}`;
    const wasThere = existsSync(this.#root);
    if (wasThere) move(this.#root, aside);
    try {
      move(restored, this.#root);
    } catch (error) {
      if (wasThere) move(aside, this.#root);
      throw error;
    }
    if (wasThere && !this.isDone) this.original = aside;
    this.isDone = true;
    this.#current = name;
  }

  back(): void {
    if (this.original === null || !statSync(this.original).isDirectory()) return;
    if (existsSync(this.#root)) move(this.#root, `${this.#root}.aside-${this.#suffix}-${this.#current}`);
    move(this.original, this.#root);
  }
}
