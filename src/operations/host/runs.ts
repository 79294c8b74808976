/** What the last runs of a config came to: what metrics, `schedule show` and the catching up of missed runs go by. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** Commands whose runs are remembered. */
export type RunKind = 'backup' | 'verify' | 'sync' | 'forget' | 'drill';

export interface RunRecord {
  /** Milliseconds since the Unix epoch. */
  startedMs: number;
  endedMs: number;
  seconds: number;
  exitCode: number;
  /** The end of the last run with exit code 0. */
  successMs?: number;
  /** Of the last run that had a result. */
  files?: number;
  bytes?: Readonly<Record<string, number>>;
  damaged?: number;
  /** Of the last drill that recovered something: the longest recovery, and the age of what came back. */
  recoverySeconds?: number;
  dataLossSeconds?: number;
  /** Of a drill: how many there are of each outcome. */
  scenarios?: Readonly<Record<'passed' | 'failed' | 'not_run', number>>;
  /** By backend: does it hold the snapshot of the last run? */
  committed?: Readonly<Record<string, boolean>>;
}

export type Runs = Partial<Record<RunKind, RunRecord>> & {
  /** When the paper was last compared with the repository on this host; milliseconds since the Unix epoch. */
  paperMs?: number;
};

/** Nothing when there was none, or the file cannot be used: then a run counts as due. */
export function readRuns(path: string): Runs {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** Adds the run to those that are remembered, and returns them. What a run without a result does not know is kept from the one before. */
export function recordRun(path: string, kind: RunKind, run: RunRecord): Runs {
  const before = readRuns(path);
  const runs = { ...before, [kind]: { ...before[kind], ...run } };
  write(path, runs);
  return runs;
}

/** Remembers that the paper was compared with the repository, and fits. @throws system errors */
export function recordPaper(path: string, verifiedMs: number): void {
  write(path, { ...readRuns(path), paperMs: verifiedMs });
}

function write(path: string, runs: Runs): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  replaceFile(path, JSON.stringify(runs), 0o600);
}

/** A whole file at once for whoever reads it. @throws system errors */
export function replaceFile(path: string, text: string, mode: number): void {
  writeFileSync(`${path}.${process.pid}.new`, text, { mode });
  renameSync(`${path}.${process.pid}.new`, path);
}
