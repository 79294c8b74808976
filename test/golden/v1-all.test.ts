/** The golden repository with all there is of format version 1: read, restored, put back and pruned by this version, and read without it. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAgentKey } from '../../src/identity/agent-key.ts';
import { parseWordsText, restoreIdentity } from '../../src/identity/root.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { openMirror } from '../../src/operations/backends.ts';
import { openStoredVault } from '../../src/operations/export-secret.ts';
import { listSnapshots } from '../../src/operations/look.ts';
import { prune } from '../../src/operations/prune.ts';
import { recover } from '../../src/operations/recover.ts';
import { restore } from '../../src/operations/restore.ts';
import { undoForget } from '../../src/operations/undo-forget.ts';
import { verify, type VerifyLevel } from '../../src/operations/verify.ts';
import {
  openRepository,
  parseKey,
  readAnnotations,
  readCondemned,
  readVerified,
} from '../../src/repository/repository.ts';
import { lacks } from '../crypto/support.ts';
import { seams } from '../docs/lab.ts';
import { hasTool, linksIn, xattrsIn } from '../state/tools.ts';
import { removeFolder } from '../state/trees.ts';
import { rowsOf, VAULT_PASSPHRASE, type GoldenAll } from './generate-all.ts';
import { listTree, type Listed } from './listing.ts';

const HOME = fileURLToPath(new URL('../../fixtures/repositories/v1-all', import.meta.url));
const golden = JSON.parse(readFileSync(join(HOME, 'expected.json'), 'utf8')) as GoldenAll;
const root = parseWordsText(readFileSync(join(HOME, 'words.txt'), 'utf8'));
const words = { kind: 'root', root } as const;
const added = { kind: 'identities', identities: [readFileSync(join(HOME, 'added.key'), 'utf8').trim()] } as const;
const access = { kind: 'restore', identities: [restoreIdentity(root, 'x25519')] } as const;
const listed = golden.snapshots.filter(({ state }) => state === 'listed');
const isRoot = process.getuid?.() === 0;
type One = GoldenAll['snapshots'][number];

describe('the golden repository v1-all', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-golden-all-'));
  let copies = 0;
  /** Nothing that a test does may touch the original. */
  const copy = () => {
    const repository = join(folder, `repository-${copies++}`);
    cpSync(join(HOME, 'repository'), repository, { recursive: true });
    return repository;
  };
  const backendsOf = (repository: string) => [{ name: 'golden', url: `file://${repository}` }];
  const backends = backendsOf(copy());
  const canKeepXattrs =
    hasTool('getfattr') && spawnSync('setfattr', ['-n', 'user.note', '-v', 'x', folder]).status === 0;
  afterAll(() => removeFolder(folder));

  function expectTree(target: string, { entries, links, xattrs, rows, lost }: One): void {
    const wanted = entries.filter(({ path = '' }) => !lost.includes(path));
    expect(listTree(target).flatMap(comparable)).toEqual(wanted.flatMap(comparable));
    expect(linksIn(target)).toEqual(links);
    if (canKeepXattrs) expect(xattrsIn(target)).toEqual(xattrs);
    expect(rowsOf(join(target, 'memory.sqlite'))).toEqual(rows);
    const holes = statSync(join(target, 'holes'));
    expect(holes.blocks * 512).toBeLessThan(holes.size / 2);
  }

  it('has every kind of object and of entry', () => {
    const names = readdirSync(join(HOME, 'repository'), { recursive: true, encoding: 'utf8' });
    const kinds = new Set(names.flatMap((key) => parseKey(key)?.kind ?? []));
    expect([...kinds].toSorted()).toEqual(
      [
        ...['annotation', 'condemned', 'identity', 'index', 'keys', 'pack', 'repository', 'run', 'secrets'],
        ...['snapshot', 'vault', 'verified'],
      ].toSorted(),
    );
    const types = new Set(golden.snapshots.flatMap(({ entries }) => entries.map(({ type }) => type)));
    expect([...types].toSorted()).toEqual(['device', 'fifo', 'file', 'folder', 'symlink']);
    for (const { links, xattrs } of golden.snapshots) expect([links.length, xattrs.length]).toEqual([1, 1]);
  });

  it.each([
    ['the words', words],
    ['the key of a recipient that was added later', added],
  ] as const)('restores every snapshot as it was, secrets, links, holes and rows too, with %s', async (_, secret) => {
    for (const one of listed) {
      const target = join(folder, `${secret.kind}-${one.seq}`);
      const found = await restore({ backends, secret, snapshot: one.id, target, paths: [], withSecrets: true }, seams);
      expect(found).toMatchObject({ lost: [], knownLost: one.lost, snapshot: { id: one.id, seq: one.seq } });
      expect(found.secrets).toEqual({ files: 1, restored: 1 });
      expectTree(target, one);
    }
  });

  it('lists them with what was said of them', async () => {
    const { snapshots, warnings } = await listSnapshots({ backends, access }, seams);
    expect(warnings).toEqual([]);
    expect(snapshots.map(({ id, seq, tags, note }) => ({ id, seq, tags, note }))).toEqual(
      listed.map(({ id, seq, tags, note }) => ({ id, seq, tags, note })),
    );
    await using mirror = await openMirror(backends, seams);
    const repository = await openRepository(mirror, access, seams);
    const { annotations, problems } = await readAnnotations(repository);
    const said = (member: 'forgotten' | 'lost' | 'acknowledged' | 'note') =>
      annotations.filter(({ record }) => record[member] !== undefined).length;
    expect([said('forgotten'), said('lost'), said('acknowledged'), said('note')]).toEqual([1, 1, 1, 1]);
    const { records, problems: unread } = await readVerified(repository, () => true);
    expect(records.map(({ record }) => record.level)).toEqual(['objects', 'chunks', 'restore']);
    const { condemned, problems: unknown } = await readCondemned(repository);
    expect(condemned.flatMap(({ record }) => record.snapshots)).toHaveLength(1);
    expect(condemned.some(({ record }) => record.packs.length > 0)).toBe(true);
    expect([...problems, ...unread, ...unknown]).toEqual([]);
    expect(repository.keys.agent.publicKey).toBe(golden.agent);
  });

  it.each(['listing', 'objects', 'chunks', 'restore'] satisfies VerifyLevel[])(
    'finds no damage at level %s',
    async (level) => {
      const folders = { state: join(folder, 'local'), cache: join(folder, 'cache') };
      const found = await verify({ backends, access: { kind: 'restore', secret: words }, level, folders }, seams);
      expect(found).toMatchObject({ damaged: [], complete: true });
    },
  );

  it('opens the vault', async () => {
    expect(parseWordsText(await openStoredVault(backends, VAULT_PASSPHRASE, seams))).toEqual(root);
  });

  describe('on a host that it was recovered to', () => {
    const repository = copy();
    const its = backendsOf(repository);
    const place = (name: string) => join(folder, 'recovered', name);
    const files = { identity: place('identity.key'), writerKey: place('writer.key'), config: place('holdfast.yaml') };
    const folders = { state: place('local'), cache: place('cache') };
    beforeAll(async () => {
      const recovered = await recover(
        {
          ...{ backends: its, secret: words, snapshot: 'latest', target: place('state'), files },
          foldersOf: () => folders,
          renderConfig: (old) => ({ text: old, backends: [] }),
        },
        seams,
      );
      expect(recovered).toMatchObject({
        repository: golden.repository,
        agent: { handle: golden.handle },
        identity: { continuous: true },
      });
    });

    it('what was forgotten is put back, and a prune that deletes leaves every snapshot whole', async () => {
      const held = golden.snapshots.find(({ state }) => state === 'held') as One;
      const signer = parseAgentKey(readFileSync(files.identity, 'utf8'));
      const { repositoryId, chunkIdKey, ageIdentity } = parseWriterKey(readFileSync(files.writerKey, 'utf8'));
      const writer = { kind: 'writer', repository: repositoryId, chunkIdKey, identity: ageIdentity } as const;
      const undone = await undoForget(
        { backends: its, access: writer, signer, folders, host: 'h', undo: held.id, settleMs: 0 },
        seams,
      );
      expect(undone).toMatchObject({ restored: [{ id: held.id, seq: held.seq }], complete: true });
      const done = await pruneNow(its, 'keeper', ['switched-off']);
      expect(done).toMatchObject({ deleted: { packs: 0 }, waiting: [], complete: true });
      await expectSnapshots(its, golden.snapshots, 'undone');
    });
  });

  it('a prune that deletes waits for whom it must, and leaves every snapshot whole', async () => {
    const its = backendsOf(copy());
    const waiting = await pruneNow(its, 'keeper 2', []);
    expect(waiting).toMatchObject({ deleted: { packs: 0 }, waiting: [{ host: 'switched-off', kind: 'write' }] });
    const done = await pruneNow(its, 'keeper 2', ['switched-off']);
    expect(done).toMatchObject({ waiting: [], complete: true });
    expect(done.deleted.packs).toBeGreaterThan(0);
    await expectSnapshots(its, listed, 'pruned');
  });

  function pruneNow(its: typeof backends, keeper: string, presumeOver: readonly string[]) {
    const place = join(folder, keeper);
    const limits = { graceMs: 0, settleMs: 0, waitMs: 0, repackBytes: 2 ** 30, dryRun: false };
    const foldersOf = () => ({ state: place, cache: place });
    return prune({ backends: its, secret: added, foldersOf, host: 'keeper', presumeOver, ...limits }, seams);
  }

  async function expectSnapshots(its: typeof backends, some: readonly One[], name: string): Promise<void> {
    for (const one of some) {
      const target = join(folder, `${name}-${one.seq}`);
      await restore({ backends: its, secret: words, snapshot: one.id, target, paths: [], withSecrets: true }, seams);
      expectTree(target, one);
    }
  }

  it.skipIf(['age', 'zstd', 'jq', 'dash'].some((tool) => lacks(tool, '--help')))('comes back without holdfast', () => {
    const script = fileURLToPath(new URL('../../bin/holdfast-recover.sh', import.meta.url));
    const key = join(folder, 'key');
    writeFileSync(key, `${access.identities[0]}\n`, { mode: 0o600 });
    const target = join(folder, 'by script');
    const repository = new URL(backends[0]?.url ?? '').pathname;
    const { status } = spawnSync('dash', [script, '--identity', key, '--repository', repository, '--target', target]);
    // Extended attributes are not brought back, and it says so.
    expect(status).toBe(3);
    const withoutSecrets = (entries: Listed[]) =>
      entries.filter(({ path = '' }) => !golden.secrets.includes(path)).flatMap(comparable);
    expect(withoutSecrets(listTree(target))).toEqual(withoutSecrets(listed.at(-1)?.entries ?? []));
    expect(rowsOf(join(target, 'memory.sqlite'))).toEqual(listed.at(-1)?.rows);
  });
});

/** Only root gives things away and makes devices. A database has the same rows, in other bytes. */
function comparable({ uid, gid, size, sha256, ...entry }: Listed): object[] {
  const isDatabase = entry.path === 'memory.sqlite';
  const contents = isDatabase || size === undefined ? {} : { size, sha256 };
  if (!isRoot) return entry.type === 'device' ? [] : [{ ...entry, ...contents }];
  return [{ ...entry, ...contents, uid, gid }];
}
