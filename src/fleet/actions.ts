/** Doing what a rule decided: the operator's commands, the breaker, quarantine, telling a person. What comes of it is evidence. */
import type { Clock } from '../clock.ts';
import type { Warning } from '../entry.ts';
import { isSurvivable } from '../errors.ts';
import { runCommand as runShell, Tail } from '../operations/hooks.ts';
import { secondsSince } from '../operations/seams.ts';
import type { Breakers } from './breakers.ts';
import type { Told } from './guarded-run.ts';
import type { AgentHealth } from './health.ts';
import { masked } from './masked.ts';
import { quarantine } from './quarantine.ts';
import type { Action, Evidence } from './rules.ts';
import type { StateStore } from './store.ts';

/** What the config says of one agent. */
export interface AgentCommands {
  restart?: string | undefined;
  scale?: { command: string; max: number } | undefined;
  /** Whether its state can be restored; how, the one who acts is given. */
  canRestore: boolean;
}

/** What the config says how to do. */
export function doable({ restart, scale, canRestore }: AgentCommands): ReadonlySet<Action> {
  const can = new Set<Action>(['notify', 'open_breaker', 'quarantine']);
  if (restart !== undefined) can.add('restart');
  if (scale) can.add('scale');
  if (canRestore) can.add('restore_state');
  return can;
}

export interface ActionEnd {
  action: Action;
  ok: boolean;
  /** For a person, when it is not. */
  problem?: string;
  seconds: number;
  evidence: Evidence;
}

export interface CommandResult {
  exitCode: number | null;
  problem?: string | undefined;
  /** The last lines, secrets masked. */
  output: string;
}

/**
 * Runs a shell command in a process group of its own; never rejects. One that is late, or when the signal is aborted, is ended with all it started.
 * It is begun only when `begins`, which is told its leader and its time, has resolved.
 */
export type RunCommand = (
  command: string,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
  begins?: (pid: number, timeoutMs: number) => Promise<void>,
) => Promise<CommandResult>;

const OUTPUT_MAX_BYTES = 64 * 1024;
const SHOWN_LINES = 3;
const SHOWN_MAX_CHARACTERS = 500;

/** @param env what commands get besides; without secrets */
export function commandRunner(
  { folder, env, timeoutMs }: { folder: string; env: Readonly<Record<string, string | undefined>>; timeoutMs: number },
  clock: Clock,
): RunCommand {
  return async (command, more, signal, begins) => {
    const output = new Tail(OUTPUT_MAX_BYTES);
    // What an agent says of itself is in it, and no process can be given a NUL.
    const told = Object.fromEntries(Object.entries(more).map(([name, value]) => [name, value.replaceAll('\0', ' ')]));
    const how = { folder, env: { ...env, ...told } };
    const { exitCode, problem } = await runShell(command, how, {
      clock,
      output,
      timeoutMs,
      signal,
      begins: begins && ((pid) => begins(pid, timeoutMs)),
    });
    return { exitCode, problem, output: lastLines(output.text()) };
  };
}

