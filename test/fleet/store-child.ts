/** A process that opens the store given (all at once), and adds ten to a count that it shares with the others. */
import { systemClock, systemRandom } from '../../src/clock.ts';
import { openSqliteStore } from '../../src/fleet/sqlite-store.ts';

const [path = '', name = ''] = process.argv.slice(2);
await using store = openSqliteStore(path, { clock: systemClock, random: systemRandom });
await store.create(`own.${name}`, name);
for (let i = 0; i < 10;) {
  const entry = await store.get('count');
  const stored = entry
    ? await store.update('count', `${Number(entry.value) + 1}`, entry.revision)
    : await store.create('count', '1');
  if (stored !== undefined) i++;
}
