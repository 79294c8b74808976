/** The embedded store: line 11 of the contract, and what a file on a disk is up against. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { openSqliteStore } from '../../src/fleet/sqlite-store.ts';
import { failure } from '../crypto/support.ts';
import { stateStoreSuite } from './store-suite.ts';

function folder(): { at: (name: string) => string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'holdfast-store-'));
  return { at: (name) => join(path, name), [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

const seams = { clock: systemClock, random: systemRandom };
const open = (path: string) => openSqliteStore(path, seams);
const refused = (path: string, code: ErrorCode) => failure(() => open(path), code);

stateStoreSuite('a store in SQLite', async (clock) => {
  const temporary = folder();
  const how = { clock, random: systemRandom };
  const [one, other] = [openSqliteStore(temporary.at('s'), how), openSqliteStore(temporary.at('s'), how)];
  return {
    ...{ one, other },
    async [Symbol.asyncDispose]() {
      await one[Symbol.asyncDispose]();
      await other[Symbol.asyncDispose]();
      temporary[Symbol.dispose]();
    },
  };
});

/** With enough in it to fill pages. */
async function filled(path: string): Promise<void> {
  await using store = open(path);
  for (let i = 0; i < 40; i++) await store.create(`key.${i}`, 'v'.repeat(1000));
}

describe('a store in SQLite', () => {
  test('is made with its folder, its owner alone can use it, and nothing else is left there', async () => {
    using temporary = folder();
    const path = temporary.at('deep/er/fleet.sqlite');
    {
      await using store = open(path);
      await store.create('a', '1');
      for (const name of readdirSync(temporary.at('deep/er')))
        expect(statSync(temporary.at(`deep/er/${name}`)).mode & 0o777, name).toBe(0o600);
      expect(statSync(temporary.at('deep/er')).mode & 0o777).toBe(0o700);
    }
    expect(readdirSync(temporary.at('deep/er'))).toEqual(['fleet.sqlite']);
    await using again = open(path);
    expect(await again.get('a')).toMatchObject({ value: '1' });
  });

  test('that others can read, write or replace is refused', async () => {
    using temporary = folder();
    const path = temporary.at('sub/s');
    await filled(path);
    for (const mode of [0o640, 0o604, 0o620]) {
      chmodSync(path, mode);
      expect((await refused(path, 'insecure_permissions')).message).toContain(path);
    }
    chmodSync(path, 0o600);
    chmodSync(temporary.at('sub'), 0o770);
    await refused(path, 'insecure_permissions');
    chmodSync(temporary.at('sub'), 0o1777);
    await open(path)[Symbol.asyncDispose]();
  });

  test('damage is told, and nothing is made anew', async () => {
    using temporary = folder();
    await filled(temporary.at('whole'));
    const whole = readFileSync(temporary.at('whole'));
    const path = temporary.at('s');
    const cases: Record<string, () => void> = {
      empty: () => writeFileSync(path, '', { mode: 0o600 }),
      'no database': () => writeFileSync(path, 'x'.repeat(5000), { mode: 0o600 }),
      'cut short': () => {
        writeFileSync(path, whole, { mode: 0o600 });
        truncateSync(path, whole.length / 2);
      },
      'a page overwritten': () => {
        const bytes = Buffer.from(whole);
        bytes.fill(0xff, 3 * 4096, 4 * 4096);
        writeFileSync(path, bytes, { mode: 0o600 });
      },
      'a table lost': () => {
        writeFileSync(path, whole, { mode: 0o600 });
        const database = new DatabaseSync(path);
        database.exec('DROP TABLE sequence');
        database.close();
      },
    };
    for (const [what, make] of Object.entries(cases)) {
      make();
      const before = readFileSync(path);
      const error = await refused(path, 'damaged');
      expect(error.message, what).toContain(path);
      expect(error.hint, what).toContain('move it away');
      expect(readFileSync(path).equals(before), what).toBe(true);
      rmSync(path);
    }
  });

  test('a page that goes bad under an open store is told', async () => {
    using temporary = folder();
    const path = temporary.at('s');
    await filled(path);
    await using store = open(path);
    await using other = open(path);
    const bytes = readFileSync(path);
    bytes.fill(0xff, 2 * 4096);
    writeFileSync(path, bytes);
    await other.create('a', '1').catch(() => {}); // what the first has in memory is old now
    await failure(() => store.list(''), 'damaged');
  });

  test('a log whose database is gone is no empty store', async () => {
    using temporary = folder();
    const path = temporary.at('s');
    await filled(path);
    await using _keepsItsLog = open(path);
    await _keepsItsLog.create('a', '1');
    expect(existsSync(`${path}-wal`)).toBe(true);
    renameSync(path, temporary.at('elsewhere'));
    expect((await refused(path, 'damaged')).message).toContain(`${path}-wal`);
    expect(existsSync(path)).toBe(false);
  });

  test('one that is removed or replaced while it is in use is not used on by those who have it open', async () => {
    using temporary = folder();
    const path = temporary.at('s');
    await using one = open(path);
    await one.create('lease', 'mine');
    for (const suffix of ['', '-wal', '-shm']) rmSync(path + suffix, { force: true });
    expect((await failure(() => one.create('a', 'b'), 'damaged')).message).toContain('removed');
    await using other = open(path);
    await other.create('lease', 'mine');
    expect((await failure(() => one.list(''), 'damaged')).message).toContain('replaced');
    expect(await other.get('lease')).toMatchObject({ value: 'mine' });
  });

  test('a database of something else, or of a later version, is left alone', async () => {
    using temporary = folder();
    const path = temporary.at('s');
    const database = new DatabaseSync(path);
    database.exec('CREATE TABLE notes (text)');
    database.close();
    chmodSync(path, 0o600);
    await refused(path, 'config_invalid');
    await filled(temporary.at('later'));
    const later = new DatabaseSync(temporary.at('later'));
    later.exec('PRAGMA user_version = 2');
    later.close();
    await refused(temporary.at('later'), 'unsupported_format');
  });

  test('a folder that cannot be written says so', async () => {
    using temporary = folder();
    writeFileSync(temporary.at('file'), '');
    await refused(temporary.at('file/s'), 'io');
  });

  test('of many processes that make it at once, all have the same', async () => {
    using temporary = folder();
    const program = join(import.meta.dirname, 'store-child.ts');
    const children = Array.from({ length: 6 }, (_, i) =>
      spawn(process.execPath, [program, temporary.at('new/s'), `${i}`], { stdio: ['ignore', 'ignore', 'inherit'] }),
    );
    const codes = await Promise.all(children.map(async (child) => (await once(child, 'exit'))[0]));
    expect(codes).toEqual(Array(6).fill(0));
    await using store = open(temporary.at('new/s'));
    expect((await store.get('count'))?.value).toBe('60');
    expect((await store.list('own.')).map(({ value }) => value)).toEqual(['0', '1', '2', '3', '4', '5']);
    expect(readdirSync(temporary.at('new')).filter((name) => name.includes('.new'))).toEqual([]);
  });
});
