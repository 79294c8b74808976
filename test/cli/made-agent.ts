/** Agents that are set up and have made a backup, and machines on which nothing was ever done, for tests of the commands around keys. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome, type HomeOptions } from './agent-home.ts';

/** Of `identity show --json`. */
export interface Shown {
  publicKey: string;
  fingerprint: string;
  ssh: string;
}

/** An entry of `identity log --json`. */
export interface LogRow {
  seq: number;
  id: string;
  previous: string | null;
  created: string;
  change: string;
  by: string;
  inForceFrom: string;
  state: string;
  agent: { fingerprint: string; publicKey: string; origin: string };
  recovery: string;
  relays: string[];
}

/** `identity log --json`. */
export interface Log {
  entries: LogRow[];
  relays: string[];
  isRevoked: boolean;
  warnings: unknown[];
}

export interface Agent extends AgentHome {
  /** Of a backend: nas or usb. */
  url(disk: string): string;
  /** `--from` and `--target` for a machine that recovers. */
  place: string[];
  shown(): Promise<Shown>;
  log(): Promise<Log>;
}

/** The words of every agent here. */
export const WORDS = ['--words-file', 'words.txt'];

/** Makes agents and machines, with these options, below `folder`, which is removed when the tests of the file are done. */
export function makers(options: Pick<HomeOptions, 'processFor'> = {}) {
  const folder = temporaryFolder();
  afterAll(() => removeFolder(folder));
  let made = 0;
  const machine = (): AgentHome => agentHome(join(folder, `machine-${made++}`), options);
  const newAgent = async (): Promise<Agent> => {
    const number = made++;
    const home = agentHome(join(folder, `agent-${number}`), options);
    const disk = (name: string) => join(folder, `disks-${number}`, name);
    mkdirSync(home.at('state'));
    writeFileSync(home.at('state', 'MEMORY.md'), '# memory\n');
    await home.json(0, ...initArgs(disk), ...WORDS);
    await home.json(0, 'backup');
    const url = (name: string) => `file://${disk(name)}`;
    return {
      ...home,
      url,
      place: ['--from', url('nas'), '--target', 'state'],
      shown: () => home.json<Shown>(0, 'identity', 'show'),
      log: () => home.json<Log>(0, 'identity', 'log'),
    };
  };
  return { folder, machine, newAgent };
}

/** Names and contents of every file below a folder, what holdfast remembers for itself aside: for "nothing was changed". */
export function contentsOf(top: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(top, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.parentPath.includes('/xdg/'))
      .map((entry) => join(entry.parentPath, entry.name))
      .map((file) => [file, readFileSync(file, 'latin1')]),
  );
}
