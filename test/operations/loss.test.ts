/** Noticing loss through real backups. */
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
  appendFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import { listSnapshots } from '../../src/operations/look.ts';
import { loadProfile, scaffoldJudge } from '../../src/state/profile.ts';
import { seededNoise } from '../crypto/support.ts';
import { dice, encrypt, live, measure, type Files, type Step } from './ordinary-days.ts';
import { aheadClock, makeAgent, type TestAgent } from './support.ts';

const random = seededNoise('loss');
const text = (bytes: number) => Buffer.alloc(bytes, `${Buffer.from(random.bytes(30)).toString('hex')} remembers. `);

const FILES = 12;
const nameOf = (i: number) => `note-${i}.md`;
const withNotes = () =>
  makeAgent({
    fill: (state) => {
      for (let i = 0; i < FILES; i++) writeFileSync(join(state, nameOf(i)), text(300 + i * 40));
    },
  });
const encryptHalf = (agent: TestAgent, suffix = '') => {
  for (let i = 0; i < FILES; i += 2) {
    const path = join(agent.state, nameOf(i));
    writeFileSync(path, random.bytes(readFileSync(path).length));
    renameSync(path, path + suffix);
  }
};
const acknowledge = (agent: TestAgent, snapshot = 'latest') => {
  const { addresses: backends, signer, folders } = agent;
  const options = { backends, access: agent.access.writer, signer, folders, host: 'h', snapshot, acknowledged: true };
  return annotateSnapshot(options, agent.seams());
};
const rowsOf = async (agent: TestAgent) =>
  (await listSnapshots({ backends: agent.addresses, access: agent.access.writer }, agent.seams())).snapshots;

test('a blank template in the place of memory is suspicious; one that was blank from the beginning is not', async () => {
  await using agent = await makeAgent();
  const profile = await loadProfile('ants');
  const put = (name: string, content: string) => writeFileSync(join(agent.state, name), content);
  const backup = () =>
    agent.backup({ state: { root: agent.state, exclude: [], keepOut: [], isScaffold: scaffoldJudge(profile) } });
  put('MEMORY.md', '# Memory\n\nThe release is on Friday.\n');
  put('HEARTBEAT.md', '# Tasks\n\n<!-- none yet -->\n');
  expect(await backup()).toMatchObject({ complete: true, suspicious: [] });
  utimesSync(join(agent.state, 'HEARTBEAT.md'), 5, 5);
  expect(await backup()).toMatchObject({ complete: true, suspicious: [] });
  put('HEARTBEAT.md', '# Tasks\n\n<!-- still none -->\n');
  expect(await backup()).toMatchObject({ complete: true, suspicious: [] });
  put('HEARTBEAT.md', '# Tasks\n\n- [ ] call Bob\n');
  expect(await backup()).toMatchObject({ complete: true, suspicious: [] });
  put('MEMORY.md', '# Memory\n\n<!-- what you want to remember -->\n');
  const { complete, suspicious } = await backup();
  expect([complete, suspicious.map(({ code }) => code)]).toEqual([false, ['scaffold']]);
  expect(suspicious[0]?.message).toContain('MEMORY.md');
});

test('a loss that lasts is told for as long as it lasts, however many snapshots there are of it', async () => {
  await using agent = await withNotes();
  await agent.backup();
  for (let i = 0; i < FILES; i++) rmSync(join(agent.state, nameOf(i)));
  const thresholds = { shrink: 0.5, change: 0.5, incompressible: 0.25, history: 7 };
  for (let run = 0; run < 17; run++) {
    writeFileSync(join(agent.state, 'log.md'), text(run + 20));
    const { complete, suspicious } = await agent.backup({ suspicion: thresholds });
    expect([complete, suspicious.map(({ code }) => code)], `run ${run}`).toEqual([false, ['shrunk']]);
  }
});

