/** Each kind of agent, in use while it is drilled: its databases are open, with what was written last in their logs. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AGENTS, makeFixture, type MadeAgent } from '../../fixtures/agents/generate.ts';
import { detectProfile } from '../../src/state/profile.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { checkIn, drilledAgent, failures, leaving, scenarioIn } from './support.ts';

describe.each(AGENTS)('%s', (name) => {
  let made: MadeAgent;
  let probe: string;
  beforeAll(() => (probe = temporaryFolder()));
  afterAll(() => {
    made[Symbol.dispose]();
    removeFolder(probe);
  });

  test('comes back with all that it is, and is left as it is', async () => {
    makeFixture(name, `${probe}/state`)[Symbol.dispose]();
    const { name: profile } = await detectProfile(`${probe}/state`);
    await using agent = await drilledAgent({
      storage: 'memory',
      profile,
      fill: (state) => (made = makeFixture(name, state)),
    });
    const result = await leaving([agent.state, agent.folders.state], () =>
      agent.drill(['lost-host', 'older-snapshot']),
    );
    expect(failures(result)).toEqual({});
    expect(result.ok).toBe(true);
    const databases = checkIn(result, 'lost-host', 'databases').evidence['databases'];
    expect(databases).toHaveLength(made.state.concat(made.secret).filter((path) => /\.(sqlite|db)$/.test(path)).length);
    const skipped = scenarioIn(result, 'lost-host').skipped.map((one) => one.name);
    const hasKeys = made.secret.some((path) => /device\.json|\.key$/.test(path));
    expect(skipped.includes('agent-keys')).toBe(!hasKeys);
    expect(skipped.includes('handoff')).toBe(profile === 'files');
  });
});
