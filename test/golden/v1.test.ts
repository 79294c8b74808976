/** The golden repository of format version 1: what was written once is restored by this version, and by the script without it. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { parseWordsText, restoreIdentity } from '../../src/identity/root.ts';
import { listSnapshots } from '../../src/operations/look.ts';
import { recover } from '../../src/operations/recover.ts';
import { restore } from '../../src/operations/restore.ts';
import { verify } from '../../src/operations/verify.ts';
import { lacks } from '../crypto/support.ts';
import { seams } from '../docs/lab.ts';
import { removeFolder } from '../state/trees.ts';
import type { Golden } from './generate.ts';
import { listTree, type Listed } from './listing.ts';

const HOME = fileURLToPath(new URL('../../fixtures/repositories/v1', import.meta.url));
const golden = JSON.parse(readFileSync(join(HOME, 'expected.json'), 'utf8')) as Golden;
const root = parseWordsText(readFileSync(join(HOME, 'words.txt'), 'utf8'));
const secret = { kind: 'root', root } as const;
const isRoot = process.getuid?.() === 0;

describe('the golden repository v1', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-golden-'));
  // A copy: nothing that a test does may touch the original.
  const repository = join(folder, 'repository');
  cpSync(join(HOME, 'repository'), repository, { recursive: true });
  const backends = [{ name: 'golden', url: `file://${repository}` }];
  afterAll(() => removeFolder(folder));

  it('has snapshots with every type of entry', () => {
    expect(golden.snapshots.length).toBeGreaterThanOrEqual(2);
    const types = golden.snapshots.flatMap(({ entries }) => entries.map(({ type }) => type));
    expect(new Set(types)).toEqual(new Set(['file', 'folder', 'symlink']));
  });

  it.each(golden.snapshots)('restores snapshot $seq as it was', async ({ id, seq, entries }) => {
    const target = join(folder, `restored-${seq}`);
    const { lost, snapshot } = await restore({ backends, secret, snapshot: id, target, paths: [] }, seams);
    expect(lost).toEqual([]);
    expect(snapshot).toMatchObject({ id, seq });
    expect(listTree(target).map(comparable)).toEqual(entries.map(comparable));
  });

  it('lists its snapshots as they were made, and finds no damage in it', async () => {
    const identities = [restoreIdentity(root, 'x25519')];
    const { snapshots, warnings } = await listSnapshots({ backends, access: { kind: 'restore', identities } }, seams);
    expect(warnings).toEqual([]);
    expect(snapshots.map(({ id, seq, time, tags }) => ({ id, seq, time, tags }))).toEqual(
      golden.snapshots.map(({ id, seq, time, tags }) => ({ id, seq, time, tags })),
    );
    const found = await verify({ backends, access: { kind: 'restore', secret }, level: 'chunks' }, seams);
    expect(found).toMatchObject({ damaged: [], complete: true });
  });

  it('recovers the agent from its words', async () => {
    const place = (name: string) => join(folder, 'recovered', name);
    const files = { identity: place('identity.key'), writerKey: place('writer.key'), config: place('holdfast.yaml') };
    const recovered = await recover(
      {
        backends,
        secret,
        snapshot: 'latest',
        target: place('state'),
        files,
        foldersOf: () => ({ state: place('local'), cache: place('cache') }),
        renderConfig: (old) => ({ text: old, backends: [] }),
      },
      seams,
    );
    expect(recovered).toMatchObject({
      repository: golden.repository,
      agent: { handle: golden.handle, fingerprint: golden.agent },
      identity: { continuous: true },
    });
  });

  it.skipIf(['age', 'zstd', 'jq', 'dash'].some((tool) => lacks(tool, '--help')))('comes back without holdfast', () => {
    const script = fileURLToPath(new URL('../../bin/holdfast-recover.sh', import.meta.url));
    const key = join(folder, 'key');
    writeFileSync(key, `${restoreIdentity(root, 'x25519')}\n`, { mode: 0o600 });
    const target = join(folder, 'by script');
    const args = [script, '--identity', key, '--repository', repository, '--target', target, '--check-ids'];
    expect(spawnSync('dash', args, { encoding: 'utf8' })).toMatchObject({ status: 0 });
    expect(listTree(target).map(comparable)).toEqual(golden.snapshots.at(-1)?.entries.map(comparable));
  });
});

/** Only root gives things away, and only who owns a file may keep its setuid bits. */
function comparable({ uid, gid, mode, ...entry }: Listed): object {
  if (isRoot) return { ...entry, uid, gid, mode };
  return { ...entry, mode: entry.type === 'file' && mode.length > 3 ? mode.slice(-3) : mode };
}
