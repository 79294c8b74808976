/** Who is well: the page and `fleet status` are of one mind. */
import { expect, test } from 'vitest';
import { adviceOn } from '../../../src/cli/fleet/serve/advice.ts';
import { LAYERS, LAYER_STATUSES, stateOf, type AgentView } from '../../../src/fleet/health.ts';
import { problemsOf } from '../../../src/fleet/view.ts';
import { agentView, layer } from './views.ts';

test('an agent of which the page has something to say is one that fleet status does not call well, and the reverse', () => {
  const views: AgentView[] = [agentView('quarantined', { quarantine: { sinceMs: 1, reason: 'odd' } })];
  for (const state of ['closed', 'open', 'half-open', 'forced-open', 'disabled'] as const)
    views.push(agentView(state, { breaker: { state, failures: 1 } }));
  for (const one of LAYERS) {
    for (const status of LAYER_STATUSES) {
      const layers = { [one]: layer(status, 'seen') };
      views.push(agentView(`${one} ${status}`, { layers, state: stateOf(layers) }));
      views.push(agentView(`${one} ${status}, long ago`, { layers, state: 'unknown' }));
    }
  }
  const of = (list: (agent: AgentView) => readonly unknown[]) =>
    views.filter((view) => list(view).length > 0 && view.state !== 'starting').map(({ name }) => name);
  expect(of(adviceOn)).toEqual(of(problemsOf));
  expect(of(adviceOn).length).toBeGreaterThan(30);
  expect(of(adviceOn)).not.toContain('live failing');
});
