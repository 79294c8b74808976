/** Disks that are full, read-only, failing, or closed to the program, in mid-run. When they are well again, so is everything. */
import { chmodSync, chownSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { removeFolder } from '../state/trees.ts';
import { Agent, WORDS } from './agent.ts';
import type { Dice } from './dice.ts';
import type { Kind, Tally, Torment } from './kind.ts';
import { cannotMount, mountSmall, remount } from './mounts.ts';
import { lacks, preloading } from './preloads.ts';
import { describe, errorOf, type Ran } from './program.ts';

const MiB = 2 ** 20;
const ROOM = 512 * MiB;
const NOBODY = 65_534;
const PLACES = ['nas', 'usb', 'home', 'target'] as const;
type Place = (typeof PLACES)[number];

interface Scene {
  agent: Agent;
  /** Nothing that is done in it is undone by itself. */
  dice: Dice;
  /** Milliseconds of a backup without faults. */
  usualMs: number;
  isShort: boolean;
}
/** Does harm, runs something in it, and undoes the harm. */
type Harm = (scene: Scene) => Promise<Ran[]>;

/** Leaves so many bytes free on the file system of a folder. */
function fill(folder: string, bytesFree: number): void {
  const { bavail, bsize } = statfsSync(folder);
  writeFileSync(join(folder, 'filler'), Buffer.alloc(Math.max(0, bavail * bsize - bytesFree)));
}

/** Where the place `place` is, on a file system of its own. */
const at = (agent: Agent, place: Place) => agent.at('mounts', place);

/** The run that a harm is about: most harm a backup, the one of a target a restore. */
function run(
  { agent, dice, usualMs }: Scene,
  place: Place,
  harm: { before?: () => void; meanwhile?: () => void },
): Promise<Ran> {
  harm.before?.();
  const { meanwhile } = harm;
  const how = meanwhile ? { meanwhile: { afterMs: (0.3 + 0.6 * dice.fraction()) * usualMs, act: meanwhile } } : {};
  if (place !== 'target') return agent.holdfast(['backup'], how);
  return agent.holdfast(['restore', agent.some(dice), '--target', join(at(agent, 'target'), 'there'), ...WORDS], how);
}

const onPlaces =
  (
    places: readonly Place[],
    act: (scene: Scene, place: Place, isBefore: boolean) => { harm: () => void; undo: () => void },
  ): Harm =>
  async (scene) => {
    const isBefore = scene.dice.chance(0.4);
    const acts = places.map((place) => act(scene, place, isBefore));
    const harm = () => acts.forEach((one) => one.harm());
    try {
      return [await run(scene, places[0] ?? 'nas', isBefore ? { before: harm } : { meanwhile: harm })];
    } finally {
      for (const { undo } of acts) undo();
    }
  };

const full = (...places: Place[]): Harm =>
  onPlaces(places, ({ agent, dice }, place) => {
    const free = dice.pick([0, 4096, 100_000, 1 * MiB]);
    return {
      harm: () => {
        remount(at(agent, place), `size=${usedBytes(at(agent, place)) + free + 4096}`);
        fill(at(agent, place), free);
      },
      undo: () => {
        rmSync(join(at(agent, place), 'filler'), { force: true });
        remount(at(agent, place), `size=${ROOM}`);
      },
    };
  });

function usedBytes(folder: string): number {
  const { blocks, bfree, bsize } = statfsSync(folder);
  return (blocks - bfree) * bsize;
}

const readOnly = (...places: Place[]): Harm =>
  onPlaces(places, ({ agent }, place) => ({
    // Not while a file is open for writing: then it stays as it is, as the kernel has it, and the run is one without a fault.
    harm: () => remountReadOnly(at(agent, place), agent.tally),
    undo: () => remount(at(agent, place), 'rw'),
  }));

function remountReadOnly(folder: string, tally: Tally): void {
  try {
    remount(folder, 'ro');
    tally.add('faults');
  } catch {
    // see above
  }
}

const closed = (...places: Place[]): Harm =>
  onPlaces(places, ({ agent }, place) => ({
    harm: () => chmodSync(at(agent, place), 0o000),
    undo: () => chmodSync(at(agent, place), 0o755),
  }));

/** System calls that fail (no plain `read` and `write`: libuv, which wakes its threads by them, aborts the process): always, or as libfiu's own dice fall, which have a seed. */
const failing =
  (call: string, errno: number, share: number, args: (agent: Agent, dice: Dice) => string[]): Harm =>
  async ({ agent, dice }) => {
    const how = share === 1 ? 'enable' : 'enable_random';
    const env = {
      ...preloading('fiu'),
      FIU_ENABLE: `${how} name=${call},failinfo=${errno}${share === 1 ? '' : `,probability=${share}`}`,
      FIU_PRNG_SEED: String(dice.below(2 ** 31)),
      NODE_DISABLE_COMPILE_CACHE: '1',
    };
    return [await agent.holdfast(args(agent, dice), { env, mayNotLoad: true })];
  };

/** Calls of the program that fail, as the seed has it. */
const refused =
  (calls: string, code: string, share: number, args: (agent: Agent, dice: Dice) => string[]): Harm =>
  async ({ agent, dice }) => {
    const loader = new URL('./failing-calls.ts', import.meta.url).href;
    const env = { NODE_OPTIONS: `--import=${loader}`, TORTURE_CALLS: `${dice.fraction()} ${share} ${code} ${calls}` };
    return [await agent.holdfast(args(agent, dice), { env })];
  };

const EIO = 5;
const backupArgs = () => ['backup'];
const restoreArgs = (agent: Agent, dice: Dice) => [
  'restore',
  agent.some(dice),
  '--target',
  join(at(agent, 'target'), 'there'),
  ...WORDS,
];

const HARMS: Record<string, Harm> = {
  'a backend is full': full('nas'),
  'both backends are full': full('nas', 'usb'),
  'the home folder is full': full('home'),
  'the target is full': full('target'),
  'a backend is read-only': readOnly('usb'),
  'both backends are read-only': readOnly('nas', 'usb'),
  'the home folder is read-only': readOnly('home'),
  'the target is read-only': readOnly('target'),
  'a backend may not be entered': closed('nas'),
  'the home folder may not be entered': closed('home'),
  'the target may not be entered': closed('target'),
  'fsync fails, backup': refused('sync', 'EIO', 1, backupArgs),
  'fsync fails now and then, backup': refused('sync', 'EIO', 0.2, backupArgs),
  'fsync fails, restore': refused('sync', 'EIO', 1, restoreArgs),
  'writes fail now and then, backup': refused('write,writeFile', 'EIO', 0.3, backupArgs),
  'writes find no room now and then, backup': refused('write,writeFile', 'ENOSPC', 0.3, backupArgs),
  'writes fail now and then, restore': failing('posix/io/rw/pwrite', EIO, 0.05, restoreArgs),
  'reads fail now and then, backup': failing('posix/io/rw/pread', EIO, 0.1, backupArgs),
  'reads fail now and then, restore': failing('posix/io/rw/pread', EIO, 0.1, restoreArgs),
  'reads fail now and then, verify': failing('posix/io/rw/pread', EIO, 0.05, () => ['verify', '--level', 'objects']),
  'renames and links fail now and then, backup': refused('rename,link', 'EIO', 0.3, backupArgs),
  'files do not open now and then, backup': failing('posix/io/oc/open', EIO, 0.02, backupArgs),
};
const KEPT = 8;

export const disk: Kind = {
  title: 'disks that are full, read-only, failing or closed',
  rounds: { short: 1, long: 8 },
  missing: () => cannotMount() ?? lacks('fiu'),
  async start({ dice, folder, tally, isShort, log }: Torment) {
    // A user without privileges, from whom permissions keep something.
    const agent = new Agent(folder, { dice, tally, uid: NOBODY, noiseBytes: (isShort ? 1 : 3) * MiB });
    for (const place of PLACES) {
      mountSmall(agent.at('mounts', place), ROOM);
      chownSync(agent.at('mounts', place), NOBODY, NOBODY);
    }
    agent.place('nas', agent.at('mounts', 'nas', 'backend'));
    agent.place('usb', agent.at('mounts', 'usb', 'backend'));
    agent.place('home', agent.at('mounts', 'home'));
    await agent.found();
    const usualMs = (await agent.backup()).ms;
    const names = Object.keys(HARMS);
    return {
      async round(number, now) {
        const name = dice.of(`turn ${Math.floor(number / names.length)}`).shuffled(names)[number % names.length] ?? '';
        tally.doing = `disk, round ${number}, ${name}`;
        agent.change();
        const ran = await (HARMS[name] as Harm)({ agent, dice: now, usualMs, isShort });
        for (const one of ran) {
          log(`${name}: ${one.code} ${errorOf(one)?.message ?? ''}`);
          judge(one, tally);
          giveUpPartial(one, agent);
        }
        // What was asked for in vain is asked for again, and all is as it should be.
        const there = join(at(agent, 'target'), 'there');
        const { 0: first } = ran;
        if (first?.args[0] === 'restore') {
          const again = await agent.holdfast([...first.args, '--overwrite', 'always']);
          if (again.code !== 0) tally.blame('wrong', describe(again));
          else agent.compare(String(first.args[1]), there);
          removeFolder(there);
        }
        await agent.recount();
        agent.change();
        await agent.backup();
        await agent.verify();
        await agent.check(agent.some(now));
        await agent.thin(now.of('thin'), KEPT);
      },
      async finish() {
        tally.doing = 'disk, the last look';
        await agent.checkAll({ most: isShort ? 1 : undefined });
        if (isShort) return;
        for (const name of ['nas', 'usb']) await agent.check(agent.some(dice), ['--from', name]);
      },
    };
  },
};

/** A file that could not be read is not in the snapshot, and the run says so: that one is no longer what the state was. */
function giveUpPartial({ json }: Ran, agent: Agent): void {
  const { snapshot, warnings = [] } = (json ?? {}) as { snapshot?: { id: string }; warnings?: { path?: string }[] };
  if (snapshot && warnings.some(({ path }) => path !== undefined)) agent.giveUp(snapshot.id);
}

/** A run on a bad disk is done, done in part, or fails with an error that says so; what says that it is done is held to it afterwards. */
function judge(ran: Ran, tally: Tally): void {
  if (ran.code !== 0) tally.add('faults');
  const allowed = [0, 1, 3, 10, 12, 13];
  if (ran.code !== null && !allowed.includes(ran.code)) tally.blame('wrong', describe(ran));
}
