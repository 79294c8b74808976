/** What is wrong with an agent, worst first, and what to do about it: for somebody who has just woken up. */
import { isBad, LAYERS, VITAL, type AgentView, type Layer } from '../../../fleet/health.ts';

export interface Problem {
  what: string;
  /** What was seen. */
  evidence: string;
  sinceMs: number | null;
  next: string;
}

const OF_LAYER: Readonly<Record<Layer, { what: string; next: (agent: string) => string }>> = {
  live: { what: 'does not run', next: () => 'Start it, and read its log for why it ended.' },
  ready: { what: 'could not work', next: () => 'See to what the evidence names: its messaging, its model, its disk.' },
  progress: { what: 'makes no progress', next: () => 'Read its log; restart it if it hangs.' },
  backup: {
    what: 'backup is not fresh',
    next: () => 'Run `holdfast backup` with its config; `holdfast schedule show` says whether its timer runs.',
  },
  drill: { what: 'drill is due', next: () => 'Run `holdfast drill run` with its config, in daylight.' },
  queue: { what: 'queue is long', next: () => 'Give it another replica, or fewer tasks.' },
  errors: {
    what: 'fails often',
    next: (agent) => `Read its log. To stop its calls: \`holdfast breaker trip ${agent}\`.`,
  },
  memory: { what: 'memory is short', next: () => 'Restart it before it is killed, or give it more.' },
};

/** Of whatever `problemsOf` in fleet/view.ts names, except that an agent is starting: that wants no more than a little time. */
export function adviceOn(agent: AgentView): Problem[] {
  const { name, layers, breaker, quarantine, state } = agent;
  const problems: Problem[] = [];
  if (quarantine)
    problems.push({
      ...{ what: 'is in quarantine', evidence: quarantine.reason, sinceMs: quarantine.sinceMs },
      next: `When it is well: \`holdfast fleet release ${name}\`.`,
    });
  for (const layer of LAYERS) {
    const health = layers[layer];
    if (!health || !isBad(health)) continue;
    const { what, next } = OF_LAYER[layer];
    const seen = health.status === 'unseen' && VITAL.includes(layer) ? 'was never seen' : what;
    const recovering = health.status === 'recovering' ? ', coming back' : '';
    problems.push({
      what: seen + recovering,
      evidence: health.last.evidence,
      sinceMs: health.sinceMs,
      next: health.status === 'recovering' ? 'Wait for one more good look.' : next(name),
    });
  }
  if (['open', 'half-open', 'forced-open'].includes(breaker.state)) {
    const many = `${breaker.failures} ${breaker.failures === 1 ? 'failure' : 'failures'} in a row`;
    problems.push({
      what: breaker.state === 'forced-open' ? 'breaker was opened by hand' : 'breaker is open',
      evidence: breaker.state === 'forced-open' ? 'all its calls are refused' : many,
      sinceMs: null,
      next:
        breaker.state === 'forced-open'
          ? 'Reset it when what it was opened for is settled.'
          : 'It is tried again by itself; reset it if the agent is well.',
    });
  }
  if (breaker.state === 'unreadable')
    problems.push({
      what: 'breaker cannot be read',
      evidence: 'all its calls are refused',
      sinceMs: null,
      next: 'A newer holdfast may have written it. Else reset it: it is made anew.',
    });
  if (state === 'unknown')
    problems.push({
      what: 'is not known',
      evidence: agent.isOfOtherConfig
        ? 'the watcher has read another config than this server'
        : Object.keys(layers).length === 0
          ? 'nothing in the config says how to look at it'
          : 'what was seen is too old',
      sinceMs: agent.lookedMs || null,
      next: agent.isOfOtherConfig
        ? 'Start again what is older: `holdfast fleet watch`, or this server.'
        : Object.keys(layers).length === 0
          ? `Give it \`live\`, \`ready\` or \`progress\` in \`fleet.agents.${name}\`.`
          : 'See that `holdfast fleet watch` runs.',
    });
  return problems;
}

const RANK: Readonly<Record<AgentView['state'], number>> = {
  unhealthy: 0,
  unknown: 1,
  degraded: 2,
  starting: 3,
  healthy: 4,
};

/** Those first who need somebody most: critical ones before others. */
export function byUrgency(agents: readonly AgentView[]): AgentView[] {
  const rank = (agent: AgentView) =>
    Math.min(RANK[agent.state], adviceOn(agent).length > 0 ? 2 : 4) * 2 - Number(agent.critical);
  return agents
    .map((agent) => ({ agent, rank: rank(agent) }))
    .toSorted((a, b) => a.rank - b.rank || (a.agent.name < b.agent.name ? -1 : 1))
    .map(({ agent }) => agent);
}
