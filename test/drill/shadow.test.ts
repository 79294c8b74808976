/** The shadow: the recovered agent runs beside production, takes no work, and nothing of it runs on. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { checkShadow, type ShadowSettings } from '../../src/drill/checks/shadow.ts';
import { processesIn } from '../../src/drill/processes.ts';
import type { Check, DrillResult } from '../../src/drill/result.ts';
import { isSkipped, type Outcome, type Scene } from '../../src/drill/scene.ts';
import { Sources, World } from '../../src/drill/world.ts';
import { failure } from '../crypto/support.ts';
import { checkIn, drilledAgent, failures, leaving, scenarioIn } from './support.ts';

const agent = await drilledAgent();
const queue = `${agent.folder}-queue`;
mkdirSync(queue);
writeFileSync(join(queue, 'task-1'), 'answer the operator\n');
afterAll(async () => {
  rmSync(queue, { recursive: true });
  await agent[Symbol.asyncDispose]();
});

/** An agent as a shell script: `WORK` is what it does, then it says that it is ready, and stays. */
const sh = (work: string, stay = 'while :; do sleep 0.05; done'): string[] => ['/bin/sh', '-c', `${work}\n${stay}`];
const READY = 'echo up > ready.txt';

function shadow(over: Partial<ShadowSettings> = {}, more = {}): Promise<DrillResult> {
  return agent.drill(['shadow'], { shadow: settingsOf(over) }, more);
}

function settingsOf(over: Partial<ShadowSettings>): ShadowSettings {
  const ready = { file: 'ready.txt' };
  const usual = { argv: sh(READY), ready, withinMs: 20_000, checks: [], stopMs: 5000, queues: [queue], mayChange: [] };
  return { ...usual, ...over };
}

/** The shadow alone, in a folder as a recovery leaves it: a whole drill takes longer. */
async function alone(over: Partial<ShadowSettings>): Promise<Outcome[]> {
  await using sources = await Sources.open([], agent.seams(), undefined);
  await using world = await World.create({ folder: `${agent.folder}-worlds` }, sources, agent.seams());
  const host = world.host('host');
  mkdirSync(host.state);
  writeFileSync(join(host.state, 'notes.txt'), 'restored\n');
  const options = {
    ...{ shadow: settingsOf(over), state: agent.stateOptions },
    ...{ env: { PATH: process.env['PATH'] ?? '' }, commandTimeoutMs: 20_000 },
  };
  const past = { async *entries() {} };
  const scene = { options, host, world, past, snapshot: { id: 'none' }, seams: agent.seams() };
  return await checkShadow(scene as unknown as Scene);
}

/** Names of the checks that failed. */
const failed = (outcomes: readonly Outcome[]) =>
  outcomes.filter((one) => !isSkipped(one) && !one.ok).map(({ name }) => name);

function told(outcomes: readonly Outcome[], name: string): Check {
  const found = outcomes.find((one) => one.name === `shadow: ${name}`);
  if (!found || isSkipped(found)) throw new Error(`no ${name}`);
  return found;
}

