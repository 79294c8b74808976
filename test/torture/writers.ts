/** Four hosts that were recovered from the same words write to one repository at once, and are killed at it. What one says is saved stays saved. */
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MARKER } from '../../src/operations/host/continuity.ts';
import { Agent, BACKENDS } from './agent.ts';
import type { Kind, Torment } from './kind.ts';
import { describe, errorOf } from './program.ts';

const HOSTS = 4;
const KEPT = 6;

export const writers: Kind = {
  title: 'four writers on one repository at once, with kills',
  rounds: { short: 1, long: 2 },
  async start({ dice, folder, tally, isShort, log }: Torment) {
    const noiseBytes = (isShort ? 1 : 3) * 2 ** 20;
    const first = new Agent(join(folder, 'host-0'), { dice, tally, isWarm: isShort, noiseBytes });
    await first.found();
    const agents = [first];
    for (let n = 1; n < HOSTS; n++) {
      const agent = new Agent(join(folder, `host-${n}`), {
        dice: dice.of(`host ${n}`),
        tally,
        isWarm: isShort,
        noiseBytes,
      });
      for (const name of BACKENDS) agent.place(name, first.placeOf(name));
      rmSync(agent.at('state'), { recursive: true });
      const from = BACKENDS.flatMap((name) => ['--from', `file://${first.placeOf(name)}`]);
      const made = await agent.holdfast([
        'recover',
        ...from,
        '--target',
        'state',
        '--words-file',
        first.at('words.txt'),
      ]);
      if (made.code !== 0) throw new Error(`no host: ${describe(made)}`);
      rmSync(agent.at('state', MARKER), { force: true });
      copyFileSync(first.at('words.txt'), agent.at('words.txt'));
      agents.push(agent);
    }
    /** Of a run on this host alone. */
    let usualMs = 400;
    return {
      async round(number, now) {
        tally.doing = `writers, round ${number}`;
        for (const agent of agents) agent.change();
        const runs = agents.map(async (agent, n) => {
          const mine = now.of(`host ${n}`);
          // Copies of one agent are told so, which costs the green light: 3.
          const killAfterMs = mine.chance(0.4) ? mine.fraction() * 2 * usualMs : undefined;
          const ran = await agent.holdfast(['backup'], { killAfterMs });
          if (ran.code === null) return 'killed';
          const { snapshot } = (ran.json ?? {}) as { snapshot?: { id: string } };
          if (snapshot) agent.keep(snapshot.id);
          if (ran.code !== 0 && ran.code !== 3) tally.blame('wrong', describe(ran));
          return String(ran.code);
        });
        const started = performance.now();
        log(`round ${number}: ${(await Promise.all(runs)).join(', ')}`);
        usualMs = performance.now() - started;
        // None needs help afterwards, one after the other.
        for (const agent of agents) {
          const ran = await agent.holdfast(['backup']);
          const { snapshot } = (ran.json ?? {}) as { snapshot?: { id: string } };
          if (snapshot) agent.keep(snapshot.id);
          if (ran.code !== 0 && ran.code !== 3) tally.blame('wrong', describe(ran));
        }
        // Everything is there for everybody, whoever wrote it. That numbers are taken twice is told as a warning: 3.
        const listed = await first.holdfast(['snapshots']);
        const ids = new Set((Array.isArray(listed.json) ? (listed.json as { id: string }[]) : []).map(({ id }) => id));
        for (const agent of agents) {
          for (const id of agent.kept.keys())
            if (!ids.has(id)) tally.blame('lost', `snapshot ${id} is listed no more: ${describe(listed)}`);
          if (!isShort || agent !== first) await agent.check(agent.some(now));
          await agent.thin(now.of('thin'), KEPT);
        }
        const verified = await first.verify([0, 3, 13]);
        const { damaged = [] } = (verified.json ?? {}) as { damaged?: { problem: string }[] };
        if (damaged.some(({ problem }) => !problem.startsWith('chain:'))) tally.blame('lost', describe(verified));
        if (errorOf(verified)) tally.blame('wrong', describe(verified));
      },
      async finish() {
        tally.doing = 'writers, the last look';
        if (isShort) return first.checkAll({ most: 1 });
        for (const agent of agents) await agent.checkAll();
      },
    };
  },
};
