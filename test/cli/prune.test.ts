import { cpSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { PruneResult } from '../../src/operations/prune.ts';
import { makers, WORDS } from './made-agent.ts';

const { newAgent } = makers({ processFor: ['prune'] });
const NOW = ['--grace', '0s', '--settle', '0s', '--wait', '0s'];

test('prune: condemns, deletes after the grace, waits for whom it must, and says so', async () => {
  const agent = await newAgent();
  const disk = (name: string) => new URL(agent.url(name)).pathname;
  const listed = (kind: string) => readdirSync(join(disk('nas'), kind), { recursive: true }).map(String);
  const prune = (code: number, ...args: string[]) => agent.json<PruneResult>(code, 'prune', ...WORDS, ...args);
  writeFileSync(agent.at('state', 'big'), 'big '.repeat(100_000));
  await agent.json(0, 'backup');
  rmSync(agent.at('state', 'big'));
  const { snapshot } = await agent.json<{ snapshot: { id: string } }>(0, 'backup');
  expect(snapshot.id).not.toBe('');
  await agent.json(0, 'forget', 'latest~1');

  const before = listed('.');
  expect(await prune(0, '--dry-run')).toMatchObject({ dryRun: true, deleted: { packs: 0 }, waiting: [] });
  expect(listed('.')).toEqual(before);
  const first = await prune(0, '--settle', '0s');
  expect(first.condemned.packs).toBeGreaterThan(0);
  expect(first.deleted.packs).toBe(0);
  expect((await prune(0, ...NOW)).deleted).toMatchObject({
    packs: first.condemned.packs,
    byBackend: [
      { name: 'nas', locked: false },
      { name: 'usb', locked: false },
    ],
  });
  expect(await prune(0, '--dry-run')).toMatchObject({ condemned: { packs: 0 }, due: { packs: 0 } });
  const told = await agent.holdfast('prune', ...WORDS, ...NOW);
  expect(told).toMatchObject({ code: 0, stderr: '' });
  expect(told.stdout).toMatch(/^condemned: 0 packs.*\nkept: .*\ndone in /);

  // A backup that died after it had said that it runs, and a snapshot that is gone: as that of a host that is no more.
  writeFileSync(agent.at('state', 'more'), 'more '.repeat(10_000));
  const { snapshot: lost } = await agent.json<{ snapshot: { id: string } }>(0, 'backup');
  for (const name of ['nas', 'usb'])
    for (const key of readdirSync(join(disk(name), 'snapshots')))
      if (key.includes(lost.id)) rmSync(join(disk(name), 'snapshots', key));
  const memory = agent.at('xdg', 'state', 'holdfast');
  cpSync(memory, `${memory}.kept`, { recursive: true });
  rmSync(memory, { recursive: true });
  await prune(0, '--settle', '0s');
  const waiting = await prune(3, ...NOW);
  expect(waiting).toMatchObject({ deleted: { packs: 0 }, waiting: [{ host: hostname(), kind: 'write' }] });
  expect(waiting.warnings[0]?.message).toContain(`--presume-over ${waiting.waiting[0]?.run.slice(0, 8)}`);
  expect((await prune(0, ...NOW, '--presume-over', hostname())).deleted.packs).toBeGreaterThan(0);
});

test('prune: what it cannot do', async () => {
  const agent = await newAgent();
  await agent.refused(2, 'prune', ...WORDS, '--grace', 'soon');
  await agent.refused(2, 'prune', ...WORDS, '--repack-budget', 'much');
  await agent.refused(12, 'prune', '--identity-file', 'none.key');
  await agent.json(0, 'backup');
  for (const name of ['nas', 'usb']) {
    const folder = join(new URL(agent.url(name)).pathname, 'snapshots');
    for (const key of readdirSync(folder)) writeFileSync(join(folder, key), 'spoiled');
  }
  const error = await agent.refused(13, 'prune', ...WORDS, ...NOW);
  expect(error.message).toContain('snapshots/');
});
