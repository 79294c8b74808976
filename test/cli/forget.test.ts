/** `forget` as scripts and people meet it: exit codes, JSON, the calendar. */
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { retentionCalendar } from '../../src/cli/retention-calendar.ts';
import type { ForgetResult, SnapshotName } from '../../src/operations/forget.ts';
import { judgeRetention } from '../../src/operations/retention.ts';
import type { UndoResult } from '../../src/operations/undo-forget.ts';
import type { SnapshotId } from '../../src/repository/repository.ts';
import { sha256Hex } from '../../src/crypto/hash.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';
import { ROOT } from './run.ts';

describe('the command', () => {
  let home: AgentHome;
  const ids: string[] = [];
  beforeAll(async () => {
    home = agentHome(temporaryFolder(), { warm: true });
    mkdirSync(home.at('state'));
    await home.json(0, ...initArgs((name) => home.at(name)), '--words-file', 'words.txt');
    appendFileSync(home.at('holdfast.yaml'), 'prune: {settle: 0s}\n');
    for (const text of ['0', '1', '2']) {
      writeFileSync(home.at('state', 'MEMORY.md'), text);
      ids.push((await home.json<{ snapshot: { id: string } }>(0, 'backup')).snapshot.id);
    }
  });
  afterAll(() => removeFolder(home.folder));

  test('goes by the config that init writes, and by flags beside it; a dry run changes nothing', async () => {
    expect(readFileSync(home.at('holdfast.yaml'), 'utf8')).toContain('retention: {daily: 7, weekly: 5, monthly: 12}\n');
    const usual = await home.json<ForgetResult>(0, 'forget', '--dry-run');
    // All of one day, unless it is midnight: then the one in the middle may be the last of the day.
    expect(usual.kept.at(-1)).toMatchObject({ seq: 2, reasons: ['newest', 'daily', 'weekly', 'monthly'] });
    const all = await home.json<ForgetResult>(0, 'forget', '--dry-run', '--keep-last', '5', '--keep-within', '30d');
    expect(all).toMatchObject({ dryRun: true, forgotten: [], complete: true });
    expect(all.kept[0]?.reasons.slice(0, 2)).toEqual(['last', 'within']);
    expect(await home.json(0, 'snapshots')).toHaveLength(3);
  });

  test('forgets what is named, tells how to put it back, and puts it back', async () => {
    const { code, stdout } = await home.holdfast('forget', ids[0] ?? '', 'latest~1');
    expect(code).toBe(0);
    const [, undo = ''] = /holdfast forget --undo ([0-9a-f]{8})$/m.exec(stdout) ?? [];
    expect(stdout).toMatch(/^forgot 2 snapshots, kept 1, in .* s\n {2}nas: done\n {2}usb: done\n/);
    expect(await home.json(0, 'snapshots')).toHaveLength(1);
    const back = await home.json<UndoResult>(0, 'forget', '--undo', undo);
    expect(back).toMatchObject({ restored: [{ id: ids[0] }, { id: ids[1] }], complete: true });
    expect(await home.json(0, 'snapshots')).toHaveLength(3);
    expect(await home.json(0, 'verify')).toMatchObject({ damaged: [] });
  });

  test('refuses as a wrong usage what may not go, and what is no rule', async () => {
    expect((await home.refused(2, 'forget', 'latest')).message).toContain('is the newest one');
    expect((await home.refused(2, 'forget', ids[0] ?? '', '--keep-last', '1')).hint).toContain('by rules');
    expect((await home.refused(2, 'forget', '--undo', 'latest')).code).toBe('usage');
    expect((await home.refused(2, 'forget', '--keep-within', '30')).message).toContain('not a duration');
    const none = ['--keep-daily', '0', '--keep-weekly', '0', '--keep-monthly', '0'];
    expect((await home.refused(2, 'forget', ...none)).hint).toContain('retention:');
  });
});

test('the calendar is the one of the documentation', () => {
  const HOUR_MS = 3_600_000;
  const from = Date.parse('2026-01-10T00:00:00Z');
  const rows = Array.from({ length: 323 }, (_, seq) => ({
    id: sha256Hex(Buffer.from(String(seq))) as SnapshotId,
    seq,
    timeMs: from + seq * 6 * HOUR_MS,
    tags: seq === 101 ? ['protected'] : [],
    isHeld: false,
  }));
  const nowMs = Date.parse('2026-03-31T12:30:00Z');
  const reasons = judgeRetention(rows, { hourly: 3, daily: 7, weekly: 5, monthly: 12 }, { nowMs });
  const name = ({ id, seq, timeMs }: (typeof rows)[number]): SnapshotName => {
    return { id, seq, time: new Date(timeMs).toISOString() };
  };
  const of = (row: (typeof rows)[number]) => reasons.get(row.id) ?? [];
  const result: ForgetResult = {
    dryRun: true,
    kept: rows.filter((row) => of(row).length > 0).map((row) => ({ ...name(row), reasons: of(row) })),
    forgotten: rows.filter((row) => of(row).length === 0).map(name),
    ...{ records: [], backends: [], warnings: [], seconds: 0, complete: true },
  };
  const text = retentionCalendar(result);
  expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
  expect(readFileSync(`${ROOT}/docs/retention.md`, 'utf8')).toContain(text);
  // In Auckland it is tomorrow already.
  expect(retentionCalendar(result, 'Pacific/Auckland')).toMatch(/^2026-04 {2}N/m);
});
