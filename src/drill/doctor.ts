/**
 * `doctor`: how much this agent would survive, as a level with the evidence for it, and what to do next. Nothing counts that was not looked at: a
 * backend that cannot be reached, a paper that nobody has typed in, a drill that was never run are no evidence.
 */
import { readdir, realpath } from 'node:fs/promises';
import type { Warning } from '../entry.ts';
import { isSurvivable, type HoldfastError } from '../errors.ts';
import { failureDomain, THIS_MACHINE, type FailureDomain } from '../operations/failure-domain.ts';
import { identityLog, type IdentityLog, type LogOptions } from '../operations/identity-log.ts';
import { listSnapshots, type SnapshotRow } from '../operations/look.ts';
import type { Runs } from '../operations/host/runs.ts';
import type { Seams } from '../operations/seams.ts';
import { DAY_MS, formatDuration } from '../units.ts';
import type { BackendAddress } from '../operations/backends.ts';
import { drillDue, type DrillHistory } from './history.ts';

export const LEVELS = [
  'ephemeral',
  'state in files',
  'encrypted backups in different places',
  'identity recoverable, kept apart from the state',
  'several instances',
] as const;
export type Level = 0 | 1 | 2 | 3 | 4;

/** What a level asks for, and whether it is so. */
export interface Evidence {
  name: string;
  ok: boolean;
  /** What was seen. */
  found: string;
  /** One command, where it is not so. */
  fix: string | null;
}

export interface DoctorResult {
  level: Level;
  name: (typeof LEVELS)[number];
  levels: { level: Level; name: string; met: boolean; evidence: Evidence[] }[];
  /** What a dead machine can take: losing the identity is final, the rest can be had again. */
  triangle: Record<'identity' | 'state' | 'connectivity', { safe: boolean; found: string }>;
  /** The one thing to do now; null when there is nothing. */
  next: { why: string; command: string } | null;
  warnings: Warning[];
}

export interface DoctorOptions {
  /** Absent where the config has no such section. */
  state?: { root: string; profile: string } | undefined;
  backends: readonly BackendAddress[];
  require: number;
  /** Of the agent's host; or why the keys cannot be used. */
  log: LogOptions | HoldfastError;
  /** Paths of the agent's key files. */
  keyFiles: readonly string[];
  runs: Runs;
  /** When somebody last compared the paper with the repository; milliseconds since the Unix epoch. */
  paperMs?: number | undefined;
  drills: DrillHistory;
  /** How old each may be. */
  within: { backupMs: number; verifyMs: number; paperMs: number; drillMs: number };
}

export const WITHIN = {
  backupMs: 26 * 3_600_000,
  verifyMs: 30 * DAY_MS,
  paperMs: 400 * DAY_MS,
  drillMs: 90 * DAY_MS,
} as const;
/** Hosts that have written within this time are running. */
const RUNNING_MS = 30 * DAY_MS;

interface Seen {
  snapshots: readonly SnapshotRow[];
  log: IdentityLog | undefined;
  /** Why there is nothing to see. */
  problem: string | undefined;
}

export async function doctor(options: DoctorOptions, seams: Seams): Promise<DoctorResult> {
  const nowMs = seams.clock.now();
  const warnings: Warning[] = [];
  const seen = await look(options, seams, warnings);
  const domains = new Map<string, FailureDomain>();
  for (const { name, url } of options.backends) domains.set(name, await failureDomain(url));
  const newest = seen.snapshots.at(-1);

  const levels = [
    { level: 1 as const, evidence: [await stateInFiles(options)] },
    { level: 2 as const, evidence: backedUp(options, seen, domains, nowMs) },
    { level: 3 as const, evidence: recoverable(options, await keysIn(options), seen, nowMs) },
    { level: 4 as const, evidence: several(seen, nowMs) },
  ].map(({ level, evidence }) => ({
    level,
    name: LEVELS[level],
    met: evidence.every(({ ok }) => ok),
    evidence,
  }));
  const missing = levels.find(({ met }) => !met);
  const level = (missing ? missing.level - 1 : 4) as Level;
  const lacking = missing?.evidence.find(({ ok }) => !ok);
  return {
    level,
    name: LEVELS[level],
    levels,
    triangle: triangle(levels, seen, newest, nowMs),
    next: lacking?.fix ? { why: `${lacking.name}: ${lacking.found}`, command: lacking.fix } : null,
    warnings,
  };
}

async function look({ log, backends }: DoctorOptions, seams: Seams, warnings: Warning[]): Promise<Seen> {
  if ('code' in log) return { snapshots: [], log: undefined, problem: log.message };
  try {
    const listed = await listSnapshots({ backends, access: log.access }, seams);
    const identity = await identityLog(log, seams);
    warnings.push(...listed.warnings);
    for (const warning of identity.warnings)
      if (!listed.warnings.some(({ message }) => message === warning.message)) warnings.push(warning);
    return { snapshots: listed.snapshots, log: identity, problem: undefined };
  } catch (error) {
    if (!isSurvivable(error)) throw error;
    return { snapshots: [], log: undefined, problem: error.message };
  }
}

