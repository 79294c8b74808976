/**
 * Is the state that came back the state that was saved, and is what was saved still the agent's? Every file is read back from the disk and held
 * against the list of the snapshot; files that matter are held against the snapshots before too.
 */
import type { Entry, FileEntry } from '../../entry.ts';
import { rawForDisplay, rawFromText, ROOT, type RawPath } from '../../raw-path.ts';
import { MARKER } from '../../operations/host/continuity.ts';
import { matcher } from '../../state/patterns.ts';
import { scaffoldJudge } from '../../state/profile.ts';
import { scan } from '../../state/scan.ts';
import { absoluteIn, inTree } from '../../state/tree-path.ts';
import { readSmall } from '../past.ts';
import { checkOf, nameOf, skip, type Outcome, type Scene } from '../scene.ts';
import { Earlier, isOfInterest, kindsOf, newestOf, type Kinds, type Version } from './earlier.ts';
import { Findings } from './findings.ts';
import { jsonFault, jsonLinesFault } from './json.ts';
import { checkKeyFile, KEY_FILE_MAX_BYTES } from './keys.ts';
import { MetadataCheck } from './metadata.ts';

const TEMPLATE_MAX_BYTES = 64 * 1024;
/** Of memories that are compared byte by byte. */
const MEMORY_MAX_BYTES = 4 * 1024 * 1024;
const JSON_MAX_BYTES = 64 * 1024 * 1024;
const TASK_LISTS = ['/HEARTBEAT.md', '/workspace/HEARTBEAT.md'];

/** The whole state, once. */
export async function inspectState(scene: Scene): Promise<Findings> {
  const inspection = new Inspection(scene);
  await inspection.run();
  return inspection.findings;
}

class Inspection {
  readonly findings = new Findings();
  readonly #scene: Scene;
  readonly #kinds: Kinds;
  readonly #isBlank: (path: RawPath, bytes: Uint8Array) => boolean;
  readonly #isTaskList = matcher(TASK_LISTS);
  readonly #isIgnored: (path: RawPath, isFolder: boolean) => boolean;
  readonly #base: RawPath;
  readonly #metadata: MetadataCheck;
  #earlier!: Earlier;

