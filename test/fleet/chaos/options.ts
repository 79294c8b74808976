/** What `npm run chaos` can be told. */
import { randomInt } from 'node:crypto';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';

const SHORT_INTERVAL_MS = 800;

export const HELP = `npm run chaos -- [OPTIONS]

  --minutes N    how long (default 10)
  --seed TEXT    the plan: the same seed, the same plan (default: another one each time; it is printed)
  --interval MS  each agent is looked at so often (default 2000, with --short ${SHORT_INTERVAL_MS})
  --short        each fault once, as the tests run it
  --dir DIR      where to work (default: a new folder below ${tmpdir()})
  --keep         keep that folder; it is kept anyway when something is wrong
  --json         one JSON document on stdout

Exit code 0: every fault was seen with the second look at the latest, acted on and over; never more than a fifth of the agents were
restarted at once; no healthy agent was touched. 1: something was otherwise. 2: wrong options.
`;

class UsageError extends Error {}

/** @throws `UsageError`, or what `parseArgs` throws, for options that are none */
export function options(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: 'string', default: '10' },
      seed: { type: 'string', default: String(randomInt(2 ** 32)) },
      interval: { type: 'string' },
      short: { type: 'boolean', default: false },
      dir: { type: 'string', default: tmpdir() },
      keep: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new UsageError('--minutes wants a number above 0');
  const intervalMs = Number(values.interval ?? (values.short ? SHORT_INTERVAL_MS : 2000));
  if (!(intervalMs >= 200)) throw new UsageError('--interval wants milliseconds, from 200');
  return { ...values, minutes, intervalMs };
}
export type Options = ReturnType<typeof options>;
