/**
 * `drill run`: for each scenario a world of its own in which the agent is lost and brought back, from the secrets that a human would have, and proved to
 * be the same. Nothing outside the world is changed, and nothing of it is left.
 */
import { HoldfastError, isHoldfastError, isSurvivable, throwIfAborted } from '../errors.ts';
import { timestamp } from '../repository/repository.ts';
import type { RestoreSecret } from '../operations/access.ts';
import { readLocalState } from '../operations/host/local-state.ts';
import type { SeenSnapshot } from '../operations/looking/open-look.ts';
import { secondsSince, type Seams } from '../operations/seams.ts';
import { Sqlite } from '../state/sqlite.ts';
import { withDeadline } from '../policy/deadline.ts';
import { DAY_MS, formatDuration, parseDuration } from '../units.ts';
import { checkClones, checkHealed, checkNextBackup, checkStolenKey, tamper } from './afterwards.ts';
import { checkBackends } from './checks/backends.ts';
import { checkChain, checkNewest } from './checks/chain.ts';
import { checkCommands } from './checks/commands.ts';
import { checkHandoff } from './checks/handoff.ts';
import { checkIdentity } from './checks/identity.ts';
import { checkShadow } from './checks/shadow.ts';
import { inspectState, stateChecks } from './checks/state.ts';
import { driftSince, freshness, recoveryTime, type Drift } from './measure.ts';
import { checkSecrets } from './preflight.ts';
import { killNow } from './processes.ts';
import type { Check, DrillResult, Objective, ScenarioResult, StepName } from './result.ts';
import { hasCheck, selectCases, startsShadow, type Case } from './scenario.ts';
import { CHECKS, type CheckName, type SecretKind } from './scenario-schema.ts';
import { checkOf, isSkipped, nameOf, skip, type DrillOptions, type Outcome, type Scene } from './scene.ts';
import { NotRunnable, openPast, profileOf, recoverOn, simulate, type Simulated, type Stage } from './simulate.ts';
import { ofSystem, removeLeftovers, removeTree, Sources, World } from './world.ts';

/** Snapshots that are tried one after the other, newest first. */
const TRIED_MAX = 20;
/** How long a scenario may take, where nothing is said: a last resort, since what can be silent has deadlines of its own. */
export const SCENARIO_MS = 6 * 3_600_000;
/** No timer can be set for longer than 24 days. */
const SCENARIO_MAX_MS = 20 * DAY_MS;
/** A scenario whose time is over has so long to stop by itself. */
const GRACE_MS = 20_000;

/**
 * @throws `usage` for a scenario that there is not, `wrong_key` when no secret belongs to the repository, `interrupted`; what goes wrong in a scenario is
 * told in its result
 */
export async function drill(options: DrillOptions, seams: Seams): Promise<DrillResult> {
  const started = seams.clock.monotonic();
  const startedMs = seams.clock.now();
  const names = options.backends.map(({ name }) => name);
  selectCases(options.scenarios, Object.keys(options.without ?? {}), names); // one that there is not is no reason
  const cases = selectCases(options.scenarios, options.names, names).filter(
    ({ scenario }) => options.shadow || options.names.length > 0 || !startsShadow(scenario),
  );
  await removeLeftovers(options.folder, startedMs);
  await using sources = await Sources.open(options.backends, seams, options.silenceMs);
  await checkSecrets(options, sources, seams);
  await using run = new Run(options, sources, seams);
  const result: DrillResult = {
    ok: false,
    scenarios: [],
    notRun: [],
    backends: [],
    repository: options.record.repository ?? null,
    agent: null,
    objectives: { rto: objective(null, undefined), rpo: objective(null, undefined) },
    started: timestamp(startedMs),
    seconds: 0,
    warnings: [],
  };
  for (const one of cases) {
    seams.progress({ type: 'phase', name: `drill ${one.name}` });
    try {
      result.scenarios.push(await run.case(one));
    } catch (error) {
      if (!(error instanceof NotRunnable)) throw error;
      const accepted = options.names.length === 0 ? acceptedOf(one, options.without) : undefined;
      const { title } = one.scenario;
      result.notRun.push({ name: one.name, title, why: error.message, ...(accepted !== undefined && { accepted }) });
    }
  }
  const { scenarios } = result;
  const worst = (values: readonly (number | null | undefined)[]) =>
    values.reduce<number | null>((a, b) => (b === null || b === undefined ? a : Math.max(a ?? 0, b)), null);
  result.backends = names.map((name) => {
    const problem = sources.problem(name);
    return problem ? { name, ok: false, error: problem.message } : { name, ok: true };
  });
  result.objectives = {
    rto: objective(worst(scenarios.map(({ recoverySeconds }) => recoverySeconds)), options.objectives.rtoMs),
    rpo: objective(worst(run.ages), options.objectives.rpoMs),
  };
  result.agent = run.agent;
  result.repository ??= run.repository;
  const isDoneWithout = result.notRun.every(({ accepted }) => accepted !== undefined);
  result.ok = scenarios.length > 0 && scenarios.every(({ ok }) => ok) && isDoneWithout;
  result.seconds = secondsSince(seams.clock, started);
  return result;
}

