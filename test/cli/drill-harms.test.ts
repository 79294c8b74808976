/**
 * Each kind of harm, done to an agent of each kind that can have it: `drill run` ends with 14, and exactly the check fails that is for it. The long form
 * (`npm run drill-all`); test/drill/harms.test.ts goes through all of them each time, without the commands around.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, describe, expect, test } from 'vitest';
import { makeFixture, type AgentName } from '../../fixtures/agents/generate.ts';
import type { DrillResult } from '../../src/drill/result.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';
import { WORDS } from './made-agent.ts';

const folder = temporaryFolder();
afterAll(() => removeFolder(folder));

interface Kind {
  key?: [path: string, another: (text: string) => string];
  memory?: string;
  rows?: [path: string, table: string];
  template?: [path: string, blank: string];
}
const otherKey = () => `${'7b'.repeat(32)}\n`;
const KINDS: [AgentName, Kind][] = [
  [
    'ants',
    {
      key: ['keys/agent.key', otherKey],
      memory: 'memory/2026-01-05.md',
      rows: ['agent.sqlite', 'messages'],
      template: ['MEMORY.md', '# MEMORY.md\n'],
    },
  ],
  [
    'openclaw',
    {
      key: ['identity/device.json', deviceAnew],
      memory: 'workspace/memory/2026-01-05.md',
      rows: ['agents/main/agent/openclaw-agent.sqlite', 'transcript_events'],
      template: ['workspace/MEMORY.md', '# MEMORY.md\n\n<!-- write here -->\n'],
    },
  ],
  ['claude-code', { memory: 'projects/-home-ada-work-report/memory/MEMORY.md' }],
  ['hermes', { memory: 'memories/USER.md', rows: ['state.db', 'messages'] }],
  ['files', {}],
];

/** As an agent writes it that finds none: the same form, with another key. */
function deviceAnew(text: string): string {
  const other = makeFixture('openclaw', join(folder, `device-${readdirSync(folder).length}`));
  other[Symbol.dispose]();
  const at = readdirSync(folder).findLast((name) => name.startsWith('device-')) ?? '';
  const anew = readFileSync(join(folder, at, 'identity/device.json'), 'utf8');
  expect(anew).not.toBe(text);
  return anew;
}

type Harm = [what: string, check: string, plant: (home: AgentHome, disks: string) => void, isSaved: boolean];
function harmsOf({ key, memory, rows, template }: Kind): Harm[] {
  const change = (home: AgentHome, path: string, to: (text: string) => string) =>
    writeFileSync(home.at('state', path), to(readFileSync(home.at('state', path), 'utf8')));
  const all: (Harm | undefined)[] = [
    [
      'another key in place of the agent',
      'identity',
      (home) => writeFileSync(home.at('holdfast.identity.key'), otherKey()),
      false,
    ],
    key && ['a regenerated key', 'agent-keys', (home) => change(home, ...key), true],
    memory === undefined
      ? undefined
      : ['a memory file cut short', 'memory', (home) => change(home, memory, (text) => text.slice(0, 9)), true],
    rows && [
      '12 messages missing from a database',
      'databases',
      (home) => {
        const database = new DatabaseSync(home.at('state', rows[0]));
        const id = `SELECT rowid FROM ${rows[1]} ORDER BY rowid DESC LIMIT 12`;
        expect(database.prepare(`DELETE FROM ${rows[1]} WHERE rowid IN (${id})`).run().changes).toBe(12);
        database.close();
      },
      true,
    ],
    template && ['a blank template', 'scaffold', (home) => change(home, template[0], () => template[1]), true],
    [
      'an old snapshot presented as the newest',
      'newest',
      (_, disks) => {
        for (const name of readdirSync(disks)) {
          const [newest = ''] = execFileSync('ls', ['-t', join(disks, name, 'snapshots')], { encoding: 'utf8' }).split(
            '\n',
          );
          rmSync(join(disks, name, 'snapshots', newest));
        }
      },
      false,
    ],
    [
      'a backend that answers and has lost a pack',
      'backends',
      (_, disks) => {
        const packs = readdirSync(join(disks, 'nas', 'packs'), { recursive: true, withFileTypes: true });
        const pack = packs.filter((entry) => entry.isFile())[0];
        rmSync(join(pack?.parentPath ?? '', pack?.name ?? ''));
      },
      false,
    ],
  ];
  return all.filter((one) => one !== undefined);
}

describe.runIf(process.env['HOLDFAST_DRILLS'] === 'all')('an agent that is harmed', () => {
  const cases = KINDS.flatMap(([name, kind]) => harmsOf(kind).map((harm) => [name, ...harm] as const));
  test.each(cases)('%s: %s: %s', { timeout: 120_000 }, async (name, _, check, plant, isSaved) => {
    const number = readdirSync(folder).length;
    const home = agentHome(join(folder, `home-${number}`));
    const disks = join(folder, `disks-${number}`);
    using made = makeFixture(name, home.at('state'));
    await home.json(0, ...initArgs((disk) => join(disks, disk)), ...WORDS);
    await home.json(0, 'backup');
    mkdirSync(home.at('state', 'notes-of-the-day'));
    await home.json(0, 'backup');
    expect(made.state.length).toBeGreaterThan(3);
    const drilled = async (code: number) => {
      const result = await home.json<DrillResult>(code, 'drill', 'run', 'lost-host', ...WORDS);
      return result.scenarios[0]?.checks.flatMap(({ name: failed, ok }) => (ok ? [] : [failed]));
    };
    expect(await drilled(0)).toEqual([]);
    plant(home, disks);
    if (isSaved) await home.holdfast('backup'); // that it is suspicious may be said
    expect(await drilled(14)).toEqual([check]);
  });
});
