/**
 * Commits to a database all the while, to be run beside a test: `sqlite-writer.ts PATH MODE`. Each transaction adds the next number to two tables, and
 * rewrites rows here and there. It says `ready` after the first hundred, and ends with its standard input.
 *
 * MODE is a journal mode, or `reopen`: WAL, with a new connection now and then, so that nobody may have the database open at a time.
 */
import { DatabaseSync } from 'node:sqlite';

const [path = '', mode = ''] = process.argv.slice(2);
const open = () => {
  const database = new DatabaseSync(path, { timeout: 10_000 });
  database.exec(`PRAGMA journal_mode=${mode === 'reopen' ? 'wal' : mode}; PRAGMA synchronous=off;
    PRAGMA wal_autocheckpoint=20; PRAGMA cache_size=20;
    CREATE TABLE IF NOT EXISTS one(n INTEGER PRIMARY KEY, filling); CREATE TABLE IF NOT EXISTS two(n INTEGER, filling);
    CREATE INDEX IF NOT EXISTS two_n ON two(n)`);
  return database;
};

let database = open();
let n = 0;
process.stdin.on('end', () => process.exit(0)).resume();
function work(): void {
  for (let i = 0; i < 20; i++) {
    n++;
    database.exec(`BEGIN IMMEDIATE; INSERT INTO one VALUES (${n}, randomblob(200)); INSERT INTO two VALUES (${n}, randomblob(300));
      UPDATE one SET filling = randomblob(210) WHERE n % 97 = ${n % 97}; COMMIT`);
  }
  if (mode === 'reopen') {
    database.close();
    database = open();
  }
  if (n === 100) console.log('ready');
  // Not too much of it: a database that grows without end makes for a slow test.
  setTimeout(work, n < 3000 ? 1 : 5);
}
work();
