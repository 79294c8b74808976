/** What `npm run torture` can be told. */
import { randomInt } from 'node:crypto';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';

/** Of the kinds, in the order in which they run. */
export const NAMES = ['parsers', 'kill', 'disk', 'rot', 'writers', 'clock', 'histories'] as const;
type Name = (typeof NAMES)[number];

export const HELP = `npm run torture -- [OPTIONS]

  --minutes N   how long, together (default 5); every kind does its least rounds, whatever it says: all of them some minutes
  --rounds N    so many rounds of each kind instead, whatever time it takes
  --seed TEXT   the plan: the same seed, the same plan (default: another one each time; it is printed)
  --only KINDS  of ${NAMES.join(',')}
  --short       smaller trees and few rounds, as the tests run it
  --dir DIR     where to work (default: a new folder below ${tmpdir()})
  --keep        keep that folder; it is kept anyway when something is lost, wrong or hung
  --json        one JSON document on stdout

Exit code 0: nothing lost, nothing wrong, nothing hung. 1: something was. 2: wrong options. With CI=true a kind that cannot run is wrong.
`;

class UsageError extends Error {}

/** @throws `UsageError`, or what `parseArgs` throws, for options that are none */
export function options(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: 'string', default: '5' },
      rounds: { type: 'string' },
      seed: { type: 'string', default: String(randomInt(2 ** 32)) },
      only: { type: 'string', default: NAMES.join(',') },
      short: { type: 'boolean', default: false },
      dir: { type: 'string', default: tmpdir() },
      keep: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const kinds = values.only.split(',');
  const unknown = kinds.find((name) => !NAMES.includes(name as Name));
  if (unknown !== undefined) throw new UsageError(`--only does not know "${unknown}": it takes ${NAMES.join(', ')}`);
  const minutes = Number(values.minutes);
  if (!(minutes >= 0)) throw new UsageError('--minutes wants a number');
  const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
  if (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0))
    throw new UsageError('--rounds wants a whole number from 1');
  return { ...values, minutes, rounds, kinds: NAMES.filter((name) => kinds.includes(name)) };
}
export type Options = ReturnType<typeof options>;