  constructor(scene: Scene) {
    this.#scene = scene;
    this.#kinds = kindsOf(scene.profile);
    this.#isBlank = scaffoldJudge(scene.profile);
    this.#isIgnored = matcher(scene.options.ignore);
    this.#base = rawFromText(scene.host.state);
    this.#metadata = new MetadataCheck(scene.host.state, scene.recovered.warnings);
    this.findings.compared.push('contents', ...this.#metadata.compared);
    this.findings.notCompared.push(...this.#metadata.notCompared);
  }

  async run(): Promise<void> {
    const { past, snapshot, recovered, host, seams } = this.#scene;
    const { findings } = this;
    this.#earlier = await Earlier.read(past, snapshot, this.#kinds);
    const known = new Set<RawPath>([ROOT]);
    const isOf = isOfInterest(this.#kinds);
    const files: FileEntry[] = [];
    const lost = new Set(recovered.lost);
    for await (const entry of past.entries(snapshot)) {
      known.add(entry.path);
      const shown = rawForDisplay(entry.path);
      if (lost.has(shown)) findings.lost.add(shown);
      else await this.#entry(entry, entry.isApart);
      if (entry.type === 'file' && isOf(entry.path)) files.push(entry);
    }
    this.#missing(files);
    for (const item of scan(host.state, { special: 'keep', signal: seams.signal })) {
      if (item.kind === 'problem' || item.path === MARKER || known.has(item.path)) continue;
      findings.fault('files', item.path, `${rawForDisplay(item.path)} is there, and is not in the snapshot`);
    }
  }

  async #entry(entry: Entry, isApart: boolean): Promise<void> {
    const { past, host } = this.#scene;
    const { findings } = this;
    const shown = rawForDisplay(entry.path);
    const difference = past.difference(host.state, entry);
    const what = difference ?? this.#metadata.difference(entry);
    if (what !== undefined) findings.fault('files', entry.path, `${shown} ${what}`);
    if (entry.type !== 'file') {
      if (entry.type === 'folder') findings.folders++;
      else findings.others++;
      return;
    }
    findings.files++;
    findings.bytes += entry.size;
    if (isApart) findings.secrets++;
    const isSame = difference === undefined;
    await this.#database(entry, difference);
    await this.#template(entry, isSame);
    await this.#memory(entry, isSame);
    if (this.#kinds.isKeyFile(entry.path) && entry.size <= KEY_FILE_MAX_BYTES)
      await checkKeyFile(this.#scene, entry, isSame, this.#earlier, findings);
    this.#parse(entry);
    if (this.#isTaskList(entry.path, false)) this.#tasks(entry);
  }

  async #database(entry: FileEntry, difference: string | undefined): Promise<void> {
    if (!entry.sqlite) return;
    const { findings } = this;
    const { path } = entry;
    const { rows } = entry.sqlite;
    const shown = rawForDisplay(path);
    const fault = (problem: string) => findings.fault('databases', path, `database ${shown} ${problem}`);
    const found = await this.#scene.sqlite.check(absoluteIn(this.#base, path));
    if ('failure' in found) return fault(`cannot be read: ${found.failure}`);
    if (found.damage !== undefined) return fault(`fails SQLite's integrity check: ${found.damage}`);
    for (const [table, count] of Object.entries(rows)) {
      const now = found.rows[table];
      if (now !== count) return fault(`has ${now ?? 'no'} rows in table ${table}, and had ${count} when it was saved`);
    }
    if (difference !== undefined) return fault(difference);
    const tables = this.#kinds.tablesOf(path);
    for (const { entry: before, snapshot } of tables === undefined ? [] : this.#earlier.of(path)) {
      for (const [table, count] of Object.entries(before.sqlite?.rows ?? {})) {
        if (tables !== 'all' && !tables?.includes(table)) continue;
        const now = rows[table];
        if (now !== undefined && now >= count) continue;
        const short = now === undefined ? 'no' : String(now);
        return fault(`has ${short} rows in table ${table}, and had ${count} in ${nameOf(snapshot)}`);
      }
    }
    const counts = Object.entries(rows).map(([table, count]) => `${table} ${count}`);
    findings.databases.push(`${shown}: ${counts.join(', ')} rows`);
  }

  async #template(entry: FileEntry, isSame: boolean): Promise<void> {
    const { past, host, snapshot } = this.#scene;
    const { path } = entry;
    if (!this.#kinds.hasTemplate(path)) return;
    const shown = rawForDisplay(path);
    const isBlank = (bytes: Uint8Array | undefined) => bytes !== undefined && this.#isBlank(path, bytes);
    if (!isBlank(readSmall(host.state, path, TEMPLATE_MAX_BYTES))) {
      this.findings.templates.push(shown);
      return;
    }
    const blank = (where: string) =>
      this.findings.fault('scaffold', path, `${shown} is a blank template, and ${where}`);
    const contentOf = (file: FileEntry) => past.content(file, MEMORY_MAX_BYTES);
    if (!isSame && !isBlank(await contentOf(entry))) return blank('the snapshot has something in it');
    const versions = this.#earlier.of(path);
    for (const { entry: file, snapshot: before } of versions)
      if (!isBlank(await contentOf(file))) return blank(`${nameOf(before)} has something in it`);
    if (this.#kinds.isLasting(path) && versions.length === 0 && !past.isStart(snapshot))
      blank('there is no snapshot before that says whether it ever was more');
  }

  /** Cut short: the beginning of what there was and no more, or less than half of it. */
  async #memory(entry: FileEntry, isSame: boolean): Promise<void> {
    const { past, host } = this.#scene;
    const { path } = entry;
    const isLog = this.#kinds.isLog(path);
    if (!isLog && !this.#kinds.isMemory(path)) return;
    const shown = rawForDisplay(path);
    const compare = async (
      now: Buffer | undefined,
      size: number,
      before: FileEntry,
      where: string,
    ): Promise<boolean> => {
      if (size >= before.size) return false;
      const then = now && (await past.content(before, MEMORY_MAX_BYTES));
      const isCut = isLog || size * 2 < before.size || then?.subarray(0, size).equals(now ?? Buffer.alloc(0)) === true;
      if (isCut)
        this.findings.fault(
          'memory',
          path,
          `${shown} has ${size} bytes, and ${where} has ${before.size}: it was cut short`,
        );
      return isCut;
    };
    const now = readSmall(host.state, path, MEMORY_MAX_BYTES);
    if (!isSame) {
      if (now) await compare(now, now.length, entry, 'the snapshot');
      return;
    }
    const before: Version | undefined = this.#earlier.largest(path);
    if (before && (await compare(now, entry.size, before.entry, nameOf(before.snapshot)))) return;
    this.findings.memories.push(shown);
  }

  #parse({ path }: FileEntry): void {
    const isLines = path.endsWith('.jsonl');
    if ((!isLines && !path.endsWith('.json')) || this.#isIgnored(path, false)) return;
    const { host } = this.#scene;
    let fault: string | undefined;
    if (isLines) {
      try {
        fault = jsonLinesFault(inTree(this.#base, path));
      } catch {
        return; // that it cannot be read is told already
      }
      this.findings.jsonLinesFiles++;
    } else {
      const bytes = readSmall(host.state, path, JSON_MAX_BYTES);
      if (!bytes) return;
      fault = jsonFault(bytes.toString('utf8'));
      this.findings.jsonFiles++;
    }
    if (fault !== undefined) this.findings.fault('parse', path, `${rawForDisplay(path)} ${fault}`);
  }

  #tasks({ path }: FileEntry): void {
    const bytes = readSmall(this.#scene.host.state, path, MEMORY_MAX_BYTES);
    const shown = rawForDisplay(path);
    try {
      const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes ?? Buffer.of(0xff));
      const count = (mark: RegExp) => [...text.matchAll(mark)].length;
      this.findings.tasks = { path: shown, open: count(/^\s*[-*+] \[ \]/gm), done: count(/^\s*[-*+] \[[xX]\]/gm) };
    } catch {
      this.findings.fault('tasks', path, `${shown} cannot be read as text`);
    }
  }

  /** What was there before and is not there now, of what lasts; and what should not be there. */
  #missing(files: readonly FileEntry[]): void {
    const { findings } = this;
    const now = new Set(files.map(({ path }) => path));
    const { isLasting, isAbsent, tablesOf } = this.#kinds;
    const same = this.#scene.profile.continuity.filter(({ check }) => check === 'same');
    const isLastingKey = matcher(same.map((one) => one.files));
    for (const path of this.#earlier.paths) {
      const [last] = this.#earlier.of(path);
      if (now.has(path) || !last) continue;
      const gone = `${rawForDisplay(path)} is gone; ${nameOf(last.snapshot)} has it`;
      if (isLasting(path)) findings.fault('memory', path, gone);
      else if (isLastingKey(path, false)) findings.fault('agent-keys', path, gone);
      else if (last.entry.sqlite && tablesOf(path) !== undefined) findings.fault('databases', path, `database ${gone}`);
    }
    for (const { path, snapshot } of this.#earlier.newest)
      if (!now.has(path))
        findings.fault(
          'memory',
          path,
          `${rawForDisplay(path)}, the newest of its kind in ${nameOf(snapshot)}, is gone`,
        );
    for (const path of now) {
      if (!isAbsent(path) || this.#earlier.snapshots.length === 0 || this.#earlier.of(path).length > 0) continue;
      findings.fault('memory', path, `${rawForDisplay(path)} is there, as in an agent that has not lived yet`);
    }
    for (const { isIn } of this.#kinds.newest) {
      const newest = newestOf(files.filter(({ path }) => isIn(path)));
      if (newest !== undefined) findings.memories.unshift(`newest: ${rawForDisplay(newest)}`);
    }
  }
}

/** The checks that the findings answer. @param explained that what could not be restored is told by another check */
export function stateChecks(
  { snapshot, past }: Scene,
  findings: Findings,
  explained: boolean,
): Record<string, Outcome> {
  const before = past.before(snapshot).map(nameOf);
  const comparedWith =
    before.length === 0
      ? 'there is no snapshot before to compare with'
      : `compared with ${before.length} snapshots before`;
  const { files, bytes, folders, others, secrets, databases, memories, templates, keys, tasks } = findings;
  const { compared, notCompared } = findings;
  const lost = [...findings.lost].map((path) => `${path} was not restored: no backend has its data`);
  const told = (name: Parameters<Findings['problems']>[0]) => findings.problems(name);
  const empty = files + lost.length === 0 ? [`${nameOf(snapshot)} holds not one file: that is no agent`] : [];
  return {
    files: checkOf(
      'files',
      [...empty, ...told('files'), ...(explained ? [] : lost)],
      `${files} files read back, each as in the snapshot`,
      {
        ...{ files, bytes, folders, others, secrets, compared },
        ...(notCompared.length > 0 ? { notCompared } : {}),
        ...(lost.length > 0 ? { notRestored: lost.length } : {}),
      },
    ),
    parse: checkOf(
      'parse',
      told('parse'),
      `${findings.jsonFiles} JSON files and ${findings.jsonLinesFiles} of JSON lines parse`,
      { json: findings.jsonFiles, jsonLines: findings.jsonLinesFiles },
    ),
    databases: checkOf(
      'databases',
      told('databases'),
      `${databases.length} databases pass SQLite's integrity check, with the rows they had; ${comparedWith}`,
      { databases, before },
    ),
    memory: checkOf('memory', told('memory'), `${memories.length} memories and logs, none cut short; ${comparedWith}`, {
      memories: memories.slice(0, 100),
      before,
    }),
    scaffold: checkOf('scaffold', told('scaffold'), `${templates.length} files that have a template are more than it`, {
      written: templates,
    }),
    'agent-keys':
      keys.length === 0 && told('agent-keys').length === 0
        ? skip('agent-keys', 'the state holds no ed25519 key of its own')
        : checkOf(
            'agent-keys',
            told('agent-keys'),
            `${keys.length} keys in the state are the agent's; ${comparedWith}`,
            {
              keys,
            },
          ),
    tasks:
      tasks || told('tasks').length > 0
        ? checkOf(
            'tasks',
            told('tasks'),
            `${tasks?.path}: ${tasks?.open} tasks open, ${tasks?.done} done`,
            tasks ? { ...tasks } : {},
          )
        : skip('tasks', 'the state has no HEARTBEAT.md'),
  };
}
