/** Suspicious snapshots and what is said of them, as a user sees it. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BackupResult } from '../../src/operations/backup.ts';
import type { SnapshotRow } from '../../src/operations/look.ts';
import { seededRandom } from '../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';

const random = seededRandom('cli loss');
let home: AgentHome;
beforeAll(async () => {
  home = agentHome(temporaryFolder(), { warm: true });
  mkdirSync(home.at('state'));
  for (let i = 0; i < 8; i++) writeFileSync(home.at('state', `note-${i}`), `remembered ${i}\n`.repeat(30));
  const args = [...initArgs((name) => home.at(name)), '--words-file', 'words.txt'];
  expect(await home.holdfast(...args)).toMatchObject({ code: 0 });
});
afterAll(() => removeFolder(home.folder));

it('half of the files made random ends with 3 until it is acknowledged, and says what to do', async () => {
  expect(await home.json(0, 'backup', '--note', 'as it should be')).toMatchObject({ suspicious: [], complete: true });
  for (let i = 0; i < 4; i++) {
    const path = home.at('state', `note-${i}`);
    writeFileSync(path, random.bytes(readFileSync(path).length));
  }
  const text = await home.holdfast('backup');
  expect(text.code).toBe(3);
  expect(text.stdout).toContain('incompressible: 4 of 8 files');
  expect(text.stdout).toMatch(/`holdfast diff (\w{8})~1 \1`/);
  expect(text.stdout).not.toContain('INCOMPLETE');
  const [, id] = /holdfast snapshots acknowledge ([0-9a-f]{8})\n/.exec(text.stdout) ?? [];
  const again = await home.json<BackupResult>(3, 'backup');
  expect(again.suspicious).toMatchObject([{ code: 'incompressible', value: 4, bound: 2 }]);

  expect(await home.json(0, 'snapshots', 'acknowledge', 'latest', '--note', 'mine')).toMatchObject({ note: 'mine' });
  const rows = await home.json<SnapshotRow[]>(0, 'snapshots');
  expect(rows.map(({ note, suspicious, acknowledged }) => [note, suspicious.length, acknowledged])).toEqual([
    ['as it should be', 0, false],
    [null, 1, true],
    ['mine', 1, true],
  ]);
  expect(rows[1]?.id.slice(0, 8)).toBe(id);
  expect((await home.holdfast('snapshots')).stdout).toContain('incompressible (acknowledged)');
  expect(await home.json(0, 'backup')).toMatchObject({ suspicious: [], complete: true, warnings: [] });
  expect((await home.refused(2, 'snapshots', 'acknowledge', 'latest')).message).toContain('not suspicious');
});

it('tags and notes are added afterwards', async () => {
  await home.json(0, 'snapshots', 'tag', 'latest', '--add', 'before-upgrade', '--add', 'x');
  expect(await home.json(0, 'snapshots', 'tag', 'latest', '--remove', 'x')).toMatchObject({ tags: ['before-upgrade'] });
  const noted = await home.holdfast('snapshots', 'note', 'latest', 'two words');
  expect(noted).toMatchObject({ code: 0, stderr: '' });
  expect(noted.stdout).toMatch(/note: +two words\n/);
  expect((await home.refused(2, 'snapshots', 'tag', 'latest')).hint).toContain('--add');
});

it('the config says when a snapshot is suspicious', async () => {
  const config = readFileSync(home.at('holdfast.yaml'), 'utf8');
  for (let i = 4; i < 8; i++) writeFileSync(home.at('state', `note-${i}`), random.bytes(400));
  writeFileSync(home.at('holdfast.yaml'), `${config}\nsuspicion: { incompressible: 120% }\n`);
  expect((await home.refused(2, 'backup')).message).toContain('percentage');
  writeFileSync(home.at('holdfast.yaml'), `${config}\nsuspicion: { off: true }\n`);
  expect(await home.json(0, 'backup')).toMatchObject({ suspicious: [] });
});
