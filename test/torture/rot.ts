/** Every kind of object on one of two backends rots, is cut, lost or swapped, while runs go on. It is repaired, and nothing is lost. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseKey } from '../../src/repository/repository.ts';
import { Agent, BACKENDS, WORDS, type BackendName } from './agent.ts';
import type { Dice } from './dice.ts';
import type { Kind, Torment } from './kind.ts';
import { describe } from './program.ts';

/** What becomes of an object: undefined for nothing that is left. */
const HARMS: Readonly<Record<string, (bytes: Buffer, other: Buffer, dice: Dice) => Buffer | undefined>> = {
  'bits turned in': (bytes, _, dice) => {
    const changed = Buffer.from(bytes);
    for (let n = 1 + dice.below(3); n > 0 && changed.length > 0; n--) {
      const at = dice.below(changed.length);
      changed[at] = (changed[at] ?? 0) ^ (1 << dice.below(8));
    }
    return changed.equals(bytes) ? bytes.subarray(1) : changed;
  },
  truncated: (bytes, _, dice) => bytes.subarray(0, dice.below(bytes.length)),
  emptied: () => Buffer.alloc(0),
  removed: () => undefined,
  swapped: (bytes, other) => (other.equals(bytes) ? undefined : other),
  'a block of zeros in': (bytes, _, dice) => {
    const from = dice.below(bytes.length);
    const changed = Buffer.from(bytes).fill(0, from, Math.min(bytes.length, from + 4096));
    return changed.equals(bytes) ? undefined : changed;
  },
};
const HARM_NAMES = Object.keys(HARMS);
const KEPT = 8;

export const rot: Kind = {
  title: 'rot in every kind of object on one of two backends, while runs go on',
  rounds: { short: 1, long: 6 },
  async start({ dice, folder, tally, isShort, log }: Torment) {
    const agent = new Agent(folder, { dice, tally, isWarm: isShort, noiseBytes: (isShort ? 1 : 3) * 2 ** 20 });
    await agent.found();
    // One of every kind of object there is.
    await agent.holdfast(['identity', 'rotate', ...WORDS]);
    await agent.holdfast(['snapshots', 'note', 'latest', 'a note']);
    agent.change();
    await agent.backup();
    const kinds = () => [...new Set(agent.objects('nas').map((key) => parseKey(key)?.kind ?? 'none'))].sort();
    log(`objects of the kinds ${kinds().join(', ')}`);

    /** Harms some objects of a kind. @returns their keys. */
    function harm(name: BackendName, kind: string, how: string, now: Dice): string[] {
      const keys = agent.objects(name);
      const candidates = keys.filter((key) => parseKey(key)?.kind === kind);
      const chosen = now.shuffled(candidates).slice(0, 1 + now.below(3));
      const read = (key: string) => readFileSync(join(agent.placeOf(name), key));
      const harmed = chosen.map((key) => [key, HARMS[how]?.(read(key), read(now.pick(candidates)), now)] as const);
      for (const [key, bytes] of harmed) {
        rmSync(join(agent.placeOf(name), key), { force: true });
        if (bytes) writeFileSync(join(agent.placeOf(name), key), bytes);
        tally.add('faults');
      }
      return chosen;
    }

    return {
      async round(number, now) {
        const all = kinds().flatMap((kind) => HARM_NAMES.map((how) => [kind, how] as const));
        const [kind, how] = dice.of(`turn ${Math.floor(number / all.length)}`).shuffled(all)[number % all.length] ?? [
          '',
          '',
        ];
        const name = now.pick(BACKENDS);
        tally.doing = `rot, round ${number}, ${kind} ${how}, on ${name}`;
        agent.change();
        // It rots in the midst of a backup, or before.
        let harmed: string[] = [];
        const act = () => void (harmed = harm(name, kind, how, now.of('harm')));
        if (now.chance(0.4)) act();
        const ran = await agent.holdfast(
          ['backup'],
          harmed.length > 0 ? {} : { meanwhile: { afterMs: 80 + now.below(250), act } },
        );
        if (harmed.length === 0) act();
        log(`${kind} ${how}: ${harmed.length} on ${name}; the backup ended with ${ran.code}`);
        if (ran.code !== 0 && ran.code !== 3) tally.blame('wrong', describe(ran));
        await agent.recount();
        // Still all there, by way of the other backend.
        await agent.check(agent.some(now), ['--no-heal', '--from', name]);
        if (kind === 'repository') {
          // What says what the place is is written when it is made, and by no repair: it is put back by hand, as the message says.
          const [other = 'nas'] = BACKENDS.filter((one) => one !== name);
          writeFileSync(
            join(agent.placeOf(name), harmed[0] ?? ''),
            readFileSync(join(agent.placeOf(other), harmed[0] ?? '')),
          );
        }
        await agent.holdfast(['verify', '--level', 'chunks', '--repair', ...WORDS]);
        await agent.holdfast(['sync']);
        await agent.backup();
        await agent.verify();
        // The one that had rotted is enough again.
        const [other = 'nas'] = BACKENDS.filter((one) => one !== name);
        renameSync(agent.placeOf(other), agent.at('away'));
        await agent.check(agent.some(now), ['--from', name]);
        renameSync(agent.at('away'), agent.placeOf(other));
        await agent.thin(now.of('thin'), KEPT);
      },
      async finish() {
        tally.doing = 'rot, the last look';
        await agent.recount();
        await agent.checkAll({ most: isShort ? 1 : undefined });
      },
    };
  },
};