describe('half of the files replaced by random bytes', () => {
  test.each(['', '.locked'])('of the same size, under names with "%s" behind: suspicious at once', async (suffix) => {
    await using agent = await withNotes();
    expect(await agent.backup()).toMatchObject({ complete: true, suspicious: [], warnings: [] });
    encryptHalf(agent, suffix);
    const result = await agent.backup();
    expect(result).toMatchObject({
      complete: false,
      suspicious: [{ code: 'incompressible', value: FILES / 2 }],
      warnings: [{ code: 'incompressible', incomplete: true, message: expect.stringContaining('6 of 12 files') }],
    });
    // It is made all the same.
    expect(result.backends.map(({ state }) => state)).toEqual(['committed', 'committed']);
    expect((await rowsOf(agent)).map(({ suspicious, acknowledged }) => [suspicious.length, acknowledged])).toEqual([
      [0, false],
      [1, false],
    ]);
  });

  test('stay suspicious until somebody acknowledges it; what follows is then judged by it', async () => {
    await using agent = await withNotes();
    await agent.backup();
    encryptHalf(agent);
    await agent.backup();
    writeFileSync(join(agent.state, nameOf(1)), text(500));
    expect((await agent.backup()).suspicious).toMatchObject([{ code: 'incompressible' }]);
    const { acknowledged } = await acknowledge(agent);
    const rows = await rowsOf(agent);
    expect(acknowledged).toEqual(rows.slice(1).map(({ id }) => id));
    expect(rows.map((row) => row.acknowledged)).toEqual([false, true, true]);
    expect(await agent.backup()).toMatchObject({ complete: true, suspicious: [], warnings: [] });
  });

  test('and put back: nothing is found any more, and no run is whole until somebody has acknowledged it', async () => {
    await using agent = await withNotes();
    await agent.backup();
    const before = Array.from({ length: FILES }, (_, i) => readFileSync(join(agent.state, nameOf(i))));
    encryptHalf(agent);
    await agent.backup();
    before.forEach((bytes, i) => writeFileSync(join(agent.state, nameOf(i)), bytes));
    const result = await agent.backup();
    expect(result).toMatchObject({ complete: false, suspicious: [], warnings: [{ code: 'unacknowledged' }] });
    await acknowledge(agent);
    expect((await agent.backup()).warnings).toEqual([]);
  });

  test('are noticed without the caches of the runs before', async () => {
    await using agent = await withNotes();
    await agent.backup();
    encryptHalf(agent);
    rmSync(agent.folders.cache, { recursive: true });
    expect((await agent.backup()).suspicious).toMatchObject([{ code: 'incompressible', value: FILES / 2 }]);
  });

  test('are not looked at where that is switched off, or allowed', async () => {
    await using agent = await withNotes();
    await agent.backup();
    encryptHalf(agent);
    const all = { shrink: 1, change: 1, incompressible: 0.9, history: 30 };
    expect(await agent.backup({ suspicion: all })).toMatchObject({ complete: true, suspicious: [] });
    expect(await agent.backup({ suspicion: false })).toMatchObject({ complete: true, suspicious: [] });
  });
});

describe('a source', () => {
  test('that is empty makes a suspicious snapshot, and so does the next', async () => {
    await using agent = await withNotes();
    await agent.backup();
    for (const name of readdirSync(agent.state)) rmSync(join(agent.state, name));
    for (let i = 0; i < 2; i++) {
      const result = await agent.backup();
      expect(result).toMatchObject({ complete: false, files: { total: 0 }, suspicious: [{ code: 'empty', value: 0 }] });
      expect(result.snapshot.seq).toBe(i + 1);
    }
  });

  test('on another device, where its files are not, is not mounted', async () => {
    await using agent = await withNotes();
    await agent.backup();
    for (const name of readdirSync(agent.state)) rmSync(join(agent.state, name));
    writeFileSync(join(agent.state, 'lost+found'), '');
    const path = join(agent.folders.state, 'state.json');
    const state = JSON.parse(readFileSync(path, 'utf8')) as { device: string };
    expect(state.device).toMatch(/^\d+$/);
    writeFileSync(path, JSON.stringify({ ...state, device: '1' }));
    // What seems not to be the source is not remembered as such.
    for (let i = 0; i < 2; i++) expect((await agent.backup()).suspicious).toMatchObject([{ code: 'unmounted' }]);
  });

  test('of which most is gone is suspicious', async () => {
    await using agent = await withNotes();
    await agent.backup();
    for (let i = 0; i < FILES - 2; i++) rmSync(join(agent.state, nameOf(i)));
    expect((await agent.backup()).suspicious).toMatchObject([{ code: 'shrunk', value: FILES - 2 }]);
  });
});

