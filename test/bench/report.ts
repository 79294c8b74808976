/** The findings as text: for the terminal and for docs/benchmarks.md. */
import { PEER_NAMES, TOOL_NAMES } from './results.ts';
import type {
  BenchResult,
  CorpusResult,
  FleetResult,
  GrowthPoint,
  GrowthResult,
  StartResult,
  TargetResult,
} from './results.ts';

interface Table {
  head: string[];
  rows: string[][];
}

/** A part of the report: its name is that of the markers in the document. */
export interface Section {
  name: string;
  title: string;
  /** Paragraphs and tables in turn. */
  content: (string | Table)[];
}

const NOT_MEASURED = 'not measured';

/** The document's parts, in its order. */
const TITLES: Record<string, string> = {
  machine: 'Machine and settings',
  targets: 'Targets',
  agents: 'The agents',
  small: 'Many small files',
  database: 'One large database',
  incompressible: 'Incompressible data',
  s3: 'The agents on S3',
  start: 'Start-up',
  growth: 'Growth',
  fleet: 'A large fleet',
};

/** The parts that the run has something for. */
export function sectionsOf(result: BenchResult): Section[] {
  const content: Record<string, (string | Table)[]> = {
    machine: machineContent(result),
    targets: [targetTable(result.targets)],
  };
  for (const [name, corpus] of Object.entries(result.corpora)) content[name] = corpusContent(name, corpus, result);
  if (result.start) content['start'] = [provenance(result), startTable(result.start, result.targets)];
  if (result.growth) content['growth'] = [provenance(result), ...growthContent(result.growth)];
  if (result.fleet) content['fleet'] = [provenance(result), fleetTable(result.fleet, result.targets)];
  return Object.entries(TITLES).flatMap(([name, title]) =>
    content[name] ? [{ name, title, content: content[name] }] : [],
  );
}

function provenance({ date, machine, tools, scale }: BenchResult): string {
  const versions = tools.map(({ name, version }) => `${name} ${version}`).join(', ');
  const shrunk = scale === 1 ? '' : ` Trees times ${scale}: the targets are not meant for these.`;
  return `${date.slice(0, 10)}, ${String(machine['processor'])}, ${String(machine['cores'])} cores; ${versions}.${shrunk}`;
}

function machineContent({ date, machine, tools, notMeasured, seconds }: BenchResult): (string | Table)[] {
  const facts = Object.entries({ ...machine, 'started at': date, 'whole run': `${Math.round(seconds)} s` });
  return [
    { head: ['machine', ''], rows: facts.map(([name, fact]) => [name, String(fact)]) },
    {
      head: ['tool', 'version', 'settings'],
      rows: [
        ...tools.map(({ name, version, settings }) => [name, version, settings]),
        ...notMeasured.map(({ name, reason }) => [name, NOT_MEASURED, reason]),
      ],
    },
    'All three flush their repository to the disk before they say that a backup is done, and none is told otherwise. holdfast also flushes a restored tree; the others do not, so `sync -f` is run after them and counts.',
  ];
}

function corpusContent(part: string, corpus: CorpusResult, result: BenchResult): (string | Table)[] {
  const targets = result.targets.filter((target) => target.part === part);
  const rows = Object.values(corpus.measurements).map(({ label, unit, tools, ratios }) => {
    const target = (peer: TargetResult['peer']) =>
      targets.find((one) => one.measurement === label && one.peer === peer);
    const own = target('smaller') ?? target(null);
    return [
      label,
      ...TOOL_NAMES.map((name) => (tools[name] ? quantity(tools[name].median, unit) : NOT_MEASURED)),
      ...PEER_NAMES.map((peer) => (ratios[peer] ? judged(ratio(ratios[peer].median), target(peer)) : '')),
      own ? verdict(own) : '',
    ];
  });
  const table = {
    head: ['', ...TOOL_NAMES, ...PEER_NAMES.map((peer) => `: ${peer} (target)`), 'other (target)'],
    rows,
  };
  const about = `${corpus.title}${corpus.place === undefined ? '' : `, to ${corpus.place}`}: ${count(corpus.files)} files, ${quantity(corpus.bytes, 'B')}. Medians of ${corpus.rounds} rounds, warm cache unless named cold (cold: one round); repository size after the first backup. A ratio is the median over the rounds of holdfast : peer.`;
  return [`${about} ${provenance(result)}`, table];
}

