import { expect, test } from 'vitest';
import { systemClock } from '../src/clock.ts';
import { DAY_MS } from '../src/units.ts';

test('a wait of more than 24 days, which no timer can do, does not end at once', async () => {
  const stop = new AbortController();
  const long = systemClock.sleep(30 * DAY_MS, stop.signal).then(
    () => 'over',
    () => 'interrupted',
  );
  const first = await Promise.race([long, systemClock.sleep(10).then(() => 'waits')]);
  stop.abort();
  expect([first, await long]).toEqual(['waits', 'interrupted']);
});
