/** A small agent with a history on two backends in folders, and drills of it. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect } from 'vitest';
import { drill } from '../../src/drill/run.ts';
import type { Check, DrillResult, ScenarioResult } from '../../src/drill/result.ts';
import { builtInScenarios, parseScenario, type Scenario } from '../../src/drill/scenario.ts';
import type { DrillOptions } from '../../src/drill/scene.ts';
import type { StateOptions } from '../../src/operations/saving/save-tree.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { loadProfile, scaffoldJudge, type Profile } from '../../src/state/profile.ts';
import { removeFolder } from '../state/trees.ts';
import { contentsOf, makeAgent, putBack, type AgentOptions, type TestAgent } from '../operations/support.ts';

/** Everything a drill looks at: memory, tasks, a log, a database, a key of its own. */
export function fillAnts(root: string): void {
  for (const folder of ['memory', 'sessions', 'keys']) mkdirSync(join(root, folder));
  const write = (path: string, text: string) => writeFileSync(join(root, path), text, { mode: 0o600 });
  write('identity.json', '{"version":1,"handle":"ada"}\n');
  write('keys/agent.key', `${'5a'.repeat(32)}\n`);
  write('MEMORY.md', '# What I know\n\n- The operator prefers short answers.\n');
  write('HEARTBEAT.md', '# Active tasks\n\n- [ ] Collect the weekly report.\n- [x] Answer.\n');
  write('memory/2026-01-05.md', `# 2026-01-05\n\n${'Looked at the queue.\n'.repeat(20)}`);
  write('sessions/current.jsonl', '{"n":1}\n{"n":2}\n{"n":3}\n');
  write('settings.json', '{\n  // the operator\n  "answers": "short",\n}\n');
  withDatabase(root, (database) => {
    database.exec('CREATE TABLE messages (id INTEGER PRIMARY KEY, text TEXT NOT NULL)');
    const insert = database.prepare('INSERT INTO messages (text) VALUES (?)');
    database.exec('BEGIN');
    for (let i = 0; i < 40; i++) insert.run(`message ${i}`);
    database.exec('COMMIT');
  });
}

export function withDatabase(root: string, work: (database: DatabaseSync) => void): void {
  const database = new DatabaseSync(join(root, 'agent.sqlite'));
  work(database);
  database.close();
}

export interface Drilled extends TestAgent {
  profile: Profile;
  stateOptions: StateOptions;
  /** As the command of the config would save it. */
  save(): Promise<void>;
  drill(names?: readonly string[], over?: Partial<DrillOptions>, seams?: Partial<Seams>): Promise<DrillResult>;
}

export const BUILT_IN = await builtInScenarios();

/** An agent with two snapshots of the state of `fillAnts`, or of what `options` say. */
export async function drilledAgent(options: AgentOptions & { profile?: string } = {}): Promise<Drilled> {
  const agent = await makeAgent({ storage: 'folders', fill: fillAnts, ...options });
  const profile = await loadProfile(options.profile ?? 'ants');
  const stateOptions: StateOptions = {
    root: agent.state,
    exclude: profile.cache,
    keepOut: [],
    secret: { patterns: profile.secret, handling: 'apart' },
    profile: profile.name,
    appendOnly: profile.logs,
    isScaffold: scaffoldJudge(profile),
  };
  const save = async () => void (await agent.backup({ state: stateOptions }));
  await save();
  appendFileSync(join(agent.state, 'notes.txt'), 'The agent works on.\n');
  await save();
  const worlds = `${agent.folder}-worlds`;
  mkdirSync(worlds, { recursive: true });
  return {
    ...agent,
    profile,
    stateOptions,
    save,
    [Symbol.asyncDispose]: async () => {
      expect(readdirSync(worlds)).toEqual([]); // nothing of any drill is left
      removeFolder(worlds);
      await agent[Symbol.asyncDispose]();
    },
    drill: (names = [], over = {}, seams = {}) =>
      drill(
        {
          backends: agent.addresses,
          secrets: { words: { kind: 'root', root: agent.root } },
          record: recordOf(agent),
          state: stateOptions,
          scenarios: BUILT_IN,
          names,
          commands: [],
          commandTimeoutMs: 60_000,
          env: { PATH: process.env['PATH'] ?? '' },
          ignore: [],
          objectives: {},
          renderConfig: () => 'agent: {handle: ada}\n',
          folder: worlds,
          hostname: 'test-host',
          tool: 'holdfast/test',
          ...over,
        },
        agent.seams(seams),
      ),
  };
}

/** What puts an agent in memory back as it is now: its backends, its state and what its host remembers. It asserts that no drill has left anything. */
export async function keep(agent: Drilled): Promise<() => Promise<void>> {
  const stores = await contentsOf(agent);
  const kept = join(agent.folder, 'kept');
  const folders = [agent.state, ...Object.values(agent.folders)];
  mkdirSync(kept);
  execFileSync('cp', ['-a', ...folders, kept]);
  return async () => {
    expect(readdirSync(`${agent.folder}-worlds`)).toEqual([]);
    await putBack(agent, stores);
    for (const folder of folders) rmSync(folder, { recursive: true });
    execFileSync('cp', ['-a', `${kept}/.`, agent.folder]);
  };
}

export function recordOf({ writerKey, signer, files, folders }: TestAgent): DrillOptions['record'] {
  return {
    repository: writerKey.repositoryId,
    handle: 'ada',
    identityFile: { path: files.identity, publicKey: Buffer.from(signer.publicKey).toString('hex') },
    writerKeyFile: { path: files.writerKey, publicKey: Buffer.from(writerKey.agentPublicKey).toString('hex') },
    folders,
  };
}

export const scenarioOf = (yaml: string): Promise<Scenario> => parseScenario(Buffer.from(yaml), 'scenario.yaml');

/** The names of the checks that failed, by scenario; of a scenario that passed nothing. */
export function failures({ scenarios }: DrillResult): Record<string, string[]> {
  const failed = scenarios.map(
    ({ name, checks }) => [name, checks.filter(({ ok }) => !ok).map((one) => one.name)] as const,
  );
  return Object.fromEntries(failed.filter(([, names]) => names.length > 0));
}

export function scenarioIn(result: DrillResult, name: string): ScenarioResult {
  const found = result.scenarios.find((one) => one.name === name);
  if (!found) throw new Error(`${name} did not run: ${JSON.stringify(result.notRun)}`);
  return found;
}

export function checkIn(result: DrillResult, scenario: string, name: string): Check {
  const found = scenarioIn(result, scenario).checks.find((one) => one.name === name);
  if (!found) throw new Error(`${scenario} has no check ${name}`);
  return found;
}

/** Paths, types, modes, sizes, times and hashes below a folder. */
export function census(root: string): string[] {
  const seen: string[] = [];
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const { mode, size, mtimeNs, ino } = lstatSync(path, { bigint: true });
    const content = entry.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '';
    seen.push([path, mode, size, mtimeNs, ino, content, entry.isSymbolicLink() ? readlinkSync(path) : ''].join(' '));
  }
  return seen.toSorted();
}

/** That nothing of these folders is another after the work, also when it fails. */
export async function leaving<T>(folders: readonly string[], work: () => Promise<T>): Promise<T> {
  const before = folders.map(census);
  try {
    return await work();
  } finally {
    expect(folders.map(census)).toEqual(before);
  }
}
