/** SIGKILL of the real program at any moment of any command. What was there before is there after, and the next run needs no help. */
import { readFileSync, renameSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { ageRecipientOf, ageIdentityFromSeed } from '../../src/crypto/age.ts';
import { ROOT } from '../cli/run.ts';
import { removeFolder } from '../state/trees.ts';
import { Agent, WORDS } from './agent.ts';
import type { Dice } from './dice.ts';
import type { Kind, Torment } from './kind.ts';
import { mustEndWith, type Ran } from './program.ts';

interface Command {
  /** Makes work for it. */
  prepare?: (agent: Agent, dice: Dice) => Promise<void> | void;
  /** Both are given the same dice, so that the second is the same again. */
  args: (agent: Agent, dice: Dice) => string[] | Promise<string[]>;
  /** What is run after the kill; the same when not given. */
  again?: (agent: Agent, dice: Dice) => string[] | Promise<string[]>;
  /** Codes that the run after it may end with. Default: 0. */
  codes?: readonly number[];
  /** What it did, when it is done. */
  after?: (agent: Agent, dice: Dice, ran: Ran) => void;
}

const target = (agent: Agent) => agent.at('tmp', 'target');
const restoreArgs = (agent: Agent, dice: Dice) => ['restore', agent.some(dice), '--target', target(agent), ...WORDS];
const compareTarget = (agent: Agent, dice: Dice) => {
  agent.compare(agent.some(dice), target(agent));
  removeFolder(target(agent));
};

const newRecipient = (dice: Dice) => ageRecipientOf(ageIdentityFromSeed(dice.bytes(32), 'x25519'));

const KEPT = 12;
/** Snapshots that `forget` leaves. */
const STAYING = 5;

/** A command that is to be killed is one line here, or a few. */
const COMMANDS: Record<string, Command> = {
  backup: { prepare: (agent) => agent.change(), args: () => ['backup'] },
  'restore into a new folder': {
    args: restoreArgs,
    again: (agent, dice) => [...restoreArgs(agent, dice), '--overwrite', 'always'],
    after: compareTarget,
  },
  'restore over another state': {
    prepare: async (agent, dice) => {
      await agent.holdfast(restoreArgs(agent, dice.of('before')));
    },
    args: (agent, dice) => [...restoreArgs(agent, dice), '--overwrite', 'always'],
  },
  sync: {
    prepare: async (agent) => {
      // usb was away, and lacks a snapshot.
      agent.change();
      renameSync(agent.at('usb'), agent.at('away'));
      await agent.backup({}, [3]);
      removeFolder(agent.at('usb'));
      renameSync(agent.at('away'), agent.at('usb'));
    },
    args: () => ['sync'],
  },
  verify: { args: (_, dice) => ['verify', '--level', dice.pick(['listing', 'objects']), ...WORDS] },
  'verify of all chunks': { args: () => ['verify', '--level', 'chunks', '--repair', ...WORDS] },
  'identity rotate': { args: () => ['identity', 'rotate', ...WORDS] },
  'recipients add': {
    args: async (_, dice) => ['recipients', 'add', await newRecipient(dice), ...WORDS],
    // Done before it was killed: then it is one already.
    codes: [0, 2],
  },
  forget: {
    prepare: (agent) => agent.giveUpAllBut(STAYING),
    args: () => ['forget', '--keep-last', String(STAYING)],
    codes: [0, 3],
  },
  // Whoever was killed on this host is over. Nothing lags here.
  prune: {
    args: () => ['prune', '--grace', '0s', '--settle', '0s', '--wait', '1s', '--presume-over', hostname(), ...WORDS],
    codes: [0, 3],
  },
};
/** Those that this program has. */
const NAMES = Object.keys(COMMANDS).filter((name) => isCommand(name.split(' ')[0] ?? ''));

function isCommand(word: string): boolean {
  const manifest = readFileSync(join(ROOT, 'oclif.manifest.json'), 'utf8');
  const { commands } = JSON.parse(manifest) as { commands: Record<string, unknown> };
  return Object.keys(commands).some((id) => id.split(':')[0] === word);
}

/** Of a run that was not killed, until one is measured. */
const GUESSED_MS = 350;
/** The share of a run in which the program does nothing but load. */
const STARTED = 0.3;

export const kill: Kind = {
  title: 'SIGKILL of real runs at random times',
  rounds: { short: 1, long: 8 },
  async start({ dice, folder, tally, isShort, log }: Torment) {
    const agent = new Agent(folder, { dice, tally, isWarm: isShort, noiseBytes: (isShort ? 1 : 6) * 2 ** 20 });
    await agent.found();
    const measuredMs = new Map<string, number>();
    return {
      async round(number, now) {
        // All of them in turn, each turn in another order.
        const name = dice.of(`turn ${Math.floor(number / NAMES.length)}`).shuffled(NAMES)[number % NAMES.length] ?? '';
        const command = COMMANDS[name] as Command;
        tally.doing = `kill, round ${number}, ${name}`;
        await command.prepare?.(agent, now.of('prepare'));
        const args = await command.args(agent, now.of('args'));
        const shares = Array.from({ length: 1 + now.below(3) }, () => STARTED + now.fraction() * (1 - STARTED));
        for (const share of shares) {
          const killed = await agent.holdfast(args, { killAfterMs: share * (measuredMs.get(name) ?? GUESSED_MS) });
          log(`${name}, killed at ${share.toFixed(2)}${killed.code === null ? '' : ': it had ended'}`);
          await agent.recount();
          if (killed.code === null) continue;
          measuredMs.set(name, killed.ms);
          break;
        }
        const again = await agent.holdfast(await (command.again ?? command.args)(agent, now.of('args')));
        measuredMs.set(name, again.ms);
        if (mustEndWith(command.codes ?? [0], again, tally)) command.after?.(agent, now.of('args'), again);
        removeFolder(target(agent));
        // The agent goes on; and with that, whatever the kill has left half done is done.
        await agent.recount();
        agent.change();
        await agent.backup();
        await agent.verify();
        await agent.check(agent.some(now));
        await agent.thin(now.of('thin'), KEPT);
      },
      async finish() {
        tally.doing = 'kill, the last look';
        await agent.recount();
        await agent.checkAll({ most: isShort ? 1 : undefined });
        if (isShort) return;
        for (const name of ['nas', 'usb']) await agent.check(agent.some(dice), ['--from', name]);
      },
    };
  },
};
