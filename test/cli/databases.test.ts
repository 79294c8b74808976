/** Databases as a user meets them: exit codes, warnings, JSON. */
import { readdirSync, writeFileSync, mkdirSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, type AgentHome } from './agent-home.ts';

let home: AgentHome;
beforeAll(() => {
  home = agentHome(temporaryFolder(), { warm: true });
});
afterAll(() => removeFolder(home.folder));

it('a live database comes back whole; one that cannot be captured is exit code 3, and said', async () => {
  mkdirSync(home.at('state'));
  using live = new DatabaseSync(home.at('state', 'memory.db'));
  live.exec('PRAGMA journal_mode=wal; CREATE TABLE messages(text); INSERT INTO messages VALUES (1), (2)');
  const backends = ['--backend', `nas=file://${home.at('nas')}`];
  const init = ['init', '--handle', 'ada', '--state', home.at('state'), '--words-file', home.at('words'), ...backends];
  expect(await home.holdfast(...init)).toMatchObject({ code: 0 });
  expect(await home.json(0, 'backup')).toMatchObject({ complete: true, warnings: [], files: { total: 1 } });
  const restored = ['restore', '--target', home.at('out'), '--words-file', home.at('words')];
  expect(await home.json(0, ...restored)).toMatchObject({ complete: true, warnings: [], files: 1 });
  expect(readdirSync(home.at('out'))).toEqual(['memory.db']);
  using copy = new DatabaseSync(home.at('out', 'memory.db'));
  expect(copy.prepare('SELECT count(*) AS n FROM messages').get()).toEqual({ n: 2 });

  writeFileSync(home.at('state', 'torn.db'), 'SQLite format 3\0and then nothing that SQLite knows');
  const { code, stdout, stderr } = await home.holdfast('backup');
  expect(code).toBe(3);
  expect(stdout).toContain('torn.db could not be captured');
  expect(stderr).toBe('');
  expect(await home.json(3, 'backup')).toMatchObject({
    complete: false,
    warnings: [{ code: 'sqlite_not_captured', path: 'torn.db', incomplete: true }],
  });
});