function startTable(start: StartResult, targets: readonly TargetResult[]): Table {
  const target = (command: string) =>
    targets.find((one) => one.part === 'start' && one.measurement.startsWith(`\`${command}\``));
  const row = (label: string, { median, min, max }: StartResult['node'], limit?: TargetResult) => [
    label,
    ...[median, min, max].map((value) => `${value.toFixed(0)} ms`),
    limit ? verdict(limit) : '',
  ];
  return {
    head: ['', 'median', 'min', 'max', 'target'],
    rows: [
      row('`node -e 0`', start.node),
      row('`holdfast --version`, beyond that', start.version, target('holdfast --version')),
      row('`holdfast snapshots`, beyond that', start.snapshots, target('holdfast snapshots')),
    ],
  };
}

function fleetTable({ check, ...watch }: FleetResult, targets: readonly TargetResult[]): Table {
  const [cpu, time] = targets.filter(({ part }) => part === 'fleet');
  const watched = `${count(watch.agents)} agents every ${watch.intervalSeconds} s, for ${watch.seconds.toFixed(0)} s`;
  const checked = `${count(check.agents)} agents, ${check.unreachable} of them cannot be reached`;
  const { median, min, max } = check.seconds;
  return {
    head: ['', 'found', 'target'],
    rows: [
      [`\`fleet watch\`, ${watched}: CPU, of one core`, `${(100 * watch.cpu).toFixed(1)} %`, cpu ? verdict(cpu) : ''],
      ['… its peak memory', quantity(watch.memory, 'B'), ''],
      [
        '… looks that were due, and made',
        `${count(Math.round(watch.looksDue))}, ${count(Math.round(watch.looks))}`,
        '',
      ],
      [
        `\`fleet check\`, ${checked}: the longest of ${check.seconds.values.length}`,
        `${quantity(max, 's')} (median ${quantity(median, 's')}, min ${quantity(min, 's')})`,
        time ? verdict(time) : '',
      ],
    ],
  };
}

function growthContent({ byFiles, byBytes, slopes, predictions }: GrowthResult): (string | Table)[] {
  const points = (head: string, all: readonly GrowthPoint[], amount: (point: GrowthPoint) => string): Table => ({
    head: [head, 'rounds', 'first backup', 'nothing changed', 'restore', 'peak memory', 'of the restore', 'repository'],
    rows: all.map((point) =>
      point.leftOut
        ? [amount(point), `left out: ${point.leftOut}`, '', '', '', '', '', '']
        : [
            amount(point),
            String(point.rounds),
            ...[point.firstBackup, point.unchanged, point.restore].map((value) => quantity(value, 's')),
            ...[point.memory, point.restoreMemory, point.size].map((value) => quantity(value, 'B')),
          ],
    ),
  });
  return [
    points('small files', byFiles, ({ files }) => count(files)),
    points('one tree', byBytes, ({ bytes }) => quantity(bytes, 'B')),
    'From one size to the next: exponents of the time (1 is linear), and memory for each further file or byte.',
    {
      head: ['from', 'to', 'first backup', 'nothing changed', 'restore', 'memory', 'memory of the restore'],
      rows: slopes.map((slope) => [
        amountText(slope.from),
        amountText(slope.to),
        ...[slope.firstBackup, slope.unchanged, slope.restore].map((value) => value.toFixed(2)),
        ...[slope.memory, slope.restoreMemory].map((value) => `${Number(value.toPrecision(2))} B`),
      ]),
    },
    'A prediction, not a measurement: the line through the last two sizes, read at 10^8 chunks.',
    {
      head: ['10^8 chunks', 'peak memory of the first backup', 'of the restore'],
      rows: predictions.map(({ of, memory, restoreMemory }) => [
        of,
        quantity(memory, 'B'),
        quantity(restoreMemory, 'B'),
      ]),
    },
  ];
}

/** `1000 files` with the number as people read it. */
function amountText(amount: string): string {
  const [number = '', unit] = amount.split(' ');
  return unit === 'bytes' ? quantity(Number(number), 'B') : `${count(Number(number))} ${unit}`;
}