async function stateInFiles({ state }: DoctorOptions): Promise<Evidence> {
  const name = 'state in files';
  if (!state)
    return {
      name,
      ok: false,
      found: 'the config names no `state.root`',
      fix: 'holdfast init --handle NAME --state DIR --backend NAME=URL',
    };
  const entries = await readdir(state.root).catch(() => undefined);
  const ok = entries !== undefined && entries.length > 0;
  const found = entries === undefined ? 'cannot be read' : `${entries.length} entries, profile ${state.profile}`;
  return { name, ok, found: `${state.root}: ${found}`, fix: ok ? null : `ls -la ${state.root}` };
}

function backedUp(
  { backends, require, runs, within, state, log }: DoctorOptions,
  { snapshots, problem }: Seen,
  domains: ReadonlyMap<string, FailureDomain>,
  nowMs: number,
): Evidence[] {
  const newest = snapshots.at(-1);
  const holders = newest?.backends ?? [];
  const wanted = Math.max(2, require);
  const behind = backends.filter(({ name }) => !holders.includes(name)).map(({ name }) => name);
  const places = new Set(holders.map((name) => key(domains.get(name))));
  const away = holders.filter((name) => domains.get(name)?.machine !== THIS_MACHINE);
  const ageMs = newest ? nowMs - Date.parse(newest.time) : Infinity;
  const alarm = snapshots.findLast(({ suspicious, acknowledged }) => suspicious.length > 0 && !acknowledged);
  const { verify } = runs;
  const verifyMs = verify?.successMs;
  const isVerified =
    verifyMs !== undefined && verifyMs <= nowMs && nowMs - verifyMs <= within.verifyMs && verify?.endedMs === verifyMs;
  const backupCommand = 'holdfast backup';
  return [
    {
      name: 'newest snapshot on two backends',
      ok: holders.length >= wanted,
      found: !newest
        ? (problem ?? 'there is no snapshot')
        : `${newest.id.slice(0, 8)} is on ${listed(holders)}${behind.length > 0 ? `, not on ${listed(behind)}` : ''}; ${wanted} wanted${backends.length < wanted ? ': add another to the config' : ''}`,
      fix:
        holders.length >= wanted
          ? null
          : problem !== undefined
            ? whyBlind({ log, backends })
            : newest || backends.length < wanted
              ? 'holdfast sync'
              : backupCommand,
    },
    {
      name: 'in different failure domains',
      ok: places.size >= 2 && away.length > 0,
      found:
        holders.length === 0
          ? 'no backend holds it'
          : `${holders.map((name) => `${name}: ${placeText(domains.get(name))}`).join('; ')}${away.length === 0 ? '; nothing is away from this machine: add a backend that is to the config' : ''}`,
      fix: places.size >= 2 && away.length > 0 ? null : 'holdfast sync',
    },
    {
      name: 'fresh',
      ok: ageMs >= -60_000 && ageMs <= within.backupMs,
      found: !newest
        ? 'there is no snapshot'
        : ageMs < -60_000
          ? `the newest snapshot is dated ${formatDuration(-ageMs)} from now: a clock is wrong`
          : `the newest snapshot is ${formatDuration(Math.max(0, ageMs))} old, at most ${formatDuration(within.backupMs)} wanted`,
      fix: ageMs >= -60_000 && ageMs <= within.backupMs ? null : state ? backupCommand : null,
    },
    {
      name: 'no alarm',
      ok: newest !== undefined && alarm === undefined,
      found: alarm
        ? `snapshot ${alarm.id.slice(0, 8)} is suspicious (${alarm.suspicious[0]?.code}), and nobody has acknowledged it`
        : newest
          ? 'no snapshot waits to be looked at'
          : 'there is no snapshot',
      fix: alarm ? `holdfast diff ${alarm.id.slice(0, 8)}~1 ${alarm.id.slice(0, 8)}` : null,
    },
    {
      name: 'verified',
      ok: isVerified,
      found:
        verifyMs === undefined
          ? 'never on this host'
          : verify?.endedMs === verifyMs
            ? `${formatDuration(nowMs - verifyMs)} ago without damage`
            : `the last verification ended with exit code ${verify?.exitCode}`,
      fix: isVerified ? null : 'holdfast verify --level objects',
    },
  ];
}

/** What shows why nothing on the backends can be looked at. */
const whyBlind = ({ log, backends }: Pick<DoctorOptions, 'log' | 'backends'>): string =>
  'code' in log ? 'holdfast recover --from URL --target DIR' : `holdfast backend test ${backends[0]?.name}`;

const key = (domain: FailureDomain | undefined): string => `${domain?.machine} ${domain?.place}`;
const placeText = (domain: FailureDomain | undefined): string =>
  domain === undefined
    ? 'unknown'
    : domain.machine === THIS_MACHINE
      ? `this machine (${domain.place})`
      : domain.machine;
