/**
 * An agent at work, in a process of its own: until it is told to end it commits to a database of its own and appends to a log, in which half a line stands
 * for half of the time. Arguments: their paths.
 */
import { appendFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';

const [database = '', log = ''] = process.argv.slice(2);
const db = new DatabaseSync(database);
db.exec('PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS work (n INTEGER PRIMARY KEY, note TEXT)');
const insert = db.prepare('INSERT INTO work (n, note) VALUES (?, ?)');
const pause = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
let n = 0;
function work(): void {
  insert.run(++n, `step ${n}`);
  const line = `${JSON.stringify({ n, text: 'x'.repeat(n % 50) })}\n`;
  const half = line.length >> 1;
  appendFileSync(log, line.slice(0, half)); // as programs do that write what they have
  pause();
  appendFileSync(log, line.slice(half));
  pause();
  if (n === 1) process.stdout.write('working\n');
  setImmediate(work);
}
work();
