/** From what the config says of the watchdog to its rules, levels and commands. */
import type { HoldfastError } from '../../errors.ts';
import type { AgentCommands } from '../../fleet/actions.ts';
import {
  LEVELS,
  usualLevels,
  USUAL_HOLD_MS,
  type DegradationSettings,
  type LevelRule,
  type LevelTrigger,
} from '../../fleet/degradation.ts';
import { USUAL_RULES, USUAL_SETTINGS, type Rule, type RuleSettings, type Trigger } from '../../fleet/rules.ts';
import { durationAt, invalid, shareOf, spanAt, unknownName, type RawFleet } from './config-value.ts';

export interface WatchConfig {
  rules: RuleSettings;
  degradation: DegradationSettings;
  commandTimeoutMs: number;
  leaseMs: number;
  agents: Readonly<Record<string, AgentActs>>;
}

/** What can be done to an agent. Paths are absolute. */
export interface AgentActs extends AgentCommands {
  restore?: RestoreActs;
}

export interface RestoreActs {
  config: string;
  stop: string;
  start: string;
  withinMs: number;
  snapshots: number;
  identityFile?: string;
}

type RawRule = Exclude<NonNullable<RawFleet['rules']>[string], 'off'>;
type RawTrigger = Exclude<NonNullable<RawRule['when']>, readonly unknown[]>;
type RawDegradation = Exclude<NonNullable<RawFleet['degradation']>, 'off'>;
type RawLevelTrigger = NonNullable<NonNullable<RawDegradation['reduced']>['when']>[number];

const COMMAND_TIMEOUT = '5m';
const LEASE = '15s';
const RESTORE = { within: '2m', snapshots: 3 };
const COOL_DOWN = '5m';
const TRIES = 3;
/** A lease that has to be renewed more often than the store can be written is none. */
const LEASE_LEAST_MS = 1000;

/** @throws `config_invalid` */
export function watchConfig(raw: RawFleet, resolvePath: (path: string) => string, file: string): WatchConfig {
  const reader = new Reader(raw, file);
  const { watch = {}, agents = {} } = raw;
  const leaseMs = reader.ms('fleet.watch.lease', watch.lease ?? LEASE);
  if (leaseMs < LEASE_LEAST_MS) throw reader.invalid('`fleet.watch.lease` is shorter than 1s');
  return {
    rules: {
      ...USUAL_SETTINGS,
      rules: reader.rules(),
      ...(watch.maxTouched !== undefined && { maxTouched: shareOf(watch.maxTouched) }),
      ...(watch.settle !== undefined && { settleMs: reader.ms('fleet.watch.settle', watch.settle) }),
      ...(watch.forget !== undefined && { forgetMs: reader.ms('fleet.watch.forget', watch.forget) }),
      suspect: reader.suspect(),
    },
    degradation: reader.degradation(),
    commandTimeoutMs: reader.ms('fleet.watch.commandTimeout', watch.commandTimeout ?? COMMAND_TIMEOUT),
    leaseMs,
    agents: Object.fromEntries(
      Object.entries(agents).map(([name, agent]) => {
        const { restart, scale, restore } = agent;
        const acts: AgentActs = { restart, scale, canRestore: restore !== undefined };
        if (restore) {
          const { config, stop, start, identityFile } = restore;
          const place = `fleet.agents.${name}.restore.within`;
          acts.restore = {
            ...{ config: resolvePath(config), stop, start, snapshots: restore.snapshots ?? RESTORE.snapshots },
            withinMs: reader.ms(place, restore.within ?? RESTORE.within),
            ...(identityFile !== undefined && { identityFile: resolvePath(identityFile) }),
          };
        }
        return [name, acts];
      }),
    ),
  };
}

class Reader {
  readonly #raw: RawFleet;
  readonly #file: string;
  readonly #agents: readonly string[];

  constructor(raw: RawFleet, file: string) {
    this.#raw = raw;
    this.#file = file;
    this.#agents = Object.keys(raw.agents ?? {});
  }

