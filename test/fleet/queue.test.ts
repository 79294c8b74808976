/** Commands that wait to be run again. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { QUEUE_MAX, type Claim, type NewCommand } from '../../src/fleet/queue.ts';
import { VALUE_MAX_BYTES } from '../../src/fleet/store.ts';
import { failure } from '../crypto/support.ts';
import { MINUTE_MS, START_MS, testFleet, type TestFleet } from './support.ts';

const LEASE_MS = MINUTE_MS;

function command(script: string, more: Partial<NewCommand> = {}): NewCommand {
  return { agent: 'a', argv: ['sh', '-c', script], cwd: tmpdir(), env: {}, timeoutMs: null, problem: 'why', ...more };
}

const outcomes = async (fleet: TestFleet, ids?: string[]) =>
  (await fleet.runQueue(ids)).ran.map(({ outcome }) => outcome);
const claims = async ({ queue }: TestFleet): Promise<Claim[]> => {
  const all: Claim[] = [];
  for await (const claim of queue.claims(undefined)) all.push(claim);
  return all;
};
const states = async ({ queue }: TestFleet) =>
  (await queue.list()).map(({ state, attempts }) => {
    const dueMs = state.kind === 'waiting' ? state.dueMs : state.kind === 'running' ? state.untilMs : undefined;
    return `${state.kind}${dueMs === undefined ? '' : ` +${(dueMs - START_MS) / MINUTE_MS} min`}, ${attempts}`;
  });

describe('a queued command', () => {
  test('is tried after 1, 5 and 15 minutes, and is a dead letter then, of which a person is told', async () => {
    const fleet = testFleet({ a: { failureThreshold: 100 } });
    await fleet.queue.add(command('exit 1'));
    const seen: string[][] = [await states(fleet)];
    for (const minutes of [0.99, 0.01, 4.99, 0.01, 14.99, 0.01, 1000]) {
      fleet.later(minutes * MINUTE_MS);
      await fleet.runQueue();
      seen.push(await states(fleet));
    }
    expect(seen.flat()).toEqual([
      ...['waiting +1 min, 0', 'waiting +1 min, 0', 'waiting +6 min, 1', 'waiting +6 min, 1'],
      ...['waiting +21 min, 2', 'waiting +21 min, 2', 'dead, 3', 'dead, 3'],
    ]);
    expect(fleet.told).toEqual([
      { kind: 'dead_letter', agent: 'a', message: expect.stringContaining('exit code 1'), exitCode: 1 },
    ]);
  });

  test('that is done is gone', async () => {
    const fleet = testFleet();
    await fleet.queue.add(command('exit 0'));
    fleet.later(MINUTE_MS);
    expect(await fleet.runQueue()).toMatchObject({
      ran: [{ agent: 'a', outcome: 'done', exitCode: 0 }],
      left: { waiting: 0, running: 0, dead: 0 },
    });
    expect(await fleet.store.list('queue.')).toEqual([]);
  });

  test('runs in its folder, with the variables that were kept, and nothing to read', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-queue-'));
    const fleet = testFleet();
    await fleet.queue.add(
      command('pwd > out; echo "$KEPT $HOLDFAST_AGENT [$1]" >> out; cat >> out', {
        ...{ cwd: folder, env: { KEPT: 'of old' } },
        argv: ['sh', '-c', 'pwd > out; echo "$KEPT $HOLDFAST_AGENT [$1]" >> out; cat >> out', 'sh', 'a  b"'],
      }),
    );
    fleet.later(MINUTE_MS);
    expect(await outcomes(fleet)).toEqual(['done']);
    expect(readFileSync(join(folder, 'out'), 'utf8')).toBe(`${folder}\nof old a [a  b"]\n`);
    rmSync(folder, { recursive: true });
  });

  test('is not run while the breaker is open, and that is no attempt', async () => {
    const fleet = testFleet({ a: { failureThreshold: 1 } });
    await fleet.run('a', 'exit 1'); // open for five minutes
    await fleet.queue.add(command('exit 0'));
    fleet.later(MINUTE_MS);
    expect(await outcomes(fleet)).toEqual(['rejected']);
    expect(await states(fleet)).toEqual(['waiting +5 min, 0']);
    fleet.later(4 * MINUTE_MS);
    expect(await outcomes(fleet)).toEqual(['done']);
    expect(await fleet.state('a')).toBe('closed');
  });

  test('that fails for good is a dead letter at once', async () => {
    const fleet = testFleet();
    await fleet.queue.add(command('exit 64'));
    fleet.later(MINUTE_MS);
    expect(await outcomes(fleet)).toEqual(['dead']);
    expect(await states(fleet)).toEqual(['dead, 1']);
    fleet.later(1000 * MINUTE_MS);
    expect(await outcomes(fleet)).toEqual([]);
  });

  test('can be run by its name at any time, a dead letter too', async () => {
    const fleet = testFleet();
    const { id } = await fleet.queue.add(command('[ -n "$PRESENT" ] || exit 64', { env: {} }));
    const other = await fleet.queue.add(command('exit 1'));
    expect(await outcomes(fleet, [id])).toEqual(['dead']);
    expect(await outcomes(fleet, [id])).toEqual(['dead']);
    expect(await outcomes(fleet, [other.id])).toEqual(['waiting']);
    await failure(() => fleet.runQueue(['nothing']), 'not_found');
  });

  test('is asked of the fallback agents of its agent too', async () => {
    const fleet = testFleet({ a: { failureThreshold: 1, fallback: ['b', 'queue_for_retry'] }, b: {} });
    await fleet.breakers.command('a', { type: 'trip', reason: 'out' });
    await fleet.queue.add(command('[ $HOLDFAST_AGENT = b ]'));
    fleet.later(MINUTE_MS);
    expect(await outcomes(fleet)).toEqual(['done']);
  });

  test('belongs to one run at a time; when that was killed, to the next, and the attempt counts', async () => {
    const fleet = testFleet();
    await fleet.queue.add(command('exit 0'));
    fleet.later(MINUTE_MS);
    for (let attempt = 1; attempt <= 3; attempt++) {
      // Claimed by one that never comes back.
      const [claim] = await claims(fleet);
      expect(claim?.command.attempts).toBe(attempt);
      fleet.later(LEASE_MS / 2);
      await claim?.renew();
      fleet.later(LEASE_MS - 1);
      expect(await outcomes(fleet)).toEqual([]);
      await failure(() => fleet.queue.drop([claim?.command.id ?? '']), 'busy');
      fleet.later(1);
    }
    // Whoever runs it is killed: it is not run for ever.
    expect(await outcomes(fleet)).toEqual(['dead']);
    expect(await states(fleet)).toEqual(['dead, 3']);
    expect(fleet.told).toEqual([{ kind: 'dead_letter', agent: 'a', message: expect.stringContaining('killed') }]);
  });

  test('what a run that has lost its claim says changes nothing', async () => {
    const fleet = testFleet();
    await fleet.queue.add(command('exit 0'));
    fleet.later(MINUTE_MS);
    const [late] = await claims(fleet);
    fleet.later(LEASE_MS);
    const [second] = await claims(fleet);
    await late?.renew();
    await late?.failed('too late', { permanent: true });
    await late?.done();
    expect(await states(fleet)).toEqual([`running +3 min, 2`]);
    await second?.done();
    expect(await states(fleet)).toEqual([]);
  });

  test('of several that run the queue at once, one runs each command', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-queue-'));
    writeFileSync(join(folder, 'ran'), '');
    const fleet = testFleet();
    for (let i = 0; i < 6; i++) await fleet.queue.add(command(`echo ${i} >> ${folder}/ran`));
    fleet.later(MINUTE_MS);
    const all = await Promise.all([fleet.runQueue(), fleet.runQueue(), fleet.runQueue()]);
    expect(all.flatMap(({ ran }) => ran)).toHaveLength(6);
    expect(readFileSync(join(folder, 'ran'), 'utf8').trim().split('\n').toSorted()).toEqual([
      '0',
      '1',
      '2',
      '3',
      '4',
      '5',
    ]);
    rmSync(folder, { recursive: true });
  });

  test('is dropped by its name; none is, when one of them is not there', async () => {
    const fleet = testFleet();
    const ids: string[] = [];
    for (let i = 0; i < 3; i++) ids.push((await fleet.queue.add(command('exit 64'))).id);
    await failure(() => fleet.queue.drop([ids[0] ?? '', 'nothing']), 'not_found');
    expect(await fleet.queue.list()).toHaveLength(3);
    await outcomes(fleet, [ids[1] ?? '']);
    expect(await fleet.queue.dead()).toEqual([ids[1]]);
    await fleet.queue.drop([ids[0] ?? '', ids[1] ?? '']);
    expect((await fleet.queue.list()).map(({ id }) => id)).toEqual([ids[2]]);
  });
});

describe('the queue', () => {
  test('is full at its most, dead letters included, and takes nothing that does not fit', async () => {
    const fleet = testFleet();
    await failure(() => fleet.queue.add(command('x'.repeat(VALUE_MAX_BYTES))), 'usage');
    for (let i = 0; i < QUEUE_MAX; i++) await fleet.store.create(`queue.x${i}`, '{}');
    expect((await failure(() => fleet.queue.add(command('true')), 'io')).message).toContain('full');
  });

  test('tells what it cannot read', async () => {
    for (const value of [
      '',
      'null',
      '{"version":2}',
      '{"version":1,"argv":[],"agent":"a","cwd":"/","state":{"kind":"x"}}',
    ]) {
      const fleet = testFleet();
      await fleet.store.create('queue.odd', value);
      expect((await failure(() => fleet.queue.list(), 'damaged')).message).toContain('odd');
    }
  });

  test('a command that cannot be read is named, keeps nobody from the rest, and can be dropped', async () => {
    const fleet = testFleet();
    await fleet.store.create('queue.000', 'rubbish');
    const { id } = await fleet.queue.add({
      ...{ agent: 'a', argv: ['true'], cwd: tmpdir(), env: {}, timeoutMs: null, problem: 'x' },
    });
    fleet.later(MINUTE_MS);
    const run = await fleet.runQueue();
    expect(run.ran).toMatchObject([{ id, outcome: 'done' }]);
    expect(run.left).toEqual({ waiting: 0, running: 0, dead: 0, unreadable: 1 });
    expect(run.warnings).toMatchObject([{ message: expect.stringContaining('000') }]);
    await failure(() => fleet.runQueue(['000']), 'damaged');
    await fleet.queue.drop(['000']);
    expect(await fleet.queue.readable()).toEqual({ commands: [], unreadable: [] });
  });
});
