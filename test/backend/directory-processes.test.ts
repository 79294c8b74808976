/** What other processes do to a folder that this one has open: die, be forbidden to write, run into a limit. All of it for real. */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { Backend } from '../../src/backend/backend.ts';
import { openDirectory } from '../../src/backend/directory.ts';
import { collect, expectSame, keysAndSizes, patterned } from '../backend-helpers.ts';

const BYTES = 100_000;
const options = { name: 'disk', clock: systemClock, random: systemRandom };

describe('another process at a directory backend', { timeout: 60_000 }, () => {
  let folder: string;
  let backend: Backend;

  beforeEach(async () => {
    folder = await fs.mkdtemp(join(tmpdir(), 'holdfast-directory-'));
    backend = await openDirectory(folder, options);
  });

  afterEach(async () => {
    await backend[Symbol.asyncDispose]();
    await fs.rm(folder, { recursive: true });
  });

  const temps = () => fs.readdir(join(folder, 'tmp'));
  const child = (key: string, ...more: string[]) => ['directory-child.ts', folder, key, String(BYTES), ...more];

  test.each(['ifAbsent', 'replacing'])(
    'that is killed before any of its calls leaves objects whole or absent (%s)',
    async (how) => {
      const old = how === 'ifAbsent' ? undefined : patterned(5000, 1);
      const fresh = new Uint8Array(BYTES).fill(7);
      const killedAt = async (call: number) => {
        const key = `packs/${call}/one`;
        if (old) await backend.put(key, old);
        return { key, ...(await run(process.execPath, child(key, `dieAtCall=${call}`, how))) };
      };
      await backend.put('first', fresh); // Makes what only the first of all puts makes.
      const { stdout } = await killedAt(999);
      const { calls } = JSON.parse(stdout) as { calls: number };
      expect(calls).toBeGreaterThan(7);
      const deaths = await Promise.all(Array.from({ length: calls }, (_, i) => killedAt(i + 1)));

      const seen = new Set<string>();
      await using next = await openDirectory(folder, options);
      for (const { key, signal } of deaths) {
        expect(signal).toBe('SIGKILL');
        const size = (await next.head(key))?.size;
        const state = size === undefined ? 'absent' : size === BYTES ? 'new' : 'old';
        seen.add(state);
        if (state !== 'absent') expectSame(await next.get(key), state === 'new' ? fresh : old);
        expect(await keysAndSizes(next, key)).toEqual(size === undefined ? [] : [[key, size]]);
        // Nothing blocks the next run.
        expect(await next.put(key, fresh, { ifAbsent: true })).toBe(state === 'absent' ? 'created' : 'exists');
      }
      expect([...seen].sort()).toEqual([old ? 'old' : 'absent', 'new'].sort());

      expect((await temps()).length).toBeGreaterThan(2);
      const tomorrow = { ...systemClock, now: () => systemClock.now() + 25 * 3_600_000 };
      await using _ = await openDirectory(folder, { ...options, clock: tomorrow });
      expect(await temps()).toEqual([]);
      expect(await keysAndSizes(backend, '')).toHaveLength(calls + 2);
    },
  );

  test('that may not write there is told so, and what is there stays', async () => {
    await backend.put('packs/ab/one', patterned(3, 1));
    await fs.chmod(folder, 0o555);
    try {
      const { stdout } = await run(process.execPath, child('index/new', 'unprivileged', 'ifAbsent'));
      const answer = JSON.parse(stdout) as { code: string; message: string; hint: string };
      expect(answer.code).toBe('backend_unavailable');
      expect(answer.message).toContain('(EACCES)');
      expect(answer.hint).toContain('owner');
    } finally {
      await fs.chmod(folder, 0o700);
    }
    expect(await keysAndSizes(backend, '')).toEqual([['packs/ab/one', 3]]);
  });

  test('that may write no more in the middle of a file leaves no part of it', async () => {
    const limited = ['-c', 'ulimit -f 8; exec "$@"', 'sh', process.execPath, ...child('packs/ab/one', 'ifAbsent')];
    const { stdout } = await run('sh', limited);
    expect(JSON.parse(stdout)).toMatchObject({ code: 'backend_unavailable' });
    expect(await collect(backend.list(''))).toEqual([]);
    expect(await temps()).toEqual([]);
  });
});

/** Runs a program, and resolves however it ends. */
function run(program: string, args: string[]): Promise<{ stdout: string; signal: string | null }> {
  return new Promise((resolve) => {
    execFile(program, args, { cwd: import.meta.dirname }, (error, stdout) =>
      resolve({ stdout, signal: error?.signal ?? null }),
    );
  });
}
