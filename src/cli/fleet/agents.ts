/** From the config to how its agents are looked at; and the names of agents that somebody writes. */
import { dirname } from 'node:path';
import { HoldfastError, isSurvivable } from '../../errors.ts';
import { agentSpec, type AgentSettings } from '../../fleet/agent-spec.ts';
import type { AgentSpec } from '../../fleet/prober.ts';
import { aged } from '../../fleet/probes/file.ts';
import { failed, found, type Finding } from '../../fleet/probes/probe.ts';
import type { Seams } from '../../operations/seams.ts';
import { formatDuration } from '../../units.ts';
import { loadConfig, requireSections, type Config } from '../config.ts';
import { accessOf, readWriterKey } from '../context.ts';
import { checkOwner, withoutSecrets } from '../run-report.ts';
import { nearest } from '../suggest.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws `insecure_permissions` when others can write the config, and with it the commands that it names */
export function agentSpecs(config: Config, env: Environment, seams: Seams): AgentSpec[] {
  const agents = Object.entries(config.fleet?.watched ?? {});
  if (agents.some(([, settings]) => hasCommand(settings)))
    checkOwner(config.path, 'commands for the fleet', '`fleet.agents`');
  const { clock } = seams;
  return agents.map(([name, settings]) =>
    agentSpec(name, settings, {
      ...{ clock, folder: dirname(config.path), env: { ...withoutSecrets(env), HOLDFAST_CONFIG: config.path } },
      backup: (path, withinMs) => (signal) => told(() => backupFreshness(path, withinMs, { ...seams, signal })),
      drill: (path) => (signal) => told(() => drillFreshness(path, { ...seams, signal })),
    }),
  );
}

function hasCommand({ live, ready, progress, stats, queue }: AgentSettings): boolean {
  const looks = [live?.look, ready?.look, progress?.look, stats?.look];
  return queue?.command !== undefined || looks.some((look) => look && 'command' in look);
}

/** What keeps from looking is a finding, too. */
async function told(look: () => Promise<Finding>): Promise<Finding> {
  try {
    return await look();
  } catch (error) {
    if (!isSurvivable(error)) throw error;
    return failed(error.message);
  }
}

/** By what the backends hold now: what this host remembers of its runs is no backup. */
async function backupFreshness(path: string, within: number | undefined, seams: Seams): Promise<Finding> {
  const { freshness } = await import('../../operations/freshness.ts');
  const { WITHIN } = await import('../../drill/doctor.ts');
  const config = requireSections(await loadConfig(path), 'agent', 'backends');
  const access = accessOf(await readWriterKey(config.agent));
  const { newest, unreadable, failed: gone } = await freshness({ backends: config.backends, access }, seams);
  const besides = [
    ...(unreadable > 0 ? [`${unreadable} newer ones cannot be read`] : []),
    ...gone.map(({ name, error }) => `backend ${name}: ${error.message}`),
  ];
  const because = besides.length > 0 ? ` (${besides.join('; ')})` : '';
  if (!newest) return failed(`no snapshot on the backends${because}`);
  const finding = aged(
    'the newest snapshot',
    newest.timeMs,
    within ?? config.drill?.rpoMs ?? WITHIN.backupMs,
    seams.clock.now(),
  );
  const { require } = config.commit;
  if (finding.ok && newest.backends.length < require) {
    const behind = config.backends.filter(({ name }) => !newest.backends.includes(name)).map(({ name }) => name);
    const evidence = `the newest snapshot is on ${newest.backends.length} of the ${require} backends wanted, not on ${behind.join(', ')}${because}`;
    return { ...finding, ok: false, evidence };
  }
  return { ...finding, evidence: `${finding.evidence}, on ${newest.backends.join(', ')}${because}` };
}

/** By the signed drills that this host keeps, and those on the backends. */
async function drillFreshness(path: string, seams: Seams): Promise<Finding> {
  const { readKeptDrills, storeOptions } = await import('../drill/kept.ts');
  const { drillDue } = await import('../../drill/history.ts');
  const { mergeDrills, readDrillsOn } = await import('../../drill/stored.ts');
  const { WITHIN } = await import('../../drill/doctor.ts');
  const config = requireSections(await loadConfig(path), 'agent');
  const everyMs = config.drill?.everyMs ?? WITHIN.drillMs;
  const nowMs = seams.clock.now();
  const kept = await readKeptDrills(config);
  let { due, last } = drillDue(kept, everyMs, nowMs);
  let because = '';
  if (due && config.backends) {
    try {
      const { agent, backends } = config;
      const stored = await readDrillsOn(await storeOptions({ agent, backends }), seams);
      ({ due, last } = drillDue({ drills: mergeDrills(kept.drills, stored.drills), problems: [] }, everyMs, nowMs));
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      because = ` (on this host; the backends cannot tell: ${error.message})`;
    }
  }
  if (!last) return failed(`no drill has passed${because}`);
  const ageMs = nowMs - Date.parse(last.result.started);
  const shown = `the last drill that passed is ${formatDuration(ageMs)} old`;
  return due
    ? failed(`${shown}, and one is wanted every ${formatDuration(everyMs)}${because}`, ageMs / 1000)
    : found(shown, ageMs / 1000);
}

/** @throws `config_invalid` where there is no agent at all; `usage` on a name that is not in the config */
export function checkNames({ path, fleet }: Config, names: readonly string[]): void {
  const known = Object.keys(fleet?.watched ?? {});
  if (known.length === 0) {
    throw new HoldfastError('config_invalid', `${path}: there are no agents in \`fleet.agents\``, {
      hint: 'Name them, and what is looked at: see docs/fleet.md.',
    });
  }
  for (const name of names) {
    if (known.includes(name)) continue;
    const meant = nearest(name, known);
    throw new HoldfastError('usage', `there is no agent ${JSON.stringify(name)} in \`fleet.agents\``, {
      hint: meant === undefined ? `Agents are: ${known.slice(0, 20).join(', ')}.` : `Did you mean ${meant}?`,
    });
  }
}
