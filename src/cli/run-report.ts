/** What is told of a run besides its result: hooks, log, pings, webhook, metrics, and the record of last runs. */
import { mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { sha256Hex } from '../crypto/hash.ts';
import type { Warning } from '../entry.ts';
import { HoldfastError, messageOf } from '../errors.ts';
import { Hooks, type HookResult } from '../operations/hooks.ts';
import { renderMetrics } from '../operations/metrics.ts';
import { Notifier } from '../operations/notify.ts';
import { recordRun, replaceFile, type RunKind, type RunRecord } from '../operations/host/runs.ts';
import { secondsSince, type Seams } from '../operations/seams.ts';
import type { Config } from './config.ts';
import { localFolders } from './context.ts';
import { EXIT, EXIT_CODE_OF } from './exit-codes.ts';
import { toFailure } from './failure.ts';
import { RunLog } from './run-log.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What the report takes from the result of whatever ran. */
export interface Reported {
  warnings?: Warning[];
  snapshot?: { id: string };
  files?: { total: number };
  bytes?: number | Readonly<Record<string, number>>;
  backends?: readonly { name: string; state?: string }[];
  damaged?: readonly unknown[];
  /** Of a drill. */
  objectives?: Readonly<Record<'rto' | 'rpo', { seconds: number | null }>>;
  scenarios?: readonly { ok: boolean }[];
  notRun?: readonly unknown[];
}

/** Where the last runs of a config are remembered: by its path, for what fails may be the reading of a key. */
export function runsPath(env: Environment, configPath: string): string {
  return join(localFolders(env, 'runs').state, `${sha256Hex(Buffer.from(configPath)).slice(0, 32)}.json`);
}

export interface RunContext {
  kind: RunKind;
  config: Config;
  env: Environment;
  seams: Pick<Seams, 'clock' | 'random'>;
}

/** One run, from its start to its end. */
export class RunReport {
  /** For the operation to run around the reading of the state. */
  readonly hooks: Hooks | undefined;
  readonly #context: RunContext;
  readonly #agent: string;
  readonly #log: RunLog;
  readonly #notifier: Notifier;
  readonly #startedMs: number;
  readonly #started: number;
  /** That nobody else can have written the hooks. */
  #isTrusted = false;

  constructor(context: RunContext) {
    const { kind, config, env, seams } = context;
    this.#context = context;
    this.#agent = config.agent?.handle ?? '';
    this.#log = new RunLog(config.log, { run: kind, agent: this.#agent, pid: process.pid }, seams.clock, env);
    const notify = config.notify ?? { pingFailure: 'fail' };
    const pings: Partial<Record<RunKind, string | undefined>> = {
      ...{ backup: notify.ping, verify: notify.pingVerify, drill: notify.pingDrill },
    };
    this.#notifier = new Notifier({ ...notify, ping: pings[kind] }, seams);
    this.#startedMs = seams.clock.now();
    this.#started = seams.clock.monotonic();
    if (kind === 'backup' && config.hooks) {
      const ended = (result: HookResult) => this.#logHook(result);
      const [folder, clock] = [dirname(config.path), seams.clock];
      this.hooks = new Hooks(config.hooks, { folder, clock, ended, env: hookEnvironment(env, config) });
    }
    this.#log.write('info', 'start');
    this.#notifier.start();
  }

  /** To be called before anything is done. @throws `insecure_permissions` */
  check(): void {
    const { kind, config } = this.#context;
    if (this.hooks) checkOwner(config.path, 'hooks', '`state.before`, `after` and `onError`');
    const { commands = [], shadow } = (kind === 'drill' && config.drill) || {};
    if (commands.length > 0 || shadow) checkOwner(config.path, 'commands', '`drill.checks` and `drill.shadow`');
    this.#isTrusted = true;
  }

  /** Of a run that came to a result. @returns what went wrong in telling it */
  async done(result: Reported, exitCode: number): Promise<Warning[]> {
    for (const { code, path, message } of result.warnings ?? [])
      this.#log.write('warning', 'warning', { code, path, message });
    return this.#end(exitCode, { result });
  }

  /** Of a run that failed. @returns what went wrong besides */
  async failed(thrown: unknown): Promise<Warning[]> {
    const error = toFailure(thrown);
    // The run that is at it has its own hooks: they must not meet those of a run that did nothing.
    const runsHooks = this.#isTrusted && error.code !== 'busy';
    const warnings = runsHooks ? ((await this.hooks?.onError(error)) ?? []) : [];
    const late = await this.#end(EXIT_CODE_OF[error.code], { error, result: { warnings } });
    return [...warnings, ...late];
  }

  async #end(exitCode: number, { result, error }: { result: Reported; error?: HoldfastError }): Promise<Warning[]> {
    const { seams } = this.#context;
    const seconds = secondsSince(seams.clock, this.#started);
    const isBusy = error?.code === 'busy';
    const outcome = exitCode === EXIT.done ? 'done' : exitCode === EXIT.incomplete ? 'incomplete' : 'failed';
    const snapshot = result.snapshot?.id ?? null;
    const told = error ? { code: error.code, message: error.message } : null;
    const level = outcome === 'done' ? 'info' : outcome === 'incomplete' ? 'warning' : 'error';
    const { files, bytes, damaged } = result;
    const backends = statesOf(result);
    const { recoverySeconds, scenarios } = drilled(result);
    const figures = { files: files?.total, bytes, backends, damaged: damaged?.length, recoverySeconds, scenarios };
    const late = isBusy ? [] : this.#remember(result, exitCode, seconds, error !== undefined);
    const message = {
      agent: this.#agent,
      event: this.#context.kind,
      outcome,
      exitCode,
      snapshot,
      error: told,
      warnings: (result.warnings ?? []).map(({ code, message: text }) => ({ code, message: text })),
      seconds,
      time: new Date(seams.clock.now()).toISOString(),
    } as const;
    late.push(...(await this.#notifier.end(message, { silent: isBusy })));
    for (const { code, message: text } of late) this.#log.write('warning', 'warning', { code, message: text });
    this.#log.write(level, 'end', { outcome, exitCode, seconds, snapshot, error: told ?? undefined, ...figures });
    const problem = await this.#log.close();
    if (problem !== undefined) late.push({ code: 'log_failed', message: `the log is not whole: ${problem}` });
    return late;
  }

  #remember(result: Reported, exitCode: number, seconds: number, isFailure: boolean): Warning[] {
    const { kind, config, env, seams } = this.#context;
    const endedMs = seams.clock.now();
    const { files, bytes, damaged } = result;
    const backends = statesOf(result);
    const run: RunRecord = {
      ...{ startedMs: this.#startedMs, endedMs, seconds, exitCode },
      ...(exitCode === EXIT.done && { successMs: endedMs }),
      ...(files && { files: files.total }),
      ...(bytes !== undefined && { bytes: typeof bytes === 'number' ? { read: bytes } : bytes }),
      ...(backends && { committed: Object.fromEntries(backends.map(({ name, state }) => [name, isGood(state)])) }),
      ...(isFailure && kind === 'backup' && { committed: notCommitted(config) }),
      ...(damaged && { damaged: damaged.length }),
      ...drilled(result),
    };
    try {
      const runs = recordRun(runsPath(env, config.path), kind, run);
      if (!config.metrics) return [];
      const { textfile } = config.metrics;
      mkdirSync(dirname(textfile), { recursive: true });
      replaceFile(textfile, renderMetrics(this.#agent, runs), 0o644); // the collector is another user
      return [];
    } catch (error) {
      return [{ code: 'metrics_failed', message: `what the run came to is not recorded: ${messageOf(error)}` }];
    }
  }

  #logHook({ event: hook, command, problem, ...rest }: HookResult): void {
    this.#log.write(problem === undefined ? 'info' : 'error', 'hook', { hook, command, problem, ...rest });
  }
}

const isGood = (state: string): boolean => state === 'committed' || state === 'level' || state === 'done';

/** What a run has written to each; of one that writes nothing none. */
function statesOf({ backends }: Reported): { name: string; state: string }[] | undefined {
  const states = backends?.flatMap(({ name, state }) => (state === undefined ? [] : [{ name, state }]));
  return states?.length === 0 ? undefined : states;
}

function drilled({ objectives, scenarios, notRun }: Reported) {
  const { rto, rpo } = objectives ?? {};
  const failed = scenarios?.filter(({ ok }) => !ok).length ?? 0;
  return {
    ...(typeof rto?.seconds === 'number' && { recoverySeconds: rto.seconds }),
    ...(typeof rpo?.seconds === 'number' && { dataLossSeconds: rpo.seconds }),
    ...(scenarios && notRun && { scenarios: { passed: scenarios.length - failed, failed, not_run: notRun.length } }),
  };
}

/** Who can write the config has its commands run. @throws `insecure_permissions` */
export function checkOwner(path: string, what: string, where: string): void {
  const { uid, mode } = statSync(path);
  if ((uid === 0 || uid === process.getuid?.()) && (mode & 0o022) === 0) return;
  throw new HoldfastError('insecure_permissions', `${path} names ${what}, and others can write it`, {
    hint: `Make it yours, look through ${where}, then: chmod go-w.`,
  });
}

/** A run that failed has left no backend with its snapshot. */
function notCommitted({ backends = [] }: Config): Record<string, boolean> {
  return Object.fromEntries(backends.map(({ name }) => [name, false]));
}

/**
 * Ours without what is secret in it, or says where secrets are: a hook, and the agent that it starts, need none of them. (Of AWS the settings
 * stay that are no secrets.)
 */
function hookEnvironment(env: Environment, { path, agent }: Config): Record<string, string | undefined> {
  return { ...withoutSecrets(env), HOLDFAST_CONFIG: path, HOLDFAST_AGENT: agent?.handle };
}

export function withoutSecrets(env: Environment): Record<string, string | undefined> {
  const isSecret = (name: string) => name.startsWith('HOLDFAST_') || /^AWS_.*(SECRET|TOKEN|KEY)/.test(name);
  return Object.fromEntries(Object.entries(env).filter(([name]) => !isSecret(name)));
}