describe('the shadow of an agent', () => {
  test('runs in the restored state with its marker, gets ready, answers, and takes no work', async () => {
    const checks = [
      'test "$HOLDFAST_SHADOW" = 1 && test "$PWD" = "$HOLDFAST_DRILL_STATE"',
      'cat seen.txt keys/agent.key',
    ];
    const argv = sh(
      `grep -o '"shadow": true' holdfast-shadow.json > seen.txt; env >> seen.txt; echo up as $(cat keys/agent.key); ${READY}`,
    );
    const result = await leaving([agent.folder, queue], () => shadow({ argv, checks }));
    expect(failures(result)).toEqual({});
    const { checks: done, steps, skipped } = scenarioIn(result, 'shadow');
    expect(done.map(({ name }) => name)).toEqual([
      ...['identity', 'files', 'shadow: starts', 'shadow: ready', 'shadow: answers', 'shadow: took no work'],
    ]);
    expect(skipped).toEqual([]);
    expect(steps.map(({ name }) => name)).toContain('shadow');
    expect(checkIn(result, 'shadow', 'shadow: starts').evidence).toMatchObject({
      stopped: 'SIGTERM',
      output: 'up as [secret]',
    });
    const answers = JSON.stringify(checkIn(result, 'shadow', 'shadow: answers').evidence);
    expect(answers).toContain('HOLDFAST_SHADOW=1');
    expect(answers).not.toContain('5a5a5a');
    expect(existsSync(join(agent.state, 'holdfast-shadow.json'))).toBe(false);
  });

  test('that takes work is found out, and what production changes by itself can be named', async () => {
    const task = join(queue, 'task-1');
    const text = readFileSync(task, 'utf8');
    const took = await alone({ argv: sh(`rm ${task}; ${READY}`) });
    writeFileSync(task, text);
    expect(failed(took)).toEqual(['shadow: took no work']);
    expect(told(took, 'took no work').evidence['changed']).toEqual([task]);
    const log = join(agent.state, 'notes.txt');
    const argv = sh(`echo done >> ${log}; ${READY}`);
    expect(failed(await alone({ argv }))).toEqual(['shadow: took no work']);
    expect(failed(await alone({ argv, mayChange: ['/notes.txt'] }))).toEqual([]);
  });

  test('that ends by itself, or cannot be started, did not start', async () => {
    const ended = await alone({ argv: sh('echo "no such model" >&2', 'exit 7'), checks: ['true'] });
    expect(failed(ended)).toEqual(['shadow: starts', 'shadow: ready']);
    expect(told(ended, 'starts').detail).toMatch(/^it ended with exit code 7 after .*: no such model$/);
    const none = await alone({ argv: ['./no-such-agent'], ready: undefined });
    expect(failed(none)).toEqual(['shadow: starts']);
    expect(told(none, 'starts').detail).toContain('could not be started');
  });

  test('that does not get ready in time is not asked', async () => {
    // A file that was restored says nothing: only one that it writes.
    const result = await alone({ argv: sh(''), ready: { file: 'notes.txt' }, withinMs: 300, checks: ['true'] });
    expect(failed(result)).toEqual(['shadow: ready']);
    expect(result.filter(isSkipped)).toMatchObject([{ name: 'shadow: answers' }]);
    const command = await alone({ ready: { command: 'test -s ready.txt' } });
    expect(failed(command)).toEqual([]);
  });

  test('an answer from what runs in production is none of the shadow', async () => {
    const production = createServer((_, response) => response.end('I am the other one'));
    const port = await new Promise<number>((resolve) =>
      production.listen(0, '127.0.0.1', () => resolve((production.address() as AddressInfo).port)),
    );
    const http = `http://127.0.0.1:${port}/health`;
    const serve = `require('node:http').createServer((q, a) => { a.statusCode = q.url === '/health' ? 200 : 404; a.end(); }).listen(${port}, '127.0.0.1')`;
    const argv = [process.execPath, '-e', serve];
    const taken = await alone({ argv: sh(''), ready: { http }, withinMs: 300 });
    expect(failed(taken)).toEqual(['shadow: ready']);
    expect(told(taken, 'ready').detail).toContain('running before the shadow');
    await new Promise((resolve) => {
      production.close(resolve);
      production.closeAllConnections();
    });
    expect(failed(await alone({ argv, ready: { http } }))).toEqual([]);
    const wrong = await alone({ argv, ready: { http: `${http}/deeper` }, withinMs: 1500 });
    expect(told(wrong, 'ready').detail).toContain('HTTP 404');
  });

  test('is ended with all it has started, whether it wants or not, also when the drill is interrupted', async () => {
    const worlds = `${agent.folder}-worlds`;
    // One that ignores being asked, and a child that has left the group.
    const stubborn = sh(`trap '' TERM; setsid sh -c "trap '' TERM; echo up > ready.txt; while :; do sleep 1; done" &`);
    const result = await alone({ argv: stubborn, stopMs: 100 });
    expect(failed(result)).toEqual([]);
    expect(told(result, 'starts').evidence).toMatchObject({ stopped: 'SIGKILL' });
    expect(processesIn(worlds)).toEqual([]);

    const stop = new AbortController();
    const seen = `${queue}-seen`;
    const argv = sh(`echo up > ${seen}`);
    const interrupted = shadow(
      { argv, withinMs: 60_000, ready: { command: `test -e ${seen} && kill -USR2 ${process.pid}; false` } },
      { signal: stop.signal },
    );
    process.once('SIGUSR2', () => stop.abort());
    await failure(() => interrupted, 'interrupted');
    rmSync(seen);
    expect(processesIn(worlds)).toEqual([]);
  });

  test('is not started unless something says how', async () => {
    const result = await agent.drill(['shadow']);
    expect(result).toMatchObject({ ok: false, scenarios: [], notRun: [{ name: 'shadow' }] });
  });
});