test('the statistics of a snapshot say what became of the files', async () => {
  await using agent = await withNotes();
  await agent.backup();
  rmSync(join(agent.state, nameOf(0)));
  writeFileSync(join(agent.state, nameOf(1)), text(700));
  writeFileSync(join(agent.state, 'picture'), random.bytes(5000));
  await agent.backup();
  const { snapshots } = await (await agent.open()).snapshots();
  const [first, second] = snapshots.map(({ record }) => record.statistics);
  const bytes = snapshots.map(({ record }) => record.counts.bytes);
  expect(first).toMatchObject({ new: FILES, changed: 0, removed: 0, rewritten: 0, changedBytes: bytes[0] });
  expect(first?.compressible).toEqual({ files: FILES, bytes: bytes[0] });
  expect(second).toMatchObject({ new: 1, changed: 1, removed: 1, rewritten: 2, changedBytes: 5700, addedBytes: 5700 });
  expect(second?.incompressible).toEqual({ files: 1, bytes: 5000 });
  expect(second?.compressible).toEqual({ files: FILES - 1, bytes: (bytes[1] ?? 0) - 5000 });
  expect(second?.storedBytes).toBeGreaterThan(5000);
});

/** Plays what an agent does in a day. */
function play(state: string, steps: readonly Step[]): void {
  for (const step of steps) {
    const path = join(state, step.path);
    mkdirSync(dirname(path), { recursive: true });
    if (step.do === 'write') writeFileSync(path, step.content === 'text' ? text(step.bytes) : random.bytes(step.bytes));
    if (step.do === 'append') appendFileSync(path, text(step.bytes));
    if (step.do === 'move') renameSync(path, join(state, step.to));
    if (step.do === 'remove') rmSync(path);
  }
}

/** More than what is judged goes back (30 snapshots), and than a log stays. Each day costs more than the one before. */
const DAYS = 90;

test(
  `${DAYS} days of ordinary work raise no alarm, and measure as the model does; the night of the malware raises one`,
  { timeout: 180_000 },
  async () => {
    await using agent = await makeAgent({ backends: ['a'] });
    let now = aheadClock.now();
    const clock = { ...aheadClock, now: () => now };
    let before: Files = new Map();
    let day = 0;
    for (const { steps, files } of live('server, with rotated and compressed logs', 7, DAYS)) {
      play(agent.state, steps);
      now += 24 * 3_600_000;
      const { snapshot, suspicious, complete } = await agent.backup({}, { clock });
      expect({ suspicious, complete }).toEqual({ suspicious: [], complete: true });
      if (day++ % 9 === 0) {
        const {
          addedBytes: _added,
          storedBytes: _stored,
          ...counted
        } = measure(before, steps, before).statistics ?? {};
        const repository = await agent.open();
        const { record } = await repository.findSnapshot(snapshot.id);
        expect(record.statistics).toMatchObject(counted);
        await repository[Symbol.asyncDispose]();
      }
      before = new Map(files);
    }
    const night = encrypt(before, 0.5, '', dice(7));
    play(agent.state, night);
    expect((await agent.backup({}, { clock })).suspicious.map(({ code }) => code)).toContain('incompressible');
  },
);
