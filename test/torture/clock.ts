/** The clock of the host jumps by years, between runs and in the midst of one. No snapshot is lost by it, and when it is right again, so is all else. */
import { writeFileSync } from 'node:fs';
import { Agent, WORDS } from './agent.ts';
import type { Dice } from './dice.ts';
import type { Kind, Torment } from './kind.ts';
import { lacks, preloading } from './preloads.ts';
import { describe, errorOf, type How } from './program.ts';

const KEPT = 10;
const DAY_S = 86_400;
/** Seconds; most of a real clock's faults are of one of these sizes. */
const jump = (dice: Dice): number =>
  Math.round(
    (dice.chance(0.5) ? -1 : 1) *
      dice.pick([1, 60, 3600, DAY_S, 30 * DAY_S, 365 * DAY_S, 20 * 365 * DAY_S]) *
      (0.1 + dice.fraction()),
  );
const COMMANDS: readonly (readonly string[])[] = [
  ['backup'],
  ['backup'],
  ['sync'],
  ['verify', '--level', 'chunks', ...WORDS],
  ['snapshots'],
  ['backup', '--if-due'],
];

export const clock: Kind = {
  title: 'a clock that jumps by years, between runs and within them',
  rounds: { short: 1, long: 3 },
  missing: () => lacks('faketime'),
  async start({ dice, folder, tally, isShort, log }: Torment) {
    const agent = new Agent(folder, { dice, tally, isWarm: isShort, noiseBytes: (isShort ? 1 : 3) * 2 ** 20 });
    await agent.found();
    const file = agent.at('faketime');
    const set = (seconds: number) => writeFileSync(file, `${seconds < 0 ? '' : '+'}${seconds}s\n`);
    const faked = {
      ...preloading('faketime'),
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
      // The times of files are the kernel's, and right.
      NO_FAKE_STAT: '1',
    };
    return {
      async round(number, now) {
        for (let n = 0; n < (isShort ? 2 : 3); n++) {
          const [before, within] = [jump(now), now.chance(0.5) ? jump(now) : undefined];
          const args = now.pick(COMMANDS);
          tally.doing = `clock, round ${number}, ${args.join(' ')} at ${before} s${within === undefined ? '' : `, then ${within} s`}`;
          set(before);
          const how: Partial<How> = { env: faked };
          if (within !== undefined) how.meanwhile = { afterMs: 100 + now.below(250), act: () => set(within) };
          if (args[0] === 'backup') agent.change();
          const ran = await agent.holdfast(args, how);
          tally.add('faults', within === undefined ? 1 : 2);
          log(
            `${args.slice(0, 2).join(' ')} at ${before} s${within === undefined ? '' : ` and ${within} s`}: ${ran.code} ${errorOf(ran)?.message ?? ''}`,
          );
          // It may be refused, with an error; what is done is done.
          if (ran.code !== null && ![0, 1, 3, 13].includes(ran.code)) tally.blame('wrong', describe(ran));
          const { snapshot } = (ran.json ?? {}) as { snapshot?: { time: string } };
          const isMoved = () => Date.parse(snapshot?.time ?? '') > Date.now() + (before - DAY_S) * 1000;
          if (snapshot && before > DAY_S && within === undefined && !isMoved())
            tally.blame('wrong', `the clock has not jumped: ${describe(ran)}`);
          await agent.recount();
        }
        agent.change();
        await agent.backup();
        await agent.verify();
        await agent.check(agent.some(now));
        await agent.thin(now.of('thin'), KEPT);
      },
      async finish() {
        tally.doing = 'clock, the last look';
        await agent.recount();
        await agent.checkAll({ most: isShort ? 1 : undefined });
      },
    };
  },
};
