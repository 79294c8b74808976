/** What the benchmark finds, as `--json` prints it, and the arithmetic on it. */

export const TOOL_NAMES = ['holdfast', 'restic', 'borg'] as const;
export type ToolName = (typeof TOOL_NAMES)[number];
export const PEER_NAMES = ['restic', 'borg'] as const satisfies readonly ToolName[];
export type PeerName = (typeof PEER_NAMES)[number];

/** What is measured on a tree, in the order of the reports. Bytes and seconds; memory in bytes. */
export const MEASUREMENTS = {
  firstBackup: { label: 'first backup', unit: 's' },
  unchanged: { label: 'nothing changed', unit: 's' },
  change: { label: 'small change', unit: 's' },
  changeBytes: { label: 'bytes added by the small change', unit: 'B' },
  restore: { label: 'restore', unit: 's' },
  check: { label: 'read-everything check', unit: 's' },
  restoreOne: { label: 'restore of one file', unit: 's' },
  size: { label: 'repository size', unit: 'B' },
  cpu: { label: 'first backup, CPU time', unit: 's' },
  memoryLargest: { label: 'first backup, peak memory of one process', unit: 'B' },
  memorySum: { label: 'first backup, peak memory of all processes', unit: 'B' },
  restoreMemoryLargest: { label: 'restore, peak memory of one process', unit: 'B' },
  restoreMemorySum: { label: 'restore, peak memory of all processes', unit: 'B' },
  coldFirstBackup: { label: 'first backup, cold cache', unit: 's' },
  coldRestore: { label: 'restore, cold cache', unit: 's' },
} as const satisfies Record<string, { label: string; unit: 's' | 'B' }>;
export type MeasurementName = keyof typeof MEASUREMENTS;
export const MEASUREMENT_NAMES = Object.keys(MEASUREMENTS) as MeasurementName[];

/** The values of all rounds, in their order, and what they come to. */
export interface Series {
  median: number;
  min: number;
  max: number;
  values: number[];
}

/** One measurement by all tools. A ratio is holdfast : peer in the same round; a tool that was not measured is not there. */
export interface Comparison {
  label: string;
  unit: 's' | 'B';
  tools: Partial<Record<ToolName, Series>>;
  ratios: Partial<Record<PeerName | 'smaller', Series>>;
}

/** One tree. `files` and `bytes` are those of the tree before any change. */
export interface CorpusResult {
  title: string;
  /** Where the repositories are, where that is no folder. */
  place?: string;
  files: number;
  bytes: number;
  rounds: number;
  measurements: Partial<Record<MeasurementName, Comparison>>;
}

/** Milliseconds; `version` and `snapshots` are what they take longer than `node`, a Node that does nothing. */
export interface StartResult {
  node: Series;
  version: Series;
  snapshots: Series;
}

/** What it costs to watch a fleet, and how long `fleet check` takes where some never answer. */
export interface FleetResult {
  agents: number;
  intervalSeconds: number;
  /** For so long it was measured. */
  seconds: number;
  /** Looks at an agent that were due in this time, and that were made. */
  looksDue: number;
  looks: number;
  /** Of one core, 0 to 1. */
  cpu: number;
  /** Of the watcher, at its peak. */
  memory: number;
  /** Wall time. */
  check: { agents: number; unreachable: number; seconds: Series };
}

/** One size of the growth study: medians of `rounds` runs, or why there are none. */
export interface GrowthPoint {
  files: number;
  bytes: number;
  leftOut?: string;
  rounds: number;
  firstBackup: number;
  unchanged: number;
  restore: number;
  memory: number;
  restoreMemory: number;
  size: number;
}

/** How a cost grows from one size to the next: exponents (1 is linear), and bytes of memory for each further file or byte. */
export interface GrowthSlope {
  from: string;
  to: string;
  firstBackup: number;
  unchanged: number;
  restore: number;
  memory: number;
  restoreMemory: number;
}

/** A line through the last two sizes, read at 10^8 chunks. */
export interface GrowthPrediction {
  of: string;
  chunks: number;
  memory: number;
  restoreMemory: number;
}

export interface GrowthResult {
  byFiles: GrowthPoint[];
  byBytes: GrowthPoint[];
  slopes: GrowthSlope[];
  predictions: GrowthPrediction[];
}

export interface TargetResult {
  part: string;
  measurement: string;
  /** The peer of the ratio, 'smaller' for the better of the two, or null for a limit of holdfast alone. */
  peer: PeerName | 'smaller' | null;
  unit: 'ratio' | 'B' | 'ms' | 's' | '%';
  limit: number;
  /** null where it was not measured. */
  value: number | null;
  met: boolean | null;
}

export interface ToolInfo {
  name: ToolName;
  version: string;
  settings: string;
}

export interface BenchResult {
  date: string;
  seconds: number;
  scale: number;
  machine: Record<string, string | number | boolean>;
  tools: ToolInfo[];
  /** Peers that could not be had, and the server of the part `s3`. */
  notMeasured: { name: ToolName | 's3'; reason: string }[];
  corpora: Record<string, CorpusResult>;
  start?: StartResult;
  growth?: GrowthResult;
  fleet?: FleetResult;
  targets: TargetResult[];
}

/** The middle value; of an even number of them the mean of the middle two. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error('no median of nothing');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

export function series(values: readonly number[]): Series {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values), values: [...values] };
}

/** One measurement from the values of each tool, round by round. */
export function comparison(name: MeasurementName, values: Partial<Record<ToolName, number[]>>): Comparison {
  const result: Comparison = { ...MEASUREMENTS[name], tools: {}, ratios: {} };
  for (const tool of TOOL_NAMES) if (values[tool]) result.tools[tool] = series(values[tool]);
  const ours = values.holdfast;
  if (!ours) return result;
  const by = (divisors: readonly number[]) => series(ours.map((value, round) => value / (divisors[round] as number)));
  for (const peer of PEER_NAMES) if (values[peer]) result.ratios[peer] = by(values[peer]);
  const { restic, borg } = values;
  // With one peer alone nobody knows which is the smaller.
  if (restic && borg) result.ratios.smaller = by(restic.map((value, round) => Math.min(value, borg[round] as number)));
  return result;
}