  /** Those that are there, changed or not, in their order; then the others. */
  rules(): Rule[] {
    const given = this.#raw.rules ?? {};
    const names = [...USUAL_RULES.map(({ name }) => name), ...Object.keys(given)];
    const rules = [...new Set(names)].flatMap((name) => {
      const usual = USUAL_RULES.find((one) => one.name === name);
      const own = given[name];
      if (own === 'off') return [];
      if (!own) return usual ? [usual] : [];
      return [this.#rule(name, own, usual)];
    });
    for (const { name, when } of rules) {
      for (const trigger of when) {
        if (trigger.kind !== 'spent') continue;
        for (const other of trigger.rules) {
          if (other === name) throw this.invalid(`\`fleet.rules.${name}\` waits for itself`);
          if (names.includes(other)) continue;
          throw this.#unknown(`fleet.rules.${name}.when.spent`, other, names, 'rule');
        }
      }
    }
    return rules;
  }

  #rule(name: string, own: RawRule, usual: Rule | undefined): Rule {
    const place = `fleet.rules.${name}`;
    const when = own.when === undefined ? usual?.when : [own.when].flat().map((one) => this.#trigger(place, one));
    const actions = own.actions ?? usual?.actions;
    if (!when || !actions) {
      throw this.invalid(
        `\`${place}\` lacks \`${when ? 'actions' : 'when'}\``,
        `A rule of your own needs both; those that are there are ${USUAL_RULES.map((one) => one.name).join(', ')}.`,
      );
    }
    const agents = own.agents ?? usual?.agents;
    if (Array.isArray(agents)) this.#checkAgents(`${place}.agents`, agents);
    return {
      ...{ name, when, actions },
      coolDownMs:
        own.coolDown === undefined && usual
          ? usual.coolDownMs
          : this.ms(`${place}.coolDown`, own.coolDown ?? COOL_DOWN),
      tries: own.tries ?? usual?.tries ?? TRIES,
      escalate: own.escalate ?? usual?.escalate ?? ['notify'],
      ...(agents !== undefined && { agents }),
    };
  }

  #trigger(place: string, raw: RawTrigger): Trigger {
    const { for: time, ...rest } = raw;
    const given = Object.entries(rest).filter(([, value]) => value !== undefined);
    if (given.length !== 1) throw this.invalid(`\`${place}.when\` must name one condition, and names ${given.length}`);
    const forMs = this.#span(`${place}.when.for`, time);
    const { down, idle, queue, errors, memory, spent } = rest;
    if (down !== undefined) return { kind: 'down', layer: down, forMs };
    if (queue !== undefined) return { kind: 'over', what: 'queue', limit: queue, forMs };
    if (errors !== undefined) return { kind: 'over', what: 'errors', limit: shareOf(errors), forMs };
    if (memory !== undefined) return { kind: 'over', what: 'memory', limit: shareOf(memory), forMs };
    if (time !== undefined) throw this.invalid(`\`${place}.when.for\` makes no sense here`);
    if (idle !== undefined) return { kind: 'idle', forMs: this.ms(`${place}.when.idle`, idle) };
    return { kind: 'spent', rules: [spent ?? []].flat() };
  }

  suspect(): RuleSettings['suspect'] {
    const raw = this.#raw.watch?.suspect ?? {};
    if (raw === 'off') return null;
    const usual = USUAL_SETTINGS.suspect ?? { over: 0.5, withinMs: 60_000 };
    return {
      over: raw.over === undefined ? usual.over : shareOf(raw.over),
      withinMs: raw.within === undefined ? usual.withinMs : this.ms('fleet.watch.suspect.within', raw.within),
    };
  }

  degradation(): DegradationSettings {
    const raw = this.#raw.degradation ?? {};
    if (raw === 'off') return { rules: [], holdMs: USUAL_HOLD_MS };
    if (raw.messaging) this.#checkAgents('fleet.degradation.messaging', raw.messaging);
    const rules = usualLevels(raw.messaging).map((usual): LevelRule => {
      const name = LEVELS[usual.level];
      const { when, enter, leave } = raw[name] ?? {};
      const place = `fleet.degradation.${name}`;
      return {
        level: usual.level,
        when: when ? when.map((one) => this.#levelTrigger(place, one)) : usual.when,
        ...(enter !== undefined && { enter }),
        ...(leave !== undefined && { leave }),
      };
    });
    return { rules, holdMs: raw.hold === undefined ? USUAL_HOLD_MS : this.ms('fleet.degradation.hold', raw.hold) };
  }

  #levelTrigger(place: string, raw: RawLevelTrigger): LevelTrigger {
    const { agents = 'all', are, least, over, all } = raw;
    if ([least, over, all].filter((one) => one !== undefined).length > 1)
      throw this.invalid(`\`${place}.when\` has more than one of \`least\`, \`over\` and \`all\``);
    if (Array.isArray(agents)) this.#checkAgents(`${place}.when.agents`, agents);
    const count = all ? 'all' : over === undefined ? { least: least ?? 1 } : { over: shareOf(over) };
    const forMs = this.#span(`${place}.when.for`, raw.for);
    return { agents, is: are, forMs, count };
  }

  ms(place: string, text: string): number {
    return durationAt(this.#file, place, text);
  }

  /** It may be nothing. */
  #span(place: string, text: string | undefined): number {
    return text === undefined ? 0 : spanAt(this.#file, place, text);
  }

  #checkAgents(place: string, names: readonly string[]): void {
    for (const name of names)
      if (!this.#agents.includes(name)) throw this.#unknown(place, name, this.#agents, 'agent of `fleet.agents`');
  }

  #unknown(place: string, name: string, known: readonly string[], what: string): HoldfastError {
    return unknownName(this.#file, place, name, known, what);
  }

  invalid(what: string, hint?: string): HoldfastError {
    return invalid(this.#file, what, hint);
  }
}
