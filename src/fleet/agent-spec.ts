/** From what a config asks for to how an agent is looked at. */
import type { Clock } from '../clock.ts';
import type { Layer, LayerPolicy } from './health.ts';
import type { AgentSpec, LayerSpec } from './prober.ts';
import { commandProbe, type CommandContext } from './probes/command.ts';
import { fileProbe, folderStats, type FileSpec } from './probes/file.ts';
import { httpProbe, type HttpSpec } from './probes/http.ts';
import { processProbe, processStats, type ProcessSpec } from './probes/process.ts';
import type { Probe, StatsProbe } from './probes/probe.ts';
import {
  activityJudge,
  depthByCommand,
  errorsJudge,
  httpProgress,
  idleJudge,
  memoryJudge,
  queueJudge,
  statsProbe,
  together,
  withErrorRate,
  type StatsSpec,
} from './probes/stats.ts';
import { tcpProbe, type TcpSpec } from './probes/tcp.ts';

export type ProbeSpec =
  { http: HttpSpec } | { tcp: TcpSpec } | { command: string } | { process: ProcessSpec } | { file: FileSpec };

export type ProgressSpec =
  | Exclude<ProbeSpec, { http: HttpSpec }>
  | { http: HttpSpec & { withinMs?: number; field?: string } }
  | { told: 'lastActivityMs' | 'lastTaskMs'; withinMs: number };

/** What the config asks for of one agent; each with its policy, defaults filled in. */
export interface AgentSettings {
  critical: boolean;
  /** `AgentSpec.asked` */
  asked?: string;
  live?: { look: ProbeSpec; policy: LayerPolicy };
  ready?: { look: ProbeSpec; policy: LayerPolicy };
  /** `idle`: that an agent without a task in progress need make no progress. */
  progress?: { look: ProgressSpec; idle: boolean; policy: LayerPolicy };
  stats?: { look: StatsSpec; policy: LayerPolicy };
  queue?: { max: number; folder?: string; command?: string; policy: LayerPolicy };
  errors?: { max: number; policy: LayerPolicy };
  memory?: { max: { bytes: number } | { share: number }; policy: LayerPolicy };
  /** Paths of configs of holdfast. */
  backup?: { config: string; withinMs?: number; policy: LayerPolicy };
  drill?: { config: string; policy: LayerPolicy };
}

export interface SpecSeams {
  clock: Clock;
  /** Where commands run. */
  folder: string;
  env: Readonly<Record<string, string | undefined>>;
  /** What tells the freshness of backups and drills: whoever can read configs and keys. */
  backup: (config: string, withinMs: number | undefined) => Probe;
  drill: (config: string) => Probe;
}

export function agentSpec(name: string, settings: AgentSettings, seams: SpecSeams): AgentSpec {
  const { clock } = seams;
  const context: CommandContext = { clock, folder: seams.folder, env: { ...seams.env, HOLDFAST_AGENT: name } };
  const { live, ready, progress, stats, queue, errors, memory, backup, drill } = settings;
  const layers: Partial<Record<Layer, LayerSpec>> = {
    ...(live && { live: { policy: live.policy, ...looking(live.look, context) } }),
    ...(ready && { ready: { policy: ready.policy, ...looking(ready.look, context) } }),
    ...(progress && { progress: progressLayer(progress, context) }),
    ...(backup && {
      backup: { policy: backup.policy, cost: 'heavy', probe: seams.backup(backup.config, backup.withinMs) },
    }),
    ...(drill && { drill: { policy: drill.policy, cost: 'heavy', probe: seams.drill(drill.config) } }),
    ...(queue && { queue: { policy: queue.policy, cost: 'light', judge: queueJudge(queue.max) } }),
    ...(errors && { errors: { policy: errors.policy, cost: 'light', judge: errorsJudge(errors.max) } }),
    ...(memory && { memory: { policy: memory.policy, cost: 'light', judge: memoryJudge(memory.max) } }),
  };
  const { sources, usesCommand } = statsSources(settings, context);
  const policy = stats?.policy ?? queue?.policy ?? memory?.policy;
  return {
    ...{ name, critical: settings.critical, layers, ...(settings.asked !== undefined && { asked: settings.asked }) },
    ...(policy &&
      sources.length > 0 && {
        stats: {
          ask: withErrorRate(together(sources), clock),
          ...{ intervalMs: policy.intervalMs, timeoutMs: policy.timeoutMs },
          cost: usesCommand ? 'process' : 'light',
        },
      }),
  };
}

function looking(look: ProbeSpec, context: CommandContext): Pick<LayerSpec, 'cost'> & { probe: Probe } {
  if ('http' in look) return { cost: 'light', probe: httpProbe(look.http, context.env) };
  if ('tcp' in look) return { cost: 'light', probe: tcpProbe(look.tcp) };
  if ('command' in look) return { cost: 'process', probe: commandProbe(look.command, context) };
  if ('process' in look) return { cost: 'light', probe: processProbe(look.process, context.clock) };
  return { cost: 'light', probe: fileProbe(look.file, context.clock) };
}

function progressLayer(
  { look, idle, policy }: NonNullable<AgentSettings['progress']>,
  context: CommandContext,
): LayerSpec {
  if ('told' in look) {
    const judge = activityJudge(look.told, look.withinMs);
    return { policy, cost: 'light', judge: idle ? idleJudge(judge) : judge };
  }
  const { cost, probe } =
    'http' in look ? { cost: 'light' as const, probe: httpProgress(look.http, context) } : looking(look, context);
  return { policy, cost, probe, ...(idle && { judge: idleJudge() }) };
}

/** Memory comes from the process that says whether it lives, where there is one; what the agent tells itself counts for more. */
function statsSources(
  { live, stats, queue, memory }: AgentSettings,
  context: CommandContext,
): { sources: StatsProbe[]; usesCommand: boolean } {
  const sources: StatsProbe[] = [];
  if (memory && live && 'process' in live.look) sources.push(processStats(live.look.process, context.clock));
  if (stats) sources.push(statsProbe(stats.look, context));
  if (queue?.folder !== undefined) sources.push(folderStats(queue.folder));
  if (queue?.command !== undefined) sources.push(depthByCommand(queue.command, context));
  return { sources, usesCommand: queue?.command !== undefined || (stats !== undefined && 'command' in stats.look) };
}
