import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { BUILT_IN_SCENARIOS, hasCheck, loadScenarios, parseScenario, selectCases } from '../../src/drill/scenario.ts';
import { CHECKS } from '../../src/drill/scenario-schema.ts';
import { failure } from '../crypto/support.ts';
import { BUILT_IN, scenarioOf } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-scenarios-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('scenarios that come with holdfast', () => {
  test('are named as their files, and have something to say', () => {
    expect(BUILT_IN.map(({ name }) => name)).toEqual([...BUILT_IN_SCENARIOS]);
    for (const { title } of BUILT_IN) expect(title.length).toBeGreaterThan(20);
  });

  test('have every check in one of them', () => {
    const [lostHost] = BUILT_IN;
    for (const name of CHECKS) expect(lostHost && hasCheck(lostHost, name), name).toBe(true);
  });

  test('for each backend there is one of those that are for each', () => {
    const names = (asked: string[]) => selectCases(BUILT_IN, asked, ['nas', 'cloud']).map(({ name }) => name);
    expect(names([])).toHaveLength(13);
    expect(names(['lost-backend'])).toEqual(['lost-backend:nas', 'lost-backend:cloud']);
    expect(names(['lost-all-but:cloud', 'lost-host'])).toEqual(['lost-host', 'lost-all-but:cloud']);
  });
});

describe('scenarios of the user', () => {
  test('are read from a file or from all of a folder, in the order of names', async () => {
    writeFileSync(join(folder, 'b.yaml'), 'name: two\ntitle: the second\n');
    writeFileSync(join(folder, 'a.yml'), 'name: one\ntitle: the first\n');
    writeFileSync(join(folder, 'notes.txt'), 'no scenario');
    expect((await loadScenarios(folder)).map(({ name }) => name)).toEqual(['one', 'two']);
    expect((await loadScenarios(join(folder, 'b.yaml'))).map(({ name }) => name)).toEqual(['two']);
    await failure(() => loadScenarios(join(folder, 'none.yaml')), 'config_invalid');
  });

  test('have what is usual where they say nothing', async () => {
    expect(await scenarioOf('name: mine\ntitle: t\n')).toEqual({
      name: 'mine',
      title: 't',
      simulate: [],
      recover: { with: ['words', 'identity', 'vault', 'shares'], snapshot: 'latest' },
      after: [],
      checks: 'all',
    });
  });

  test.each([
    ['name: A b\ntitle: t\n', 'scenario.yaml:1:1', 'name'],
    ['name: a\n', 'scenario.yaml', 'title'],
    ['name: a\ntitle: t\nchecks: { only: [identty] }\n', 'scenario.yaml:3', 'checks'],
    ['name: a\ntitle: t\nsimulate: [{ step: explode }]\n', 'scenario.yaml:3', 'simulate'],
    ['name: a\ntitle: t\nobjective: {}\n', 'scenario.yaml:3:1', 'unknown key'],
    ['name: a\ntitle: t\nsimulate: [{ step: lose, backends: each }]\n', 'scenario.yaml', 'each: backend'],
    ['name: a\ntitle: t\nobjectives: { rto: 5x }\n', 'scenario.yaml', 'objectives.rto'],
    ['name: [\n', 'scenario.yaml', ''],
  ])('that are wrong are told with the place: %j', async (text, place, what) => {
    const { message } = await failure(() => parseScenario(Buffer.from(text), 'scenario.yaml'), 'config_invalid');
    expect(message).toContain(place);
    expect(message).toContain(what);
  });
});