const listed = (names: readonly string[]): string => (names.length === 0 ? 'none' : names.join(', '));

/** Key files that lie in the state, by whatever links. */
async function keysIn({ keyFiles, state }: DoctorOptions): Promise<string[]> {
  if (!state) return [];
  const real = (path: string) => realpath(path).catch(() => path);
  const roots = [`${state.root}/`, `${await real(state.root)}/`];
  const found: string[] = [];
  for (const path of keyFiles) {
    const places = [path, await real(path)];
    if (places.some((place) => roots.some((root) => place.startsWith(root)))) found.push(path);
  }
  return found;
}

function recoverable(
  { log, state, paperMs, drills, within }: DoctorOptions,
  inState: readonly string[],
  seen: Seen,
  nowMs: number,
): Evidence[] {
  const paperOk = paperMs !== undefined && paperMs <= nowMs && nowMs - paperMs <= within.paperMs;
  const { due, last, failed } = drillDue(drills, within.drillMs, nowMs);
  const isRevoked = seen.log?.isRevoked ?? false;
  return [
    {
      name: 'keys of this host fit',
      ok: !('code' in log) && seen.log !== undefined && !isRevoked,
      found:
        'code' in log
          ? log.message
          : isRevoked
            ? 'the key of the agent was revoked'
            : (seen.problem ??
              `the key on record is ${seen.log?.entries.findLast(({ state: now }) => now === 'current')?.agent.fingerprint}`),
      fix:
        'code' in log
          ? 'holdfast recover --from URL --target DIR'
          : isRevoked
            ? 'holdfast identity rotate'
            : seen.log
              ? null
              : 'holdfast identity log',
    },
    {
      name: 'keys apart from the state',
      ok: inState.length === 0,
      found:
        inState.length === 0
          ? 'no key of holdfast lies in the state'
          : `${listed(inState)} lies in the state: move it, and name the new place in the config`,
      fix: inState.length === 0 ? null : `mv ${inState[0]} ${state?.root}/..`,
    },
    {
      name: 'paper verified',
      ok: paperOk,
      found:
        paperMs === undefined
          ? 'nobody has typed it in on this host'
          : `${formatDuration(Math.max(0, nowMs - paperMs))} ago`,
      fix: paperOk ? null : 'holdfast paper verify',
    },
    {
      name: 'drill passed',
      ok: !due,
      found: failed
        ? `the last one failed, ${failed.result.started}`
        : last
          ? `${formatDuration(nowMs - Date.parse(last.result.started))} ago: ${last.result.scenarios.map(({ name }) => name).join(', ')}`
          : drills.drills.length > 0
            ? 'no drill on this host has looked at a whole recovery'
            : 'never on this host',
      fix: due ? 'holdfast drill run' : null,
    },
  ];
}

function several({ snapshots, log }: Seen, nowMs: number): Evidence[] {
  const recent = snapshots.filter(({ time }) => nowMs - Date.parse(time) <= RUNNING_MS);
  const hosts = [...new Set(recent.map(({ host }) => host))];
  const relays = log?.relays ?? [];
  return [
    {
      name: 'two instances',
      ok: hosts.length >= 2,
      found: `snapshots of the last ${formatDuration(RUNNING_MS)} come from ${hosts.length === 0 ? 'no host' : listed(hosts)}${hosts.length === 1 ? ' alone: recover on a second machine' : ''}`,
      fix: hosts.length >= 2 ? null : 'holdfast recover --from URL --target DIR',
    },
    {
      name: 'two relays on record',
      ok: relays.length >= 2,
      found: relays.length === 0 ? 'the identity log names none' : listed(relays),
      fix: relays.length >= 2 ? null : 'holdfast identity relays URL URL',
    },
  ];
}

function triangle(
  levels: DoctorResult['levels'],
  { log }: Seen,
  newest: SnapshotRow | undefined,
  nowMs: number,
): DoctorResult['triangle'] {
  const of = (name: string) => levels.flatMap(({ evidence }) => evidence).find((one) => one.name === name);
  const paper = of('paper verified');
  const copies = newest?.backends.length ?? 0;
  const relays = log?.relays ?? [];
  return {
    identity: {
      safe: (paper?.ok ?? false) && copies > 0,
      found: `wrapped on ${copies} backends; paper verified: ${paper?.found ?? 'never'}`,
    },
    state: {
      safe: levels.every(({ level, met }) => level > 2 || met),
      found: newest
        ? `snapshot ${newest.id.slice(0, 8)}, ${formatDuration(Math.max(0, nowMs - Date.parse(newest.time)))} old, on ${listed(newest.backends)}`
        : 'no snapshot',
    },
    connectivity: {
      safe: relays.length >= 2,
      found: relays.length === 0 ? 'no relay on record' : listed(relays),
    },
  };
}
