/** What all reports of a drill say alike. */
import type { DataLoss, DrillResult, NotRun, Objective } from '../../drill/result.ts';
import { formatDuration, formatSize } from '../../units.ts';
import { count } from '../render.ts';

/** One word for the drill as a whole: what was not proved is no failure, and has not passed. */
export function verdictOf({
  ok,
  scenarios,
}: Pick<DrillResult, 'ok' | 'scenarios'>): 'passed' | 'FAILED' | 'INCOMPLETE' {
  if (ok) return 'passed';
  return scenarios.some((one) => !one.ok) ? 'FAILED' : 'INCOMPLETE';
}

/** Why a scenario was not run, and why nobody minds. */
export function notRunText({ why, accepted }: NotRun): string {
  return accepted === undefined ? why : `${why}; done without, as the config says: ${accepted}`;
}

/** Pairs of a name and what there is to say of the drill as a whole. */
export function drillFacts({
  started,
  seconds,
  agent,
  repository,
  backends,
  objectives,
}: DrillResult): [string, string][] {
  return [
    ['begun', `${started}, ${formatDuration(seconds * 1000)} in all`],
    ...(agent ? [['agent key', agent.fingerprint] as [string, string]] : []),
    ...(repository === null ? [] : [['repository', repository] as [string, string]]),
    [
      'backends',
      backends.map(({ name, ok, error }) => (ok ? name : `${name} FAILED${error ? ` (${error})` : ''}`)).join(', '),
    ],
    ['recovery time', objectiveText(objectives.rto)],
    ['data loss', objectiveText(objectives.rpo)],
  ];
}

export function objectiveText({ seconds, mostSeconds, ok }: Objective): string {
  const measured = secondsText(seconds);
  if (mostSeconds === null) return `${measured} (no objective is set)`;
  return `${measured} of ${secondsText(mostSeconds)} at most: ${ok === null ? 'not measured' : ok ? 'met' : 'MISSED'}`;
}

export function lossText(loss: DataLoss | null): string {
  if (loss === null) return 'not measured';
  const age = secondsText(Math.max(0, loss.seconds));
  if (loss.files === null || loss.bytes === null) return `${age} of work`;
  return `${count(loss.files, 'file')}, ${formatSize(loss.bytes)}, ${age} of work`;
}

export function secondsText(seconds: number | null): string {
  return seconds === null ? '-' : formatDuration(seconds * 1000);
}