function targetTable(targets: readonly TargetResult[]): Table {
  const against = { restic: 'restic', borg: 'borg', smaller: 'the smaller peer' };
  return {
    head: ['part', 'measurement', 'ratio to', 'target', 'found', ''],
    rows: targets.map((target) => [
      target.part,
      target.measurement,
      target.peer ? against[target.peer] : '',
      `≤ ${limited(target, target.limit)}`,
      target.value === null ? NOT_MEASURED : limited(target, target.value),
      outcome(target),
    ]),
  };
}

const outcome = ({ met }: TargetResult): string => (met === null ? '' : met ? 'met' : 'missed');

const judged = (found: string, target: TargetResult | undefined): string =>
  target ? `${found} (≤ ${limited(target, target.limit)} ${outcome(target)})` : found;

const verdict = (target: TargetResult): string =>
  target.value === null
    ? NOT_MEASURED
    : `${judged(limited(target, target.value), target)}${target.peer === 'smaller' ? ' of the smaller peer' : ''}`;

function limited({ unit }: TargetResult, value: number): string {
  if (unit === 'ratio') return ratio(value);
  if (unit === '%') return `${value.toFixed(1)} %`;
  return unit === 'ms' ? `${value.toFixed(0)} ms` : quantity(value, unit);
}

const ratio = (value: number): string => value.toFixed(value < 0.1 ? 3 : 2);

const count = (value: number): string => value.toLocaleString('en');

/** Decimal units: 1 MB is 10^6 bytes. */
export function quantity(value: number, unit: 's' | 'B'): string {
  if (unit === 's') return `${value.toFixed(value < 100 ? 2 : 0)} s`;
  const size = Math.abs(value);
  const [divisor, name] = size >= 1e9 ? [1e9, 'GB'] : size >= 1e6 ? [1e6, 'MB'] : size >= 1e3 ? [1e3, 'kB'] : [1, 'B'];
  const number = value / divisor;
  return `${number.toFixed(divisor === 1 || Math.abs(number) >= 100 ? 0 : 1)} ${name}`;
}

/** For a terminal: columns by spaces. The targets stand in the tables of the parts. */
export function terminalText(sections: readonly Section[]): string {
  const aligned = ({ head, rows }: Table): string => {
    const lines = [head, ...rows].map((cells) => cells.map((cell) => cell.replaceAll('`', '')));
    const widths = head.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)));
    return lines
      .map((cells) =>
        cells
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd(),
      )
      .join('\n');
  };
  return sections
    .filter(({ name }) => name !== 'targets')
    .map(({ title, content }) =>
      [title.toUpperCase(), ...content.map((one) => (typeof one === 'string' ? one : aligned(one)))].join('\n\n'),
    )
    .join('\n\n\n');
}

/** As Markdown, not aligned yet. */
export function markdown(content: readonly (string | Table)[]): string {
  const row = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return content
    .map((one) =>
      typeof one === 'string' ? one : [row(one.head), row(one.head.map(() => '---')), ...one.rows.map(row)].join('\n'),
    )
    .join('\n\n');
}

/** The document without any figures yet. */
export function emptyDocument(): string {
  const sections = Object.entries(TITLES).map(
    ([name, title]) => `## ${title}\n\n${between(name, 'Not measured yet.')}\n`,
  );
  return `# Benchmarks\n\nThe tables between the markers are written by \`npm run bench\`; the rest is not touched by it.\n\n${sections.join('\n')}`;
}

const between = (name: string, body: string): string => `<!-- bench:${name} -->\n\n${body}\n\n<!-- /bench:${name} -->`;

/**
 * Puts `body` between the markers of `name`, and leaves everything else as it is; a document without them gets a section at its end.
 *
 * @throws Error when only one of the markers is there, or one is there twice.
 */
export function replaceSection(document: string, name: string, body: string): string {
  const [open, close] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`];
  const [before, rest, ...more] = document.split(open);
  const [old, after, ...extra] = (rest ?? '').split(close);
  if (rest === undefined && !document.includes(close))
    return `${document.trimEnd()}\n\n## ${TITLES[name] ?? name}\n\n${between(name, body)}\n`;
  if (rest === undefined || old === undefined || after === undefined || more.length > 0 || extra.length > 0)
    throw new Error(`the markers ${open} and ${close} do not stand in the document once each, in this order`);
  return `${before}${between(name, body)}${after}`;
}
