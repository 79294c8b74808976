/**
 * Ordinary days of several kinds of agents: what each does to its files. The same days can be played on a disk, for real backups, and in a model
 * that only counts, for thousands of days. Thresholds and the rates in docs/loss.md come from here: `node test/operations/ordinary-days.ts`.
 */
import type { Measured, Past } from '../../src/operations/saving/suspicion.ts';
import { judge, type Thresholds } from '../../src/operations/saving/suspicion.ts';
import type { SnapshotId } from '../../src/repository/repository.ts';

export type Content = 'text' | 'noise';

export type Step =
  | { do: 'write'; path: string; content: Content; bytes: number }
  | { do: 'append'; path: string; bytes: number }
  | { do: 'move'; path: string; to: string }
  | { do: 'remove'; path: string };

/** Numbers from 0 to 1, from a seed (mulberry32). */
export function dice(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The files there are, as far as a day's work depends on them. */
export type Files = Map<string, { content: Content; bytes: number }>;

interface Life {
  files: Files;
  random: () => number;
  /** 0 is the day of the first snapshot. */
  day: number;
  steps: Step[];
}

const between = ({ random }: Life, least: number, most: number) => least + Math.floor(random() * (most - least + 1));
const chance = ({ random }: Life, share: number) => random() < share;

function write(life: Life, path: string, bytes: number, content: Content = 'text'): void {
  life.steps.push({ do: 'write', path, content, bytes });
  life.files.set(path, { content, bytes });
}
function append(life: Life, path: string, bytes: number): void {
  const old = life.files.get(path);
  if (!old) return write(life, path, bytes);
  life.steps.push({ do: 'append', path, bytes });
  life.files.set(path, { ...old, bytes: old.bytes + bytes });
}
function remove(life: Life, path: string): void {
  if (life.files.delete(path)) life.steps.push({ do: 'remove', path });
}
function move(life: Life, path: string, to: string): void {
  const old = life.files.get(path);
  if (!old) return;
  life.steps.push({ do: 'move', path, to });
  life.files.delete(path);
  life.files.set(to, old);
}
const below = ({ files }: Life, folder: string) => [...files.keys()].filter((path) => path.startsWith(folder));
const some = (life: Life, paths: readonly string[], share: number) => paths.filter(() => chance(life, share));

/** What every agent does: a diary, an edited memory, transcripts that grow. */
function diary(life: Life): void {
  write(life, `memory/day-${life.day}.md`, between(life, 400, 4000));
  if (chance(life, 0.6)) write(life, 'MEMORY.md', between(life, 2000, 3000));
  for (let i = between(life, 1, 4); i > 0; i--)
    append(life, `sessions/${life.day}-${i}.jsonl`, between(life, 500, 20_000));
  for (const path of some(life, below(life, `sessions/${life.day - 1}-`), 0.3)) append(life, path, 2000);
}

/** Each makes one day's steps; day 0 sets the agent up. */
export const AGENTS: Record<string, (life: Life) => void> = {
  tiny: (life) => {
    for (const name of ['MEMORY', 'SOUL', 'USER', 'TODO', 'state'])
      if (life.day === 0 || chance(life, 0.7)) write(life, `${name}.md`, between(life, 200, 2000));
  },
  diarist: diary,
  'tidy diarist, with a weekly clean-up': (life) => {
    diary(life);
    if (life.day % 7 === 6)
      for (const path of below(life, 'sessions/')) if (Number(/\d+/.exec(path)) < life.day - 14) remove(life, path);
  },
  'server, with rotated and compressed logs': (life) => {
    diary(life);
    write(life, 'state.json', between(life, 3000, 4000));
    for (const log of ['gateway', 'agent', 'cron']) {
      for (let n = 7; n >= 2; n--) move(life, `logs/${log}.${n - 1}.gz`, `logs/${log}.${n}.gz`);
      if (life.files.has(`logs/${log}.log`)) {
        remove(life, `logs/${log}.log`);
        write(life, `logs/${log}.1.gz`, between(life, 2000, 8000), 'noise');
      }
      append(life, `logs/${log}.log`, between(life, 10_000, 40_000));
    }
  },
  'collector of pictures, some of which it throws away': (life) => {
    diary(life);
    for (let i = between(life, 0, 8); i > 0; i--)
      write(life, `media/${life.day}-${i}.jpg`, between(life, 5000, 60_000), 'noise');
    if (chance(life, 0.03)) for (let i = 0; i < 100; i++) write(life, `import/${life.day}-${i}.jpg`, 20_000, 'noise');
    if (life.day % 30 === 29) for (const path of some(life, below(life, 'media/'), 0.4)) remove(life, path);
  },
  'worker on a project, with big edits and imports': (life) => {
    diary(life);
    if (life.day === 0) for (let i = 0; i < 200; i++) write(life, `project/${i}.md`, between(life, 500, 8000));
    const share = chance(life, 0.04) ? 0.4 : 0.05;
    for (const path of some(life, below(life, 'project/'), share)) write(life, path, between(life, 500, 8000));
    if (chance(life, 0.03))
      for (let i = 0; i < 80; i++) write(life, `vendor/${life.day}-${i}.js`, between(life, 500, 9000));
    if (chance(life, 0.03)) for (const path of below(life, 'vendor/')) remove(life, path);
  },
  'keeper of a large database': (life) => {
    diary(life);
    write(life, 'index.sqlite', 3_000_000 + life.day * 50_000);
    if (chance(life, 0.1)) write(life, `exports/${life.day}.tar.gz`, between(life, 100_000, 1_500_000), 'noise');
    if (life.day % 7 === 0) for (const path of below(life, 'exports/')) remove(life, path);
  },
};

/** The days of an agent: the steps of each, and the files after it. */
export function* live(kind: string, seed: number, days: number): Generator<{ steps: Step[]; files: Files }> {
  const life: Life = { files: new Map(), random: dice(seed), day: 0, steps: [] };
  for (; life.day < days; life.day++) {
    life.steps = [];
    AGENTS[kind]?.(life);
    yield { steps: life.steps, files: life.files };
  }
}

/** What malware does in a night: the files that it takes have other contents, of the same size, under their names or others. */
export function encrypt(files: Files, share: number, suffix: string, random: () => number): Step[] {
  return [...files]
    .filter(() => random() < share)
    .flatMap(([path, { bytes }]): Step[] => [
      { do: 'write', path: path + suffix, content: 'noise', bytes },
      ...(suffix === '' ? [] : [{ do: 'remove', path } as const]),
    ]);
}

/** What a backup would measure: the model of a snapshot. */
export function measure(before: Files, steps: readonly Step[], past: Files): Measured {
  const files: Files = new Map(past);
  const fresh = new Set<string>();
  const moved = new Set<string>();
  for (const step of steps) {
    const old = files.get(step.path);
    if (step.do === 'write') files.set(step.path, step);
    if (step.do === 'append')
      files.set(step.path, { content: old?.content ?? 'text', bytes: (old?.bytes ?? 0) + step.bytes });
    if (step.do === 'remove' || step.do === 'move') files.delete(step.path);
    if (step.do === 'move' && old) {
      files.set(step.to, old);
      moved.add(step.to);
    }
    if (step.do === 'write' || step.do === 'append') fresh.add(step.path);
  }
  const names = [...files.keys()];
  const sum = (paths: readonly string[]) => paths.reduce((bytes, path) => bytes + (files.get(path)?.bytes ?? 0), 0);
  const removed = [...before.keys()].filter((path) => !files.has(path)).length;
  const written = names.filter((path) => fresh.has(path));
  const touched = names.filter((path) => fresh.has(path) || moved.has(path));
  const isNew = (path: string) => !before.has(path);
  const of = (content: Content) => {
    const paths = names.filter((path) => files.get(path)?.content === content);
    return { files: paths.length, bytes: sum(paths) };
  };
  return {
    files: files.size,
    bytes: sum(names),
    statistics: {
      new: names.filter(isNew).length,
      changed: touched.filter((path) => !isNew(path)).length,
      removed,
      rewritten: written.filter((path) => !isNew(path)).length + Math.min(removed, written.filter(isNew).length),
      changedBytes: sum(touched),
      addedBytes: sum(written),
      storedBytes: sum(written),
      compressible: of('text'),
      incompressible: of('noise'),
    },
  };
}

export interface Alarms {
  days: number;
  /** Of ordinary days. */
  falseAlarms: string[];
  /** Of the attack on the day after: codes. */
  attack: string[];
}

/** Lives the days in the model, and then has the files attacked. An alarm is acknowledged at once. */
export function simulate(
  kind: string,
  seed: number,
  days: number,
  attack: (files: Files, random: () => number) => Step[],
  thresholds?: Thresholds,
): Alarms {
  const history: Past[] = [];
  const falseAlarms: string[] = [];
  let before: Files = new Map();
  for (const { steps, files } of live(kind, seed, days)) {
    const measured = measure(before, steps, before);
    const findings = judge(history, measured, thresholds);
    falseAlarms.push(...findings.map(({ message }) => `day ${history.length}: ${message}`));
    const id = history.length.toString(16).padStart(64, '0') as SnapshotId;
    history.push({ id, ...measured, isSuspicious: findings.length > 0, isAcknowledged: findings.length > 0 });
    before = new Map(files);
  }
  const now = measure(before, attack(before, dice(seed + 1)), before);
  return { days, falseAlarms, attack: judge(history, now, thresholds).map(({ code }) => code) };
}

if (import.meta.main) {
  const attacks: Record<string, (files: Files, random: () => number) => Step[]> = {
    'half in place': (files, random) => encrypt(files, 0.5, '', random),
    'half renamed': (files, random) => encrypt(files, 0.5, '.locked', random),
    'a third in place': (files, random) => encrypt(files, 0.33, '', random),
    '60 % removed': (files, random) =>
      [...files.keys()].filter(() => random() < 0.6).map((path) => ({ do: 'remove', path })),
  };
  const SEEDS = 100;
  for (const kind of Object.keys(AGENTS)) {
    const alarms: string[] = [];
    const noticed = Object.entries(attacks).map(([name, attack]) => {
      let hits = 0;
      for (let seed = 0; seed < SEEDS; seed++) {
        const result = simulate(kind, seed, 90, attack);
        if (result.attack.length > 0) hits++;
        if (name === 'half in place') alarms.push(...result.falseAlarms);
      }
      return `${name} ${Math.round((hits * 100) / SEEDS)} %`;
    });
    process.stdout.write(`${kind}: ${alarms.length} alarms in ${90 * SEEDS} days; ${noticed.join(', ')}\n`);
    for (const alarm of alarms.slice(0, 4)) process.stdout.write(`  ${alarm}\n`);
  }
}
