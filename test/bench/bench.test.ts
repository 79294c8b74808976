/** The benchmark itself, at a scale where only its working can be seen. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROGRAM, ROOT, run } from '../cli/run.ts';
import { assertSame } from './folders.ts';
import { prediction, slopes } from './growth.ts';
import { measure } from './measure.ts';
import { emptyDocument, markdown, quantity, replaceSection } from './report.ts';
import { MEASUREMENT_NAMES, comparison, median, type BenchResult, type GrowthPoint } from './results.ts';
import { targetsOf } from './targets.ts';

const BENCH = 'test/bench/main.ts';
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-bench-test-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.concurrent('a run', () => {
  it('measures everything, writes its document and leaves nothing behind', async () => {
    const output = join(folder, 'benchmarks.md');
    const { code, stdout, stderr } = await run(BENCH, [
      ...[
        '--tools',
        'holdfast',
        '--program',
        PROGRAM,
        '--only',
        'agents,start,growth',
        '--scale',
        '0.001',
        '--rounds',
        '1',
      ],
      ...[
        '--max-files',
        '1',
        '--max-bytes',
        '0',
        '--json',
        '--write',
        '--output',
        output,
        '--dir',
        join(folder, 'work'),
      ],
    ]);
    expect(stderr).not.toContain('Error');
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as BenchResult;

    const { measurements, files } = result.corpora['agents'] ?? { measurements: {}, files: 0 };
    expect(files).toBe(150);
    const warm = MEASUREMENT_NAMES.filter((name) => !name.startsWith('cold'));
    expect(Object.keys(measurements)).toEqual(warm);
    for (const { tools, ratios } of Object.values(measurements)) {
      expect(tools.holdfast?.values).toHaveLength(1);
      expect(tools.holdfast?.median).toBeGreaterThan(0);
      expect([tools.restic, tools.borg, ratios]).toEqual([undefined, undefined, {}]);
    }
    expect(measurements.memorySum?.tools.holdfast?.median).toBeGreaterThan(30e6);
    expect(measurements.size?.tools.holdfast?.median).toBeLessThan(6e6);
    expect(result.start?.snapshots.median).toBeGreaterThan(0);
    expect(result.growth?.byFiles.map(({ files: n, leftOut }) => [n, leftOut === undefined])).toEqual([
      [1, true],
      [10, false],
      [100, false],
      [1000, false],
    ]);
    expect(result.growth?.byFiles[0]).toMatchObject({ files: 1, bytes: 600, rounds: 1 });
    expect(result.targets.filter(({ value }) => value !== null).map(({ part }) => part)).toEqual([
      'agents',
      'start',
      'start',
    ]);

    expect(readdirSync(join(folder, 'work'))).toEqual([]);
    const document = readFileSync(output, 'utf8');
    expect(document).toMatch(/\| first backup +\| \d+\.\d\d s +\| not measured \|/);
    expect(document.match(/Not measured yet\./g)).toHaveLength(7);
    const prettier = [join(ROOT, 'node_modules/prettier/bin/prettier.cjs'), '--config', join(ROOT, '.prettierrc.json')];
    expect(spawnSync(process.execPath, [...prettier, '--check', output]).status).toBe(0);
  });

  it.each([
    [['--fast'], "Unknown option '--fast'"],
    [['--only', 'agents,all'], '--only does not know "all"'],
    [['--tools', 'restic'], '--tools has to name holdfast'],
    [['--rounds', '0'], '--rounds wants a whole number'],
    [
      ['--tools', 'holdfast,borg', '--borg', '/nonexistent/borg', '--program', PROGRAM],
      '/nonexistent/borg --version does not run',
    ],
    [['--tools', 'holdfast', '--program', 'bin/none.js'], 'bin/none.js --version does not run'],
  ])('refuses %j', async (args, message) => {
    const { code, stdout, stderr } = await run(BENCH, [...args, '--dir', join(folder, 'refused')]);
    expect(stderr).toContain(message);
    expect([code, stdout]).toEqual([2, '']);
  });
});

describe('measure', () => {
  const node = (script: string) => ({ file: process.execPath, args: ['-e', script], env: {}, cwd: folder });

  it('counts the memory and the CPU time of the processes below', async () => {
    const busy = 'const b = Buffer.alloc(100e6, 1); const end = Date.now() + 250; while (Date.now() < end); b.at(0)';
    const cost = await measure(
      node(`const { spawn } = require('node:child_process');
        for (let i = 0; i < 2; i++) spawn(process.execPath, ['-e', ${JSON.stringify(busy)}], { stdio: 'inherit' })`),
    );
    expect(cost.largestBytes).toBeGreaterThan(120e6);
    expect(cost.sumBytes).toBeGreaterThan(cost.largestBytes + 30e6);
    expect(cost.cpuSeconds).toBeGreaterThan(0.2);
    expect(cost.seconds).toBeGreaterThan(0.25);
  });

  it('fails with what the command said', async () => {
    await expect(measure(node("console.error('out of tapes'); process.exit(7)"))).rejects.toThrow(
      /exit code 7\nout of tapes/,
    );
    await expect(measure({ ...node(''), file: '/nonexistent' })).rejects.toThrow('ENOENT');
  });
});

describe('figures', () => {
  it('the median is the middle, or the mean of the middle two', () => {
    expect([median([9, 1, 5]), median([4, 1, 2, 100])]).toEqual([5, 3]);
    expect(() => median([])).toThrow('nothing');
  });

  it('a ratio is the median of the ratios of the rounds, not the ratio of the medians', () => {
    const { ratios } = comparison('size', { holdfast: [1, 2, 9], restic: [2, 8, 9], borg: [4, 1, 10] });
    expect(ratios.restic).toEqual({ median: 0.5, min: 0.25, max: 1, values: [0.5, 0.25, 1] });
    expect(ratios.smaller?.values).toEqual([0.5, 2, 1]);
    expect(comparison('size', { holdfast: [1], borg: [4] }).ratios).toEqual({
      borg: { median: 0.25, min: 0.25, max: 0.25, values: [0.25] },
    });
  });

  it('a target is met at its limit, missed above it, and neither where nothing was measured', () => {
    const measurements = { restore: comparison('restore', { holdfast: [0.6, 0.6], restic: [1, 1], borg: [1, 1] }) };
    const corpora = { agents: { title: '', files: 1, bytes: 1, rounds: 2, measurements } };
    const result: BenchResult = {
      ...{ date: '', seconds: 0, scale: 1, machine: {}, tools: [], notMeasured: [], targets: [] },
      corpora,
    };
    const targets = targetsOf(result);
    const found = targets.filter(({ value }) => value !== null);
    expect(found.map(({ peer, met }) => [peer, met])).toEqual([
      ['restic', true],
      ['borg', false],
    ]);
    expect(targets.every(({ value, met }) => (value === null) === (met === null))).toBe(true);
  });

  it('growth: exponents of time, memory by the file, and the line through the last two sizes', () => {
    const point = (files: number, seconds: number, memory: number): GrowthPoint => ({
      ...{ files, bytes: 0, rounds: 1, size: 0 },
      ...{ firstBackup: seconds, unchanged: 1, restore: seconds, memory, restoreMemory: 5 },
    });
    const points = [
      point(10, 1, 100),
      point(100, 10, 190),
      { ...point(500, 0, 0), leftOut: 'no room' },
      point(1000, 1000, 2890),
    ];
    expect(slopes(points, ({ files }) => files, 'files')).toEqual([
      { from: '10 files', to: '100 files', firstBackup: 1, unchanged: 0, restore: 1, memory: 1, restoreMemory: 0 },
      { from: '100 files', to: '1000 files', firstBackup: 2, unchanged: 0, restore: 2, memory: 3, restoreMemory: 0 },
    ]);
    expect(prediction('files', points, ({ files }) => files)).toEqual([
      { of: 'files', chunks: 1e8, memory: 2890 + 3 * (1e8 - 1000), restoreMemory: 5 },
    ]);
    expect(prediction('files', points.slice(0, 1), ({ files }) => files)).toEqual([]);
  });

  it('prints amounts with the digits that matter', () => {
    expect([quantity(0.4567, 's'), quantity(399e6, 'B'), quantity(2.5e9, 'B'), quantity(12, 'B')]).toEqual([
      '0.46 s',
      '399 MB',
      '2.5 GB',
      '12 B',
    ]);
  });
});

describe('the document', () => {
  it('gets a new section between the markers, and keeps what stands around it', () => {
    const document = emptyDocument().replace('## Start-up', 'Written by hand.\n\n## Start-up');
    const body = markdown([{ head: ['a', 'b'], rows: [['1', 'x|y']] }]);
    const once = replaceSection(document, 'start', body);
    expect(once).toContain('<!-- bench:start -->\n\n| a | b |\n| --- | --- |\n| 1 | x\\|y |\n\n<!-- /bench:start -->');
    expect(once).toContain('Written by hand.');
    expect(replaceSection(once, 'start', 'Not measured yet.')).toBe(document);
    expect(replaceSection('# Title\n', 'growth', 'x')).toBe(
      '# Title\n\n## Growth\n\n<!-- bench:growth -->\n\nx\n\n<!-- /bench:growth -->\n',
    );
  });

  it.each(['<!-- bench:start -->', '<!-- /bench:start -->', '<!-- /bench:start --><!-- bench:start -->'])(
    'with only %s it is refused',
    (broken) => expect(() => replaceSection(`# Title\n${broken}\n`, 'start', 'x')).toThrow('markers'),
  );
});

it('a restored tree that differs is noticed: contents, a missing file, times', () => {
  const [source, restored] = [join(folder, 'a'), join(folder, 'b')];
  const restore = (script: string) =>
    spawnSync('sh', ['-ec', `rm -rf a b; mkdir a; echo one > a/x; echo two > a/y; cp -a a b; ${script}`], {
      cwd: folder,
    });
  restore('');
  assertSame(source, restored, { name: 'cp' });
  for (const fault of [
    'echo six > b/y; touch -r a/y b/y; touch -r a b',
    'rm b/x',
    'touch -d 2001-01-01 b/x',
    'chmod 600 b/x',
  ]) {
    restore(fault);
    expect(() => assertSame(source, restored, { name: 'cp' }), fault).toThrow('cp restored');
  }
});

it('an S3 server that cannot be had leaves out its part, with the reason', () => {
  const args = ['--only', 's3', '--tools', 'holdfast', '--program', PROGRAM, '--rounds', '1', '--json'];
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, BENCH), ...args, '--dir', join(folder, 's3')],
    { encoding: 'utf8', env: { ...process.env, HOLDFAST_TEST_SERVERS: 'none' } },
  );
  expect([status, stderr]).toEqual([0, expect.stringContaining('s3 is left out: HOLDFAST_TEST_SERVERS is none')]);
  const result = JSON.parse(stdout) as BenchResult;
  expect([result.notMeasured, result.corpora]).toEqual([[{ name: 's3', reason: 'HOLDFAST_TEST_SERVERS is none' }], {}]);
});

it('a peer that cannot be had is left out, with the reason', () => {
  const script = `
    import { findTools } from ${JSON.stringify(join(ROOT, 'test/bench/tools.ts'))};
    process.getuid = () => 1000; // root would install it
    console.log(JSON.stringify(findTools(['restic'], { program: '', paths: {}, log: () => {} })));`;
  const env = { PATH: '/nonexistent' };
  const flags = ['--input-type=module', '-e', script];
  const { stdout } = spawnSync(process.execPath, flags, { encoding: 'utf8', env });
  expect(JSON.parse(stdout)).toMatchObject({ tools: [], notMeasured: [{ name: 'restic' }] });
});
