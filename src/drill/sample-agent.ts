/** A small agent in the file-first layout, for the demo: its memory of some days, what it was doing, and a workspace. */
import { appendFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

const DAYS = ['2026-01-05', '2026-01-06', '2026-01-07'];

/** Makes the agent's state in a new folder. */
export function makeSampleAgent(root: string, handle: string): void {
  for (const folder of ['memory', 'sessions', 'workspace/empty']) mkdirSync(join(root, folder), { recursive: true });
  const write = (path: string, text: string) => writeFileSync(join(root, path), text);
  write('identity.json', `${JSON.stringify({ version: 1, handle, relay: 'wss://relay.example' }, null, 2)}\n`);
  write('MEMORY.md', '# What I know\n\n- The operator prefers short answers.\n- Backups run every hour.\n');
  write(
    'HEARTBEAT.md',
    '# Active tasks\n\n- [ ] Collect the weekly report.\n- [ ] Answer the question about invoices.\n',
  );
  for (const day of DAYS)
    write(
      `memory/${day}.md`,
      `# ${day}\n\n${'Looked at the queue, answered what was open, wrote down what I learned.\n'.repeat(200)}`,
    );
  write('sessions/current.jsonl', Array.from({ length: 2000 }, (_, i) => messageLine(i)).join(''));
  write('workspace/notes ünï.txt', 'Names may be anything.\n');
  symlinkSync(`../memory/${DAYS.at(-1)}.md`, join(root, 'workspace', 'today.md'));
  using database = openDatabase(root);
  const insert = database.prepare('INSERT INTO messages (role, text) VALUES (?, ?)');
  database.exec('BEGIN');
  for (let i = 0; i < 2000; i++) insert.run(i % 2 ? 'agent' : 'user', `message number ${i}`);
  database.exec('COMMIT');
}

/** A day's work: a line more in the log, a row more in the database, a new memory, a task done. */
export function letSampleAgentWork(root: string): void {
  appendFileSync(join(root, 'sessions/current.jsonl'), messageLine(2000));
  writeFileSync(join(root, 'memory/2026-01-08.md'), '# 2026-01-08\n\nThe weekly report is collected.\n');
  writeFileSync(
    join(root, 'HEARTBEAT.md'),
    '# Active tasks\n\n- [x] Collect the weekly report.\n- [ ] Answer the question about invoices.\n',
  );
  using database = openDatabase(root);
  database.prepare('INSERT INTO messages (role, text) VALUES (?, ?)').run('agent', 'the weekly report is collected');
}

function messageLine(i: number): string {
  return `${JSON.stringify({ id: i, role: i % 2 ? 'agent' : 'user', text: `This is message number ${i} of the session.` })}\n`;
}

function openDatabase(root: string): DatabaseSync & Disposable {
  const database = new DatabaseSync(join(root, 'agent.sqlite'));
  database.exec('CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, role TEXT NOT NULL, text TEXT NOT NULL)');
  return Object.assign(database, { [Symbol.dispose]: () => database.close() });
}
