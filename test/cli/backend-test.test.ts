import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createMemory } from '../../src/backend/memory.ts';
import { checkConformance } from '../../src/backend/conformance.ts';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { FaultyBackend, type Fault } from '../faulty-backend.ts';
import { keysAndSizes } from '../backend-helpers.ts';
import { PROGRAM, run } from './run.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-backend-test-'));
  mkdirSync(join(folder, 'disk', 'packs'), { recursive: true });
  writeFileSync(join(folder, 'disk', 'packs', 'mine'), 'mine');
  writeFileSync(join(folder, 'holdfast.yaml'), `backends: {disk: {url: "file://${folder}/disk"}}\n`);
});
afterAll(() => rmSync(folder, { recursive: true }));

const backendTest = (...args: string[]) =>
  run(PROGRAM, ['backend', 'test', ...args], {
    cwd: folder,
    env: { ...process.env, HOME: folder, HOLDFAST_CONFIG: '' },
  });

it('tells of a good backend that it is good, how fast it is, and leaves it as it was', async () => {
  const { code, stdout } = await backendTest('disk', '--json');
  const result = JSON.parse(stdout) as { checks: { ok: boolean }[]; latencies: object };
  expect(code).toBe(0);
  expect(result).toMatchObject({ name: 'disk', ok: true, left: [] });
  expect(result.checks.length).toBeGreaterThan(10);
  expect(result.latencies).toHaveProperty('uploadBytesPerSecond');
  const left = readdirSync(join(folder, 'disk'), { recursive: true }).map(String);
  expect(left.filter((name) => !/^(tmp|backend-test)(\/|$)/.test(name)).toSorted()).toEqual(['packs', 'packs/mine']);
  expect((await backendTest('disk')).stdout).toContain('disk does all that is needed.');
});

it('refuses a name that the config does not have', async () => {
  expect(await backendTest('other', '--json')).toMatchObject({ code: 2 });
});

it.each<[string, Fault, RegExp]>([
  ['gives other bytes', { effect: 'flip', on: 'get', times: Infinity }, /were stored/],
  ['gives half of an object', { effect: 'truncate', on: 'get', times: Infinity }, /were stored/],
  ['loses objects', { effect: 'vanish', on: 'get', times: Infinity }, /not on/],
  ['refuses to store', { effect: 'fail', on: 'put', times: Infinity }, /./],
  ['refuses to delete', { effect: 'fail', on: 'delete', times: Infinity }, /./],
  ['refuses to list', { effect: 'fail', on: 'list', times: Infinity }, /./],
])('finds storage that %s', async (_, fault, problem) => {
  const inner = createMemory('m');
  const backend = new FaultyBackend(inner, { name: 'm', plan: [fault] });
  const { checks, left } = await checkConformance(backend, 'backend-test/x', {
    clock: systemClock,
    random: systemRandom,
  });
  const failed = checks.filter(({ ok }) => !ok);
  expect(failed.length).toBeGreaterThan(0);
  expect(failed[0]?.problem).toMatch(problem);
  expect((await keysAndSizes(inner, '')).map(([key]) => key)).toEqual(left.toSorted());
  backend.assertAllFired();
});