function acceptedOf({ name, scenario }: Case, without: DrillOptions['without'] = {}): string | undefined {
  return [name, scenario.name].map((one) => (Object.hasOwn(without, one) ? without[one] : undefined)).find(Boolean);
}

function objective(seconds: number | null, mostMs: number | undefined): Objective {
  const mostSeconds = mostMs === undefined ? null : mostMs / 1000;
  return { seconds, mostSeconds, ok: seconds === null || mostSeconds === null ? null : seconds <= mostSeconds };
}

/** An agent that was brought back, with what the checks of its state say. */
interface Recovered {
  scene: Scene;
  outcomes: Outcome[];
}

class Run {
  agent: DrillResult['agent'] = null;
  repository: string | null = null;
  /** Of the newest snapshots that scenarios have recovered, in seconds. */
  readonly ages: number[] = [];
  readonly #options: DrillOptions;
  readonly #sources: Sources;
  readonly #seams: Seams;
  /** For all scenarios, until one leaves it hanging. */
  #sqlite: Sqlite;
  /** The live state is looked at once for each snapshot. */
  readonly #drifts = new Map<string, Drift | { unknown: string }>();

  constructor(options: DrillOptions, sources: Sources, seams: Seams) {
    this.#options = options;
    this.#sources = sources;
    this.#seams = seams;
    this.#sqlite = new Sqlite(undefined, seams.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sqlite[Symbol.asyncDispose]();
  }

