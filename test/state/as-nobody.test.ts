import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { removeFolder, temporaryFolder } from './trees.ts';

const folder = temporaryFolder();
afterAll(() => removeFolder(folder));
writeFileSync(join(folder, 'not-mine'), 'x', { mode: 0o644 });
chmodSync(folder, 0o755);

describe('a user without privileges', () => {
  const program = fileURLToPath(new URL('./as-nobody.ts', import.meta.url));
  const { stdout, stderr, status } = spawnSync(process.execPath, [program, folder], { encoding: 'utf8' });
  const seen = (status === 0 ? JSON.parse(stdout) : {}) as Record<string, unknown>;

  it('is who ran this', () => {
    expect(status, stderr).toBe(0);
    expect(seen['uid']).not.toBe(0);
  });

  it('gets what can be read, and is told what cannot', () => {
    const denied = 'unreadable cannot be read: permission denied (EACCES)';
    expect(seen['unreadable']).toEqual([
      'folder ',
      'file a-readable ok',
      'folder closed',
      'unreadable! closed',
      'folder list-only',
      'unreadable! list-only/inside',
      'folder search-only',
      'unreadable! search-only',
      `file z-unreadable ${denied}`,
    ]);
  });

  it('can read files of others', () => {
    expect(seen['notMine']).toEqual(['x', 'ok']);
  });

  it('is told that a root cannot be read', () => {
    expect(seen['roots']).toEqual(['source_unreadable', 'source_unreadable']);
  });

  it('restores closed and read-only folders exactly', () => {
    expect(seen['copy']).toEqual({ warnings: [], entries: expect.any(Number) as number, same: true, difference: '' });
    expect((seen['copy'] as { entries: number }).entries).toBeGreaterThan(150);
  });

  it('gets what its own rights can put back, and is told of the rest', () => {
    expect(seen['special']).toEqual({
      warnings: ['not_restored! device', 'labels_not_restored file', 'flags_not_restored! flagged'],
      tag: 1,
      names: ['closed', 'fifo', 'file', 'flagged', 'no dump'],
      fifo: true,
    });
  });

  it('is told about owners, and gives nobody rights that the owner did not mean to give', () => {
    expect(seen['foreign']).toMatchObject({
      modes: [0o000, 0o755],
      warnings: [
        { code: 'owner_not_restored', path: 'closed/setuid', message: expect.stringContaining('4 ') as string },
        { code: 'mode_not_restored', path: 'closed/setuid' },
      ],
    });
  });
});
