/**
 * A local user who may write to the target, or to the folder it lies in, and exchanges folders for links while root restores: nothing outside may be
 * written, made, removed, or given an owner, rights or times.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { isHoldfastError } from '../../src/errors.ts';
import type { Overwrite } from '../../src/state/compare-tree.ts';
import { isRoot } from '../state/tools.ts';
import { contentDifference, inventory, removeFolder } from '../state/trees.ts';
import { makeAgent } from './support.ts';

/** Before one call of `node:fs` with a path, the hand of another. */
const world = vi.hoisted(() => ({ calls: 0, at: Infinity, before: '', strike: () => {} }));

vi.mock('node:fs', async (original) => {
  const real = await original<Record<string, unknown>>();
  const names = Object.keys(real).filter((name) => name.endsWith('Sync') && typeof real[name] === 'function');
  const watched = Object.fromEntries(
    names.map((name) => [
      name,
      (...args: unknown[]): unknown => {
        if (typeof args[0] !== 'number' && ++world.calls === world.at) world.strike();
        if (name === world.before) world.strike();
        return (real[name] as (...all: unknown[]) => unknown)(...args);
      },
    ]),
  );
  const native = (...args: unknown[]) => (watched['realpathSync'] as (...all: unknown[]) => unknown)(...args);
  return { ...real, ...watched, realpathSync: Object.assign(native, real['realpathSync']) };
});

const NOBODY = 65_534;
const FILES = ['MEMORY.md', 'memory/a.md', 'memory/deep/b.md', 'memory/deep/er/c.md', 'tool'];
const TIME = 1_600_000_000;
const IS_LONG = process.env['HOLDFAST_LONG'] === '1';
/** In each sweep, about. */
const RESTORES = IS_LONG ? 70 : 36;
/** Beside a process that exchanges things all the while. */
const ROUNDS = IS_LONG ? 8 : 3;

function plant(root: string, text: string, mode: number, owner = NOBODY): void {
  mkdirSync(root, { recursive: true });
  for (const path of FILES) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), `${text} ${path}`);
  }
  mkdirSync(join(root, 'empty'));
  symlinkSync('MEMORY.md', join(root, 'link'));
  const all = readdirSync(root, { recursive: true, encoding: 'utf8' }).map((path) => join(root, path));
  for (const path of [...all, root].filter((one) => !one.endsWith('/link'))) {
    const isFolder = lstatSync(path).isDirectory();
    chownSync(path, owner, owner);
    chmodSync(path, isFolder ? 0o755 : mode);
    utimesSync(path, TIME, TIME);
  }
}

describe.skipIf(!isRoot)('a restore by root', async () => {
  const agent = await makeAgent({ fill: (state) => plant(state, 'old', 0o640) });
  const { folder } = agent;
  chmodSync(folder, 0o755);
  await agent.backup();
  afterAll(() => removeFolder(folder));

  const outside = join(folder, 'outside');
  plant(outside, 'precious', 0o600, 0);
  mkdirSync(join(outside, 'target'));
  const untouched = join(folder, 'untouched');
  plant(untouched, 'precious', 0o600, 0);
  mkdirSync(join(untouched, 'target'));
  for (const root of [outside, untouched]) utimesSync(root, TIME, TIME);
  const before = inventory(outside);

  /** Belongs to the other user, and what is in it too. */
  let home: string;
  let target: string;
  beforeEach(() => {
    home = mkdtempSync(join(folder, 'home-'));
    target = join(home, 'target');
    chownSync(home, NOBODY, NOBODY);
    world.at = Infinity;
    world.before = '';
  });

  function expectUntouched(): void {
    expect(inventory(outside)).toEqual(before);
    expect(contentDifference(untouched, outside)).toBe('');
  }

  /** Any end is right but one that nobody foresaw. */
  async function restore(overwrite?: Overwrite): Promise<unknown> {
    try {
      return await agent.restore(target, { overwrite });
    } catch (error) {
      if (!isHoldfastError(error) || error.code === 'bug') throw error;
      return error;
    }
  }

  function exchange(path: string): void {
    try {
      renameSync(path, `${path}.aside`);
      symlinkSync(outside, path);
      lchownSync(path, NOBODY, NOBODY);
    } catch {
      // not there yet, or by now
    }
  }

  const prepare = {
    'into a new folder': () => {},
    'into an empty folder of the other': () => {
      mkdirSync(target);
      chownSync(target, NOBODY, NOBODY);
    },
    'over what is there': () => plant(target, 'new', 0o600),
    'over what is there, of which only the metadata differ': () => plant(target, 'old', 0o600),
  };
  const places = ['.', 'memory', 'memory/deep', 'MEMORY.md', 'tool', 'empty', '.holdfast-restore-staging'];

  it('says of a link that is gone when it is read that it could not be compared', async () => {
    plant(target, 'old', 0o600);
    const link = join(target, 'link');
    world.strike = () => rmSync(link, { force: true });
    world.before = 'readlinkSync';
    const told = await restore('changed');
    world.before = '';
    expect(told).toMatchObject({ complete: false, warnings: [{ path: 'link' }] });
  });

  describe.each(Object.entries(prepare))('%s', (name, ready) => {
    const overwrite = name.startsWith('over') ? 'changed' : undefined;

    it('leads nowhere else, at whatever moment something is exchanged for a link', async () => {
      ready();
      world.calls = 0;
      await restore(overwrite);
      const { calls } = world;
      expect(calls).toBeGreaterThan(30);
      let struck = 0;
      const struckAt = overwrite === undefined ? places.slice(0, 1) : places; // in a new target nobody can reach anything
      const step = Math.max(2, Math.ceil((calls * struckAt.length) / RESTORES));
      for (const [number, place] of struckAt.entries()) {
        for (let at = 1 + number; at <= calls; at += step) {
          rmSync(target, { recursive: true, force: true });
          rmSync(`${target}.aside`, { recursive: true, force: true });
          ready();
          world.calls = 0;
          world.strike = () => {
            struck++;
            exchange(join(target, place));
          };
          world.at = at;
          await restore(overwrite);
          world.at = Infinity;
          expect(lstatSync(join(outside, 'MEMORY.md')).mode & 0o777, `${place} at call ${at}`).toBe(0o600);
          expect(readFileSync(join(outside, 'memory/a.md'), 'utf8')).toBe('precious memory/a.md');
        }
      }
      expectUntouched();
      expect(struck).toBeGreaterThan(20);
    });

    it('leads nowhere else, whatever a process of the other exchanges meanwhile', async () => {
      const program = fileURLToPath(new URL('swapper.ts', import.meta.url));
      const paths = places.map((place) => join(target, place));
      const swapper = spawn(process.execPath, [program, outside, ...paths], { stdio: ['pipe', 'pipe', 'inherit'] });
      let said = '';
      swapper.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
      await once(swapper.stdout, 'data');
      try {
        await rounds();
      } finally {
        swapper.stdin.end();
        await once(swapper, 'exit');
      }
      expect(Number(said.split('\n')[1])).toBeGreaterThan(20);
      expectUntouched();
    });

    async function rounds(): Promise<void> {
      for (let round = 0; round < ROUNDS; round++) {
        // Made where the other does not know it, and put in its place whole.
        const place = home;
        home = mkdtempSync(join(folder, 'next-'));
        chownSync(home, NOBODY, NOBODY);
        target = join(home, 'target');
        ready();
        renameSync(place, `${place}.before-${round}`);
        renameSync(home, place);
        home = place;
        target = join(home, 'target');
        await restore(overwrite);
      }
    }
  });
});