  /** @throws NotRunnable */
  async case(one: Case): Promise<ScenarioResult> {
    const [kind, secret] = this.#secretFor(one);
    if (startsShadow(one.scenario) && !this.#options.shadow)
      throw new NotRunnable(
        'nothing says how the agent is started (`drill.shadow` in the config, or `--shadow -- CMD`)',
      );
    const result: ScenarioResult = {
      name: one.name,
      title: one.scenario.title,
      ok: false,
      checks: [],
      skipped: [],
      steps: [],
      recoverySeconds: null,
      dataLoss: null,
      identity: { continuous: false, publicKey: null },
      snapshot: null,
      secret: kind,
      warnings: [],
    };
    const { clock, signal: outer } = this.#seams;
    /** What is under way, for whoever asks why it took so long. */
    let under: StepName = 'prepare';
    const step = async <T>(name: StepName, work: () => Promise<T>, tell: (value: T) => string): Promise<T> => {
      if (name !== 'clean up') throwIfAborted(outer);
      under = name;
      const started = clock.monotonic();
      let detail = 'failed';
      try {
        const value = await work();
        detail = tell(value);
        return value;
      } catch (error) {
        if (isHoldfastError(error)) detail = `failed: ${error.message}`;
        throw error;
      } finally {
        result.steps.push({ name, detail, seconds: secondsSince(clock, started) });
      }
    };
    // Before the backends are looked at: a backup may end meanwhile.
    const { folders } = this.#options.record;
    const remembered = folders && readLocalState(folders)?.last;
    const ms = Math.min(this.#options.timeoutMs ?? SCENARIO_MS, SCENARIO_MAX_MS);
    const expired = () =>
      new HoldfastError('timed_out', `it was not done after ${formatDuration(ms)}, and was at "${under}" then`, {
        hint: 'The steps say what took how long. `drill.timeout` in the config gives it more time.',
      });
    let world: World | undefined;
    const whole = async (signal: AbortSignal): Promise<void> => {
      world = await step(
        'prepare',
        () =>
          World.create({ ...this.#options, stateRoot: this.#options.state?.root }, this.#sources, {
            ...this.#seams,
            signal,
          }),
        () => 'a clean folder with a HOME of its own, and the backends to be read only',
      );
      const { view } = world;
      const common = { options: this.#options, case: one, sources: this.#sources };
      const stage: Stage = { ...common, world, view, secret, remembered: remembered ?? undefined };
      await this.#play(stage, result, step);
    };
    try {
      await withDeadline(whole, { clock, ms, graceMs: GRACE_MS, signal: outer, expired });
    } catch (cause) {
      const error = ofSystem(cause);
      if (!isSurvivable(error)) throw error;
      result.error = { code: error.code, message: error.message, hint: error.hint ?? null };
      if (error.code === 'timed_out') await this.#leaveBehind(world, result, error);
    } finally {
      await step(
        'clean up',
        async () => world?.[Symbol.asyncDispose](),
        () => 'nothing is left',
      );
    }
    if (result.error && result.checks.every(({ ok }) => ok))
      result.checks.push(checkOf('recovery', [result.error.message], '', { code: result.error.code }));
    if (result.checks.length === 0) {
      const whys = result.skipped.map(({ name, why }) => `${name}: ${why}`);
      throw new NotRunnable(
        `none of its checks had anything to look at${whys.length > 0 ? ` (${whys.join('; ')})` : ''}`,
      );
    }
    result.ok = result.checks.every(({ ok }) => ok);
    return structuredClone(result); // what was left behind may still write to the other
  }

  /** Whatever hangs hangs alone: the next scenario has another thread for its databases, and no process of the world runs on. */
  async #leaveBehind(world: World | undefined, result: ScenarioResult, { message }: HoldfastError): Promise<void> {
    result.checks.push(checkOf('deadline', [message], '', { steps: result.steps.map(({ name }) => name) }));
    if (world) killNow(undefined, world.folder);
    await this.#sqlite[Symbol.asyncDispose]();
    this.#sqlite = new Sqlite(undefined, this.#seams.signal);
  }

  #secretFor({ scenario }: Case): [SecretKind, RestoreSecret] {
    for (const kind of scenario.recover.with) {
      const secret = this.#options.secrets[kind];
      if (secret) return [kind, secret];
    }
    const kinds = scenario.recover.with;
    const noSecondWay = kinds.some((kind) => kind === 'words' || kind === 'identity')
      ? ''
      : ': there is no second way to come back (`holdfast paper create --shares 2of3`, `holdfast identity export --passphrase`)';
    throw new NotRunnable(`it recovers with ${kinds.join(' or ')}, and none was given${noSecondWay}`);
  }

  async #play(
    stage: Stage,
    result: ScenarioResult,
    step: <T>(name: StepName, work: () => Promise<T>, tell: (value: T) => string) => Promise<T>,
  ): Promise<void> {
    const { scenario } = stage.case;
    const done = await step(
      'simulate',
      () => simulate(stage),
      ({ told }) => ['the machine is lost', ...told].join('; '),
    );
    result.checks.push(...done.checks);
    const started = this.#seams.clock.monotonic();
    let recovered: Recovered;
    try {
      recovered = await step(
        'recover',
        () =>
          scenario.recover.snapshot === 'older' ? this.#fallBack(stage, done, result) : this.#bringBack(stage, done),
        ({
          scene: {
            recovered: { snapshot, files },
            secret,
          },
        }) =>
          `${files} files of snapshot ${snapshot.id.slice(0, 8)} (number ${snapshot.seq}) from the ${secret.kind === 'root' ? 'words' : 'age key'}`,
      );
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      await this.#whyNot(stage, done, result);
      throw this.#noneIsLeft(stage, done) ?? error;
    }
    await using past = recovered.scene.past;
    const { scene } = recovered;
    const { snapshot, recovered: how } = scene;
    result.recoverySeconds =
      scenario.recover.snapshot === 'older' ? secondsSince(this.#seams.clock, started) : how.seconds;
    result.snapshot = { id: snapshot.id, seq: snapshot.record.seq, time: snapshot.record.time };
    result.warnings.push(...how.warnings);
    this.agent ??= how.agent;
    this.repository ??= how.repository;
    const outcomes = await step(
      'check',
      async () => {
        if (scenario.recover.snapshot !== 'older') recovered.outcomes = await this.#check(scene);
        return recovered.outcomes;
      },
      (all) => `${all.filter((one) => !isSkipped(one)).length} checks`,
    );
    this.#take(outcomes, result);
    const drift = await step(
      'measure',
      () => this.#drift(past, snapshot, scene.seams.signal),
      (found) => ('unknown' in found ? found.unknown : `${found.files} files changed since`),
    );
    const objectives = this.#objectivesOf(stage.case);
    const { outcome, dataLoss } = freshness(snapshot, drift, this.#seams.clock.now(), objectives.rpoMs);
    result.dataLoss = dataLoss;
    if (hasCheck(scenario, 'freshness')) {
      this.ages.push(dataLoss.seconds);
      this.#take([outcome], result);
    }
    if (objectives.rtoMs !== undefined) this.#take([recoveryTime(result.recoverySeconds, objectives.rtoMs)], result);
    result.identity = this.#identity(scene, result);
    if (how.lost.length > 0 && result.checks.every(({ ok }) => ok))
      result.checks.push(checkOf('recovery', [`${how.lost.length} files were not restored`], '', { lost: how.lost }));
    if (done.damaged.length > 0) result.checks.push(await checkHealed(scene, done));
    for (const { step: what } of scenario.after) {
      if (what === 'backup') result.checks.push(await checkNextBackup(scene));
      else if (what === 'clone') result.checks.push(await checkClones(scene));
      else if (what === 'steal') result.checks.push(await checkStolenKey(scene));
      else if (what === 'shadow') {
        const stopped = () => 'the agent was started, and stopped';
        this.#take(await step('shadow', () => checkShadow(scene), stopped), result);
      }
    }
  }

  #objectivesOf({ scenario }: Case): DrillOptions['objectives'] {
    const { rto, rpo } = scenario.objectives ?? {};
    const { rtoMs, rpoMs } = this.#options.objectives;
    return {
      rtoMs: rto === undefined ? rtoMs : parseDuration(rto, 'config_invalid'),
      rpoMs: rpo === undefined ? rpoMs : parseDuration(rpo, 'config_invalid'),
    };
  }

  #take(outcomes: readonly Outcome[], result: ScenarioResult): void {
    for (const outcome of outcomes) {
      if (isSkipped(outcome)) result.skipped.push(outcome);
      else result.checks.push(outcome);
    }
  }

