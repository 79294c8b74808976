import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { commandRunner } from '../../src/fleet/actions.ts';
import { restoreState, type RestoreStateOptions } from '../../src/fleet/restore-state.ts';
import { MARKER } from '../../src/operations/continuity.ts';
import { makeAgent } from '../operations/support.ts';
import { health } from './healths.ts';

/** An agent that is well as long as its memory says so. Its commands write down that they ran. */
async function shaky(contents: readonly string[]) {
  const agent = await makeAgent();
  const memory = join(agent.state, 'MEMORY.md');
  for (const content of contents) {
    writeFileSync(memory, content);
    await agent.backup();
  }
  const log = join(agent.folder, 'commands.log');
  const options: RestoreStateOptions = {
    ...{
      agent: 'ada',
      backends: agent.addresses,
      root: agent.state,
      withinMs: 0,
      most: 3,
      env: { HOLDFAST_AGENT: 'ada' },
    },
    secret: { kind: 'identities', identities: [agent.restoreKey] },
    stop: `echo "stop $HOLDFAST_AGENT" >> ${log}`,
    start: `echo "start $(cat ${memory})" >> ${log}`,
    run: commandRunner({ folder: agent.folder, env: { PATH: process.env['PATH'] }, timeoutMs: 60_000 }, systemClock),
    look: async () => {
      const isWell = existsSync(memory) && readFileSync(memory, 'utf8').startsWith('good');
      return health('ada', { live: isWell ? 'ok' : 'down' }, 0);
    },
  };
  const restored = (over: Partial<RestoreStateOptions> = {}) =>
    restoreState(
      { ...options, ...over },
      { ...agent.seams(), clock: systemClock, signal: new AbortController().signal },
    );
  const beside = () => readdirSync(dirname(agent.state)).filter((name) => name.startsWith(`${basename(agent.state)}.`));
  return { agent, memory, restored, beside, commands: () => readFileSync(log, 'utf8').trim().split('\n') };
}

test('snapshots are tried from the newest to the oldest until the agent is well; what it had lies aside', async () => {
  const { agent, memory, restored, beside, commands } = await shaky(['good 1', 'good 2', 'bad 3']);
  await using _ = agent;
  writeFileSync(memory, 'broken');
  const evidence = await restored();
  expect(readFileSync(memory, 'utf8')).toBe('good 2');
  expect(evidence).toMatchObject({ triedBefore: expect.stringContaining('live: connection refused') });
  expect(commands()).toEqual(['stop ada', 'start bad 3', 'stop ada', 'start good 2']);
  expect(readFileSync(join(String(evidence['aside']), 'MEMORY.md'), 'utf8')).toBe('broken');
  expect(
    beside()
      .toSorted()
      .map((name) => readFileSync(join(dirname(agent.state), name, 'MEMORY.md'), 'utf8')),
  ).toEqual(['broken', 'bad 3']);
  const marker = JSON.parse(readFileSync(join(agent.state, MARKER), 'utf8')) as { snapshot: { id: string } };
  expect(marker.snapshot.id).toBe(evidence['snapshot']);
});

test('when none helps the agent has its own state again, and nothing is lost', async () => {
  const { agent, memory, restored, beside, commands } = await shaky(['bad 1', 'bad 2']);
  await using _ = agent;
  writeFileSync(memory, 'broken');
  await expect(restored()).rejects.toMatchObject({
    code: 'not_found',
    message: expect.stringContaining('none of 2 helped'),
  });
  expect(readFileSync(memory, 'utf8')).toBe('broken');
  expect(beside()).toHaveLength(2);
  expect(commands().at(-1)).toBe('start broken');
});

test('no more snapshots are tried than it is told', async () => {
  const { agent, memory, restored } = await shaky(['good 1', 'bad 2', 'bad 3']);
  await using _ = agent;
  await expect(restored({ most: 2 })).rejects.toMatchObject({ code: 'not_found' });
  expect(readFileSync(memory, 'utf8')).toBe('bad 3');
});

test('a state that is gone altogether comes back', async () => {
  const { agent, memory, restored, beside } = await shaky(['good 1']);
  await using _ = agent;
  rmSync(agent.state, { recursive: true });
  expect(await restored()).toMatchObject({ aside: null });
  expect([readFileSync(memory, 'utf8'), beside()]).toEqual(['good 1', []]);
});

test('an agent that cannot be stopped keeps its state', async () => {
  const { agent, memory, restored, beside } = await shaky(['good 1']);
  await using _ = agent;
  writeFileSync(memory, 'broken');
  await expect(restored({ stop: 'echo it clings; exit 1' })).rejects.toMatchObject({
    code: 'hook_failed',
    message: expect.stringContaining('it clings'),
  });
  expect([readFileSync(memory, 'utf8'), beside()]).toEqual(['broken', []]);
});

test('a snapshot that is damaged on every backend is passed over', async () => {
  const { agent, memory, restored, commands } = await shaky(['good 1']);
  await using _ = agent;
  const packs = async () => {
    const keys: string[] = [];
    for (const store of agent.stores.values()) for await (const { key } of store.inner.list('packs/')) keys.push(key);
    return keys;
  };
  const before = await packs();
  expect(before).not.toEqual([]);
  writeFileSync(memory, `good 2 ${'x'.repeat(9000)}`);
  await agent.backup();
  const added = (await packs()).filter((key) => !before.includes(key));
  for (const store of agent.stores.values()) for (const key of added) await store.inner.delete(key).catch(() => {});
  writeFileSync(memory, 'broken');
  expect(await restored()).toMatchObject({ triedBefore: expect.stringMatching(/of 20.*: ./) });
  expect(readFileSync(memory, 'utf8')).toBe('good 1');
  expect(commands()).toEqual(['stop ada', 'start good 1']);
});

test('without the right key nothing is done', async () => {
  const { agent, memory, restored, beside } = await shaky(['good 1']);
  await using _ = agent;
  writeFileSync(memory, 'broken');
  const other = await makeAgent({ seed: 'another' });
  await using _other = other;
  const secret = { kind: 'identities', identities: [other.restoreKey] } as const;
  await expect(restored({ secret })).rejects.toMatchObject({ code: 'wrong_key' });
  expect([readFileSync(memory, 'utf8'), beside()]).toEqual(['broken', []]);
});
