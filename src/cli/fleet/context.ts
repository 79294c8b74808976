/** From the config to the fleet that commands work with, and breakers as they are shown. */
import { realpathSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import * as Args from '@oclif/core/args';
import * as Flags from '@oclif/core/flags';
import type { Clock, Random } from '../../clock.ts';
import type { Warning } from '../../entry.ts';
import { messageOf, type HoldfastError } from '../../errors.ts';
import { sha256Hex } from '../../crypto/hash.ts';
import { breakerPolicy, type BreakerPolicy } from '../../fleet/breaker-policy.ts';
import { Breakers, retryAt, type BreakerView, type UnreadableBreaker } from '../../fleet/breakers.ts';
import { appendEvent } from '../../fleet/events.ts';
import type { Told } from '../../fleet/guarded-run.ts';
import { BACKOFF_MS, RetryQueue } from '../../fleet/queue.ts';
import { openSqliteStore } from '../../fleet/sqlite-store.ts';
import type { StateStore } from '../../fleet/store.ts';
import { tellBy } from '../../fleet/tell.ts';
import type { Seams } from '../../operations/seams.ts';
import type { BreakerCommand, BreakerState } from '../../policy/breaker.ts';
import { formatDuration } from '../../units.ts';
import type { Config } from '../config.ts';
import { localFolders } from '../context.ts';
import { NO_FLEET, type FleetConfig } from './config.ts';
import { formatTime, lines } from '../render.ts';

export interface Fleet extends AsyncDisposable {
  config: FleetConfig;
  store: StateStore;
  breakers: Breakers;
  queue: RetryQueue;
  policyOf: (agent: string) => BreakerPolicy;
  /** The agents of the config. */
  agents: readonly string[];
}

export const agentArg = Args.string({ name: 'agent', description: 'The agent.', required: true, ignoreStdin: true });

export const reporterFlag = {
  reporter: Flags.string({
    summary: 'Under whose name failures are remembered; default the name of this host.',
    helpValue: 'NAME',
  }),
};

interface FleetOptions {
  env: Readonly<Record<string, string | undefined>>;
  clock: Clock;
  random: Random;
  reporter?: string | undefined;
}

/** Opens the store that the config names; it is made when there is none. A config without `fleet` will do. */
export function openFleet(config: Config, { env, clock, random, reporter = hostname() }: FleetOptions): Fleet {
  const fleet = config.fleet ?? NO_FLEET;
  const store = openSqliteStore(fleet.store ?? ownPath(env, config.path, 'sqlite'), { clock, random });
  const policyOf = (agent: string) => breakerPolicy(agent, fleet.breakers);
  return {
    config: fleet,
    store,
    breakers: new Breakers({ store, policyOf, reporter, clock, random }),
    queue: new RetryQueue({ store, clock, random, backoffMs: fleet.queue.backoffMs ?? BACKOFF_MS }),
    policyOf,
    agents: Object.keys(fleet.breakers.agents ?? {}),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

/** Where what the config names no file for is kept: one for each config, by whichever path it is reached. */
export function ownPath(env: FleetOptions['env'], configPath: string, kind: 'sqlite' | 'token'): string {
  const name = sha256Hex(Buffer.from(realpathSync(configPath))).slice(0, 32);
  return join(localFolders(env, 'fleet').state, `${name}.${kind}`);
}

/** What scripts rely on, of `breaker list`, and what the other commands say of a breaker at least. */
export interface BreakerRow {
  agent: string;
  /** `unreadable`: what is stored of it is damaged, and calls are refused. */
  state: BreakerState['kind'] | 'unreadable';
  /** In a row. */
  failures: number;
  /** ISO 8601; absent unless it is open or half-open. */
  retryAt?: string;
  /** Since it is so; null when nothing ever happened. */
  since: string | null;
  /** False for an agent that the config does not list: the defaults hold for it. */
  configured: boolean;
}

export function breakerRow(
  { agent, state, since }: BreakerView | UnreadableBreaker,
  agents: readonly string[],
): BreakerRow {
  const retryMs = state.kind === 'unreadable' ? undefined : retryAt(state);
  return {
    ...{ agent, state: state.kind, failures: 'failures' in state ? state.failures : 0 },
    ...(retryMs !== undefined && { retryAt: new Date(retryMs).toISOString() }),
    since: since && new Date(since.ms).toISOString(),
    configured: agents.includes(agent),
  };
}

/** For the commands that change one breaker. */
export async function commandBreaker(
  config: Config,
  agent: string,
  command: BreakerCommand,
  options: FleetOptions,
): Promise<BreakerRow> {
  await using fleet = openFleet(config, options);
  const row = breakerRow(await fleet.breakers.command(agent, command), fleet.agents);
  const said = 'reason' in command ? `: ${command.reason}` : 'error' in command ? `: ${command.error}` : '';
  const message = `${command.type} by hand, now ${row.state}${said}`;
  await appendEvent({ ...options, store: fleet.store }, { kind: 'breaker', agent, message });
  return row;
}

/** `backend: closed`, and what is to be known besides. */
export function breakerText({ agent, state, retryAt: at, configured }: BreakerRow, nowMs: number): string {
  const note = configured ? '' : ' (not in the config: defaults)';
  return lines(`${agent}: ${state}${at === undefined ? '' : `, ${whenText(at, nowMs)}`}${note}`);
}

/** As a warning: the rest is shown nevertheless. */
export function unreadableText({ message, hint }: HoldfastError): string {
  return hint === undefined ? message : `${message}. ${hint}`;
}

/** When a call may be tried. */
export function whenText(at: string, nowMs: number): string {
  const ms = Date.parse(at);
  return ms <= nowMs
    ? 'tried with the next call'
    : `tried again at ${formatTime(ms)}, in ${formatDuration(ms - nowMs)}`;
}

/** Tells a person, and the log of events. A log that cannot be written is told, and holds up nobody. */
export function tellAll(config: Config, fleet: Fleet, seams: Seams): (event: Told) => Promise<Warning[]> {
  const tell = tellBy(config.notify, seams);
  return async (event) => {
    const kind = event.kind === 'breaker_opened' ? 'breaker' : 'escalated';
    const log = { store: fleet.store, clock: seams.clock, random: seams.random };
    const written = appendEvent(log, { kind, agent: event.agent, message: event.message }).then(
      () => [],
      (error: unknown) => [{ code: 'event_lost', message: `not in the log of events: ${messageOf(error)}` }],
    );
    return [...(await tell(event)), ...(await written)];
  };
}
