/** What holdfast is meant to reach, as data, and how a run compares with it. Nothing follows from a miss but that it is shown. */
import type { CorpusName } from './corpus.ts';
import { MEASUREMENTS } from './results.ts';
import type { BenchResult, MeasurementName, PeerName, TargetResult } from './results.ts';

const MB = 1e6;

/** [tree, or `s3`: the agents in a bucket; measurement, peer, ratio holdfast : peer at most] */
const RATIOS: [CorpusName | 's3', MeasurementName, PeerName | 'smaller', number][] = [
  ['agents', 'firstBackup', 'restic', 0.4],
  ['agents', 'firstBackup', 'borg', 0.4],
  ['agents', 'unchanged', 'restic', 0.3],
  ['agents', 'unchanged', 'borg', 0.4],
  ['agents', 'change', 'restic', 0.35],
  ['agents', 'change', 'borg', 0.35],
  ['agents', 'changeBytes', 'restic', 0.3],
  ['agents', 'changeBytes', 'borg', 0.1],
  ['agents', 'restore', 'restic', 0.6],
  ['agents', 'restore', 'borg', 0.35],
  ['agents', 'check', 'restic', 0.8],
  ['agents', 'check', 'borg', 0.5],
  ['agents', 'restoreOne', 'restic', 0.5],
  ['agents', 'restoreOne', 'borg', 0.5],
  ['agents', 'size', 'smaller', 1],
  ['small', 'firstBackup', 'restic', 0.6],
  ['small', 'firstBackup', 'borg', 0.6],
  ['small', 'unchanged', 'restic', 0.4],
  ['small', 'unchanged', 'borg', 0.4],
  ['s3', 'firstBackup', 'restic', 0.6],
  ['s3', 'restore', 'restic', 0.7],
];

interface Limit {
  part: string;
  measurement: string;
  unit: 'B' | 'ms' | 's' | '%';
  limit: number;
  valueIn: (result: BenchResult) => number | undefined;
}

const memoryAt =
  (files: number) =>
  (result: BenchResult): number | undefined =>
    result.growth?.byFiles.find((point) => point.files === files && !point.leftOut)?.memory;

const LIMITS: Limit[] = [
  {
    part: 'agents',
    measurement: MEASUREMENTS.memorySum.label,
    unit: 'B',
    limit: 200 * MB,
    valueIn: (result) => result.corpora['agents']?.measurements.memorySum?.tools.holdfast?.median,
  },
  { part: 'growth', measurement: 'peak memory at 10^4 files', unit: 'B', limit: 200 * MB, valueIn: memoryAt(1e4) },
  { part: 'growth', measurement: 'peak memory at 10^6 files', unit: 'B', limit: 350 * MB, valueIn: memoryAt(1e6) },
  {
    part: 'start',
    measurement: '`holdfast --version` beyond `node -e 0`',
    unit: 'ms',
    limit: 60,
    valueIn: (result) => result.start?.version.median,
  },
  {
    part: 'start',
    measurement: '`holdfast snapshots` beyond `node -e 0`',
    unit: 'ms',
    limit: 150,
    valueIn: (result) => result.start?.snapshots.median,
  },
  {
    part: 'fleet',
    measurement: 'CPU of `fleet watch`, 1,000 agents every 10 s',
    unit: '%',
    limit: 10,
    valueIn: ({ fleet }) => fleet && 100 * fleet.cpu,
  },
  {
    part: 'fleet',
    measurement: '`fleet check`, 200 agents of which 20 cannot be reached',
    unit: 's',
    limit: 5,
    valueIn: ({ fleet }) => fleet?.check.seconds.max,
  },
];

/** Every target, with what the run found for it: null where the run did not measure it. */
export function targetsOf(result: BenchResult): TargetResult[] {
  const judged = (target: Omit<TargetResult, 'value' | 'met'>, value: number | undefined): TargetResult => ({
    ...target,
    value: value ?? null,
    met: value === undefined ? null : value <= target.limit,
  });
  return [
    ...RATIOS.map(([part, name, peer, limit]) =>
      judged(
        { part, measurement: MEASUREMENTS[name].label, peer, unit: 'ratio', limit },
        result.corpora[part]?.measurements[name]?.ratios[peer]?.median,
      ),
    ),
    ...LIMITS.map(({ part, measurement, unit, limit, valueIn }) =>
      judged({ part, measurement, peer: null, unit, limit }, valueIn(result)),
    ),
  ];
}
