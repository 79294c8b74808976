/** What is wrong with files, each told once: by the check that says most about it. */
import type { RawPath } from '../../raw-path.ts';

/** From the one that says most to the one that says least. */
const RANK = ['scaffold', 'agent-keys', 'databases', 'memory', 'parse', 'tasks', 'files'] as const;
export type StateCheck = (typeof RANK)[number];

export class Findings {
  readonly #faults = new Map<RawPath, { check: StateCheck; problem: string }>();
  /** What was looked at. */
  files = 0;
  bytes = 0;
  secrets = 0;
  folders = 0;
  others = 0;
  jsonFiles = 0;
  jsonLinesFiles = 0;
  /** Of each file: contents, modes, …; and what the recovery said that it could not restore here. */
  readonly compared: string[] = [];
  readonly notCompared: string[] = [];
  readonly databases: string[] = [];
  readonly memories: string[] = [];
  readonly templates: string[] = [];
  readonly keys: string[] = [];
  tasks: { path: string; open: number; done: number } | undefined;
  /** Not restored, because no backend has the data. */
  readonly lost = new Set<string>();

  fault(check: StateCheck, path: RawPath, problem: string): void {
    const known = this.#faults.get(path);
    if (!known || RANK.indexOf(check) < RANK.indexOf(known.check)) this.#faults.set(path, { check, problem });
  }

  hasFault(path: RawPath): boolean {
    return this.#faults.has(path);
  }

  problems(check: StateCheck): string[] {
    return [...this.#faults.values()].filter((one) => one.check === check).map(({ problem }) => problem);
  }
}
