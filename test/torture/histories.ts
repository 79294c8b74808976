/** The histories of test/repository/interleavings.test.ts, by the thousand: the real code in a world that a seed rules altogether. */
import '../repository/zlib-at-once.ts';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { newRepository } from '../repository/actors.ts';
import { problemOf } from '../repository/histories.ts';
import type { Kind, Torment } from './kind.ts';

export const histories: Kind = {
  title: 'writers, forgetters and pruners side by side, in a world of its own',
  rounds: { short: 1, long: 5 },
  async start({ folder, tally, isShort, log }: Torment) {
    const repository = await newRepository();
    const many = isShort ? 1 : 20;
    let done = 0;
    let deleted = 0;
    return {
      async round(_, dice) {
        for (let i = 0; i < many; i++) {
          const seed = dice.below(2 ** 31);
          tally.doing = `histories, HOLDFAST_SEED=${seed}`;
          const { problem, runs, deaths, deletedBeside } = await problemOf(seed, repository);
          tally.add('operations', runs);
          tally.add('faults', deaths);
          tally.add('checked');
          deleted += deletedBeside;
          done++;
          if (problem === undefined) continue;
          writeFileSync(join(folder, `history-${seed}`), problem);
          tally.blame(/ha[sd] lost|is lost/.test(problem) ? 'lost' : 'wrong', problem.slice(0, problem.indexOf('\n')));
        }
        log(`${done} histories, ${deleted} packs deleted beside others`);
      },
      async finish() {},
    };
  },
};