/** The last lines of what a command printed, without what looks like a secret. */
export function lastLines(text: string): string {
  const lines = masked(text)
    .replace(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ')
    .trim()
    .split('\n');
  return lines.slice(-SHOWN_LINES).join(' / ').slice(-SHOWN_MAX_CHARACTERS);
}

export interface ActorOptions {
  store: StateStore;
  breakers: Breakers;
  clock: Clock;
  tell: (event: Told) => Promise<Warning[]>;
  commandsOf: (agent: string) => AgentCommands;
  /** Brings the state of an agent back; rejects with what a person should know. */
  restoreState?: ((agent: string, context: ActionContext) => Promise<Evidence>) | undefined;
  /** After one that was cut off: the folder of the state where it belongs. Undefined where there was nothing to do. */
  putStateBack?:
    ((agent: string, context: Pick<ActionContext, 'signal' | 'run'>) => Promise<Evidence | undefined>) | undefined;
}

export interface ActionContext {
  agent: string;
  rule: string;
  reason: string;
  /** What to scale to. */
  replicas: number;
  /** One look at the agent, now. */
  look: (signal: AbortSignal) => Promise<AgentHealth | undefined>;
  /** What it runs is written down, so that it is found again when this process is killed. */
  run: RunCommand;
  signal: AbortSignal;
}

/** Does the actions in their order, until one fails. @throws nothing that is survivable */
export async function act(
  actions: readonly Action[],
  context: ActionContext,
  options: ActorOptions,
): Promise<ActionEnd[]> {
  const ends: ActionEnd[] = [];
  for (const action of actions) {
    if (context.signal.aborted) break;
    const startedMs = options.clock.monotonic();
    const end = (ok: boolean, evidence: Evidence, problem?: string): ActionEnd => ({
      ...{ action, ok, evidence, seconds: secondsSince(options.clock, startedMs) },
      ...(problem !== undefined && { problem }),
    });
    try {
      const { evidence, problem } = await DO[action](context, options);
      ends.push(end(problem === undefined, evidence, problem));
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      const hint = error.hint === undefined ? '' : ` (${error.hint})`;
      ends.push(end(false, { code: error.code }, `${error.message}${hint}`));
    }
    if (!ends.at(-1)?.ok) break;
  }
  return ends;
}

type Done = { evidence: Evidence; problem?: string };

const DO: Readonly<Record<Action, (context: ActionContext, options: ActorOptions) => Promise<Done>>> = {
  notify: async ({ agent, rule, reason }, { tell }) => {
    const warnings = await tell({ kind: 'watchdog', agent, message: `agent ${agent}, rule ${rule}: ${reason}` });
    const [problem] = warnings.map(({ code, message }) =>
      code === 'nobody_told' ? 'nobody was told: the config has no notify.webhook' : message,
    );
    // That nobody was told is told by whoever reads the events; what follows is done all the same.
    return { evidence: { told: problem === undefined, ...(problem !== undefined && { notTold: problem }) } };
  },
  restart: (context, { commandsOf }) => byCommand(commandsOf(context.agent).restart, context, {}),
  scale: (context, { commandsOf }) => {
    const more = { HOLDFAST_REPLICAS: String(context.replicas) };
    return byCommand(commandsOf(context.agent).scale?.command, context, more);
  },
  open_breaker: async ({ agent, rule, reason }, { breakers }) => {
    const { state } = await breakers.command(agent, { type: 'open', error: `${rule}: ${reason}` });
    return {
      evidence: { breaker: state.kind, ...('untilMs' in state && { until: new Date(state.untilMs).toISOString() }) },
    };
  },
  restore_state: async (context, { restoreState }) => {
    if (!restoreState) return { evidence: {}, problem: 'nothing says how its state is restored' };
    return { evidence: await restoreState(context.agent, context) };
  },
  quarantine: async ({ agent, rule, reason }, { store, breakers, clock }) => {
    const isNew = await quarantine({ store, breakers, clock }, agent, `${rule}: ${reason}`);
    return { evidence: { quarantine: isNew ? 'new' : 'was in it already' } };
  },
};

async function byCommand(
  command: string | undefined,
  { agent, rule, reason, signal, run }: ActionContext,
  more: Readonly<Record<string, string>>,
): Promise<Done> {
  if (command === undefined) return { evidence: {}, problem: 'the config has no command for it' };
  const env = { HOLDFAST_AGENT: agent, HOLDFAST_RULE: rule, HOLDFAST_REASON: reason, ...more };
  const { exitCode, problem, output } = await run(command, env, signal);
  const evidence = { command: masked(command).slice(0, 200), exitCode, ...(output !== '' && { output }), ...more };
  return { evidence, ...(problem !== undefined && { problem }) };
}

/** What came of it as the evidence of an event: `restart.exitCode`, … */
export function evidenceOf(ends: readonly ActionEnd[]): Evidence {
  const all: Record<string, string | number | boolean | null> = {};
  for (const { action, ok, problem, seconds, evidence } of ends) {
    Object.assign(all, { [`${action}.ok`]: ok, [`${action}.seconds`]: seconds });
    if (problem !== undefined) all[`${action}.problem`] = problem;
    for (const [name, value] of Object.entries(evidence)) all[`${action}.${name}`] = value;
  }
  return all;
}