  /** That the scenario has taken a backend away is no news: what counts is that the others are gone by themselves. */
  #noneIsLeft({ view, sources }: Stage, { lost }: Simulated): HoldfastError | undefined {
    const left = [...view.overlays.keys()].filter((name) => !lost.has(name));
    const problems = left.flatMap((name) => sources.problem(name) ?? []);
    const [first] = problems;
    if (!first || problems.length < left.length) return undefined;
    const why = problems.map(({ message }, i) =>
      message.includes(left[i] ?? '') ? message : `backend ${left[i]}: ${message}`,
    );
    const { hint = 'Look whether it can be reached: `holdfast backend test` tries it.' } = first;
    return new HoldfastError('not_enough_backends', `of what is left nothing can be read: ${why.join('; ')}`, { hint });
  }

  /** Without a recovery it can still be told which backend lacks what. */
  async #whyNot(stage: Stage, { lost, spoiled }: Simulated, result: ScenarioResult): Promise<void> {
    const unchecked = CHECKS.filter((name) => hasCheck(stage.case.scenario, name) && name !== 'backends');
    result.skipped.push(...unchecked.map((name) => skip(name, 'the recovery failed')));
    if (spoiled || !hasCheck(stage.case.scenario, 'backends')) return;
    try {
      await using past = await openPast(stage);
      const snapshot = past.newest;
      if (!snapshot) return;
      const { view, sources } = stage;
      this.#take([await checkBackends({ past, snapshot, view, lost, sources, seams: view.seams })], result);
    } catch (error) {
      if (!isSurvivable(error)) throw error;
    }
  }

  async #bringBack(stage: Stage, done: Simulated, selector?: string, name = 'host'): Promise<Recovered> {
    const host = stage.world.host(name);
    const recovered = await recoverOn(stage, host, selector);
    const past = await openPast(stage);
    try {
      return { scene: await this.#scene(stage, done, { host, recovered, past }), outcomes: [] };
    } catch (error) {
      await past[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #scene(
    stage: Stage,
    done: Simulated,
    { host, recovered, past }: Pick<Scene, 'host' | 'recovered' | 'past'>,
  ): Promise<Scene> {
    const snapshot = past.snapshots.find(({ id }) => id === recovered.snapshot.id);
    if (!snapshot)
      throw new HoldfastError(
        'damaged',
        `snapshot ${recovered.snapshot.id.slice(0, 8)} was restored, and is not in the list`,
      );
    const scene: Scene = {
      ...stage,
      seams: stage.view.seams,
      lost: done.lost,
      sqlite: this.#sqlite,
      ...{ host, recovered, past, snapshot },
      profile: await profileOf(snapshot, this.#options.profile),
      ...(done.rotatedTo === undefined ? {} : { rotatedTo: done.rotatedTo }),
    };
    for (const step of stage.case.scenario.after) if (step.step === 'tamper') await tamper(scene, step.run);
    return scene;
  }

  /** From the newest snapshot to the oldest, until one comes back and passes all checks. */
  async #fallBack(stage: Stage, done: Simulated, result: ScenarioResult): Promise<Recovered> {
    const passedOver: string[] = [];
    const candidates = await this.#candidates(stage);
    for (const [i, candidate] of candidates.slice(0, TRIED_MAX).entries()) {
      const hostName = `try-${i}`;
      try {
        const recovered = await this.#bringBack(stage, done, candidate.id, hostName);
        recovered.outcomes = await this.#check(recovered.scene);
        const lost = recovered.scene.recovered.lost.length;
        const failed = recovered.outcomes.filter((one): one is Check => !isSkipped(one) && !one.ok);
        if (failed.length === 0 && lost === 0) {
          recovered.outcomes.push(this.#fallback(candidate, candidates, passedOver));
          return recovered;
        }
        await recovered.scene.past[Symbol.asyncDispose]();
        const why = failed.map(({ name, detail }) => `${name}: ${detail}`).join('; ');
        passedOver.push(`${nameOf(candidate)}: ${why || `${lost} files are lost`}`);
      } catch (error) {
        if (!isSurvivable(error)) throw error;
        passedOver.push(`${nameOf(candidate)}: ${error.message}`);
      }
      removeTree(`${stage.world.folder}/${hostName}`);
    }
    const problem = `none of ${passedOver.length} snapshots passes all checks`;
    result.checks.push(checkOf('fallback', [problem], '', { passedOver }));
    throw new HoldfastError('damaged', problem, { hint: 'What each lacks is in the evidence of the check fallback.' });
  }

  async #candidates(stage: Stage): Promise<SeenSnapshot[]> {
    await using past = await openPast(stage);
    return past.snapshots.toReversed();
  }

  #fallback(taken: SeenSnapshot, all: readonly SeenSnapshot[], passedOver: readonly string[]): Check {
    const [newest = taken] = all;
    const back = Date.parse(newest.record.time) - Date.parse(taken.record.time);
    const steps = passedOver.length;
    const what = `fell back ${steps} of ${all.length} snapshots, ${formatDuration(back)}, to ${nameOf(taken)}, which passes all checks`;
    const problems = steps === 0 ? ['the newest snapshot passed, though it was made useless'] : [];
    return checkOf('fallback', problems, what, { steps, seconds: Math.round(back / 1000), to: taken.id, passedOver });
  }

  async #check(scene: Scene): Promise<Outcome[]> {
    const { scenario } = scene.case;
    const wants = (name: CheckName) => hasCheck(scenario, name);
    const outcomes: Outcome[] = [];
    if (wants('identity')) outcomes.push(await checkIdentity(scene));
    if (wants('chain')) outcomes.push(checkChain(scene));
    if (wants('newest')) outcomes.push(checkNewest(scene));
    const backends = wants('backends') ? await checkBackends(scene) : undefined;
    const isToldByBackends = backends !== undefined && !isSkipped(backends) && !backends.ok;
    const ofState = ['files', 'parse', 'databases', 'memory', 'scaffold', 'agent-keys', 'tasks', 'handoff'] as const;
    if (ofState.some(wants)) {
      const findings = await inspectState(scene);
      const all = stateChecks(scene, findings, isToldByBackends);
      for (const name of ofState) {
        if (!wants(name)) continue;
        const outcome = name === 'handoff' ? await checkHandoff(scene, findings) : all[name];
        if (outcome) outcomes.push(outcome);
      }
    }
    if (backends) outcomes.push(backends);
    if (wants('commands')) outcomes.push(...(await checkCommands(scene)));
    return outcomes;
  }

  async #drift(
    past: Scene['past'],
    snapshot: SeenSnapshot,
    signal: AbortSignal | undefined,
  ): Promise<Drift | { unknown: string }> {
    const known = this.#drifts.get(snapshot.id);
    const drift = known ?? (await driftSince(this.#options.state, past, snapshot, signal));
    this.#drifts.set(snapshot.id, drift);
    return drift;
  }

  /** Proved by the words, or by what this host has on record; an age key alone takes the repository at its word. */
  #identity({ recovered, options: { record } }: Scene, result: ScenarioResult): ScenarioResult['identity'] {
    const check = result.checks.find(({ name }) => name === 'identity');
    const isProved =
      recovered.identity.continuous || record.identityFile !== undefined || record.writerKeyFile !== undefined;
    return { continuous: check?.ok === true && isProved, publicKey: recovered.agent.publicKey };
  }
}
