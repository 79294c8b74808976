/** From config, environment and this host to what watching takes. */
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { assert, HoldfastError } from '../../errors.ts';
import { commandRunner, type ActionContext } from '../../fleet/actions.ts';
import type { FleetEvent } from '../../fleet/events.ts';
import { HealthWriter, readKnown } from '../../fleet/health-store.ts';
import { Prober, type AgentSpec } from '../../fleet/prober.ts';
import { putStateBack, restoreState } from '../../fleet/restore-state.ts';
import { serviceManager } from '../../fleet/sd-notify.ts';
import { tellBy } from '../../fleet/tell.ts';
import type { WatchOptions } from '../../fleet/watch.ts';
import type { Seams } from '../../operations/seams.ts';
import { requireSections, type Config } from '../config.ts';
import { expectedRepository, restoreSecret } from '../context.ts';
import { checkOwner, withoutSecrets } from '../run-report.ts';
import { ownProfile } from '../state-options.ts';
import { checkNames } from './agents.ts';
import type { Fleet } from './context.ts';
import type { RestoreActs, WatchConfig } from './watch-config.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface WatchHost {
  env: Environment;
  pid: number;
  dryRun: boolean;
  happened: (event: FleetEvent) => void;
  log: (line: string) => void;
}

/** @throws `config_invalid` without agents, `insecure_permissions` when others can write the config, and with it the commands */
export function watchOptions(
  config: Config,
  fleet: Fleet,
  specs: readonly AgentSpec[],
  { env, pid, dryRun, happened, log }: WatchHost,
  seams: Seams,
): WatchOptions {
  checkNames(config, []);
  const settings = fleet.config.watch;
  assert(settings, 'a config with agents says how they are watched');
  if (hasCommands(settings)) checkOwner(config.path, 'commands for the fleet', '`fleet`');
  const { clock } = seams;
  const run = commandRunner(
    {
      folder: dirname(config.path),
      env: { ...serviceFree(withoutSecrets(env)), HOLDFAST_CONFIG: config.path },
      timeoutMs: settings.commandTimeoutMs,
    },
    clock,
  );
  const intervals = specs.flatMap(({ layers }) => [layers.live, layers.ready, layers.progress].flatMap(paceOf));
  const intervalMs = intervals.length > 0 ? Math.min(...intervals.map((one) => one.intervalMs)) : USUAL_INTERVAL_MS;
  const slowestMs = Math.max(intervalMs, ...intervals.map((one) => LATE_INTERVALS * one.intervalMs + one.timeoutMs));
  const within = new Map(specs.map((spec) => [spec.name, lookedWithinMs(spec)]));
  const { rules } = settings;
  return {
    ...{ store: fleet.store, breakers: fleet.breakers, degradation: settings.degradation, run, dryRun, happened, log },
    rules: { ...rules, staleMs: Math.max(rules.staleMs, slowestMs) },
    commandsOf: (agent) => settings.agents[agent] ?? { canRestore: false },
    tell: tellBy(config.notify, seams),
    restoreState: (agent, context) => restoreOf(agent, settings.agents[agent]?.restore, context, env, seams),
    putStateBack: (agent, context) => putBackOf(agent, settings.agents[agent]?.restore, context),
    looker: async () => new Prober(specs, { clock }, await readKnown(fleet.store)),
    records: () => new HealthWriter(fleet.store, specs, { clock, host: hostname(), pid }),
    lookedWithinMs: (agent) => within.get(agent) ?? Infinity,
    ...{ intervalMs, leaseMs: settings.leaseMs, host: hostname(), pid },
    service: serviceManager(env, pid),
  };
}

/** By the layer that is looked at most often: backups are not, and an agent of which nothing else is asked is not late for that. */
function lookedWithinMs({ layers }: AgentSpec): number {
  const policies = Object.values(layers).map(({ policy }) => policy);
  return Math.min(...policies.map(({ intervalMs, timeoutMs }) => LATE_INTERVALS * intervalMs + timeoutMs));
}

const LATE_INTERVALS = 3;
const USUAL_INTERVAL_MS = 10_000;

function paceOf(layer: AgentSpec['layers']['live']): { intervalMs: number; timeoutMs: number }[] {
  return layer ? [layer.policy] : [];
}

function hasCommands({ agents, degradation }: WatchConfig): boolean {
  const isActedOn = Object.values(agents).some(({ restart, scale, restore }) => restart ?? scale ?? restore);
  return isActedOn || degradation.rules.some(({ enter, leave }) => enter !== undefined || leave !== undefined);
}

/** What is ours alone to tell the service manager. */
function serviceFree(env: Environment): Environment {
  const { NOTIFY_SOCKET: _socket, WATCHDOG_USEC: _usec, WATCHDOG_PID: _pid, ...rest } = env;
  return rest;
}

/** With the agent's own config, as `holdfast restore` would. */
async function restoreOf(
  agent: string,
  acts: RestoreActs | undefined,
  { signal, rule, reason, look, run }: ActionContext,
  env: Environment,
  seams: Seams,
) {
  if (!acts) {
    throw new HoldfastError('config_invalid', `the config does not say how the state of ${agent} is restored`, {
      hint: `See \`fleet.agents.${agent}.restore\` in docs/watchdog.md.`,
    });
  }
  const identityFile = acts.identityFile ?? (env['HOLDFAST_RESTORE_IDENTITY_FILE'] || undefined);
  if (identityFile === undefined) {
    // Nobody is there to type the words.
    throw new HoldfastError(
      'missing_key',
      `restoring ${agent} needs the key of a restore recipient, and there is none`,
      {
        hint: `Set \`fleet.agents.${agent}.restore.identityFile\`, or HOLDFAST_RESTORE_IDENTITY_FILE.`,
      },
    );
  }
  const own = await ownConfig(acts);
  return restoreState(
    {
      ...{ agent, backends: own.backends, root: own.state.root, stop: acts.stop, start: acts.start, run, look },
      secret: await restoreSecret({ 'identity-file': identityFile }, signal, env),
      expected: await expectedRepository(own),
      profile: await ownProfile(own),
      env: { HOLDFAST_AGENT: agent, HOLDFAST_RULE: rule, HOLDFAST_REASON: reason },
      ...{ withinMs: acts.withinMs, most: acts.snapshots },
    },
    { ...seams, signal },
  );
}

/** What is left of a restore that was cut off, and needs no key. */
async function putBackOf(
  agent: string,
  acts: RestoreActs | undefined,
  { signal, run }: Pick<ActionContext, 'signal' | 'run'>,
) {
  if (!acts) return undefined;
  const { state } = await ownConfig(acts);
  return putStateBack({ root: state.root, start: acts.start, env: { HOLDFAST_AGENT: agent }, run }, signal);
}

async function ownConfig({ config }: RestoreActs) {
  const { loadConfig } = await import('../config.ts');
  return requireSections(await loadConfig(config), 'state', 'backends');
}
