/** What a profile calls secret: saved apart, restored on request only. */
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeFixture } from '../../fixtures/agents/generate.ts';
import { catFile, listEntries } from '../../src/operations/look.ts';
import type { StateOptions } from '../../src/operations/saving/save-tree.ts';
import { SecretManifest } from '../../src/operations/saving/secret-manifest.ts';
import { comparePaths, parentOf, rawFromText, type RawPath } from '../../src/raw-path.ts';
import type { SnapshotRecord } from '../../src/repository/records/format.ts';
import { timestamp } from '../../src/repository/repository.ts';
import type { SecretHandling } from '../../src/state/profile-names.ts';
import { detectProfile, loadProfile } from '../../src/state/profile.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { aheadClock, expectSameTree, makeAgent, packKeysOf, storeOf, type TestAgent } from './support.ts';

const folder = temporaryFolder();
afterAll(() => removeFolder(folder));
let targets = 0;
const fresh = () => join(folder, `target-${targets++}`);

const PATTERNS = ['/keys/', '*.key', '/deep/er/'];

/** State and secrets side by side, folders that hold both, a folder of secrets in one of them, links, an empty folder that is secret. */
function fill(state: string): void {
  for (const name of ['keys/sub', 'notes/private.key', 'deep/er/still', 'deep/other', 'empty/.key'])
    mkdirSync(join(state, name, '..'), { recursive: true });
  for (const path of ['keys/sub', 'notes/a', 'notes/my.key', 'notes/z', 'deep/er/still', 'deep/other', 'MEMORY.md'])
    writeFileSync(join(state, path), `the content of ${path}\n`);
  mkdirSync(join(state, 'notes/private.key'));
  symlinkSync('../notes/my.key', join(state, 'keys/link'));
}
const STATE = ['.', 'MEMORY.md', 'deep', 'deep/other', 'empty', 'notes', 'notes/a', 'notes/z'];
const SECRETS = [
  '.',
  'deep',
  'deep/er',
  'deep/er/still',
  'keys',
  'keys/link',
  'keys/sub',
  'notes',
  'notes/my.key',
  'notes/private.key',
];

const stateOf = (agent: TestAgent, handling: SecretHandling = 'apart', profile?: string): StateOptions => ({
  root: agent.state,
  exclude: [],
  keepOut: [],
  secret: { patterns: PATTERNS, handling },
  profile,
});

async function list(agent: TestAgent, secrets = false) {
  const look = { backends: agent.addresses, secret: { kind: 'root', root: agent.root }, snapshot: 'latest' } as const;
  const { entries } = await listEntries({ ...look, path: '', secrets }, agent.seams());
  return entries.map(({ path }) => path);
}

async function newest(agent: TestAgent): Promise<SnapshotRecord> {
  await using repository = await agent.open();
  return (await repository.findSnapshot('latest')).record;
}

describe('secrets', () => {
  it('are apart from the state: a restore leaves them out and says so, and brings them back on request, as they were', async () => {
    await using agent = await makeAgent({ fill });
    const backup = await agent.backup({ state: stateOf(agent) });
    expect(backup).toMatchObject({
      complete: true,
      files: { total: 7, new: 7 },
      secrets: { handling: 'apart', files: 3 },
    });
    expect(backup.secrets.bytes).toBe(['keys/sub', 'notes/my.key', 'deep/er/still'].join('').length + 3 * 16);
    expect(await list(agent)).toEqual(STATE);
    expect(await list(agent, true)).toEqual(SECRETS);
    expect(await newest(agent)).toMatchObject({
      counts: { files: 4, symlinks: 0 },
      secrets: { files: 3, entries: SECRETS.length },
    });

    const without = fresh();
    expect(await agent.restore(without)).toMatchObject({
      files: 4,
      secrets: { files: 3, restored: 0 },
      complete: true,
    });
    const expected = fresh();
    cpSync(agent.state, expected, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    for (const path of ['keys', 'notes/my.key', 'notes/private.key', 'deep/er'])
      expect(existsSync(join(without, path))).toBe(false);
    for (const path of ['notes/a', 'deep/other', 'MEMORY.md'])
      expect(readFileSync(join(without, path))).toEqual(readFileSync(join(expected, path)));

    const all = fresh();
    const result = await agent.restore(all, { withSecrets: true });
    expect(result).toMatchObject({ files: 7, secrets: { files: 3, restored: 3 }, complete: true });
    expectSameTree(all, agent.state);
    expect((await agent.verify('chunks')).damaged).toEqual([]);
  });

  it('are taken like the rest with `include`, and not at all with `leave`; either way they are counted', async () => {
    await using agent = await makeAgent({ fill });
    const included = await agent.backup({ state: stateOf(agent, 'include') });
    expect(included).toMatchObject({ files: { total: 7 }, secrets: { handling: 'include', files: 3 } });
    expect(await list(agent)).toEqual([...new Set([...STATE, ...SECRETS])].toSorted());
    expect(await newest(agent)).not.toHaveProperty('secrets');
    const left = await agent.backup({ state: stateOf(agent, 'leave') });
    expect(left).toMatchObject({ files: { total: 4, removed: 3 }, secrets: { handling: 'leave', files: 3 } });
    expect(await list(agent)).toEqual(STATE);
    expect(await list(agent, true)).toEqual([]);
    const target = fresh();
    expect(await agent.restore(target, { withSecrets: true })).toMatchObject({
      files: 4,
      secrets: { files: 0, restored: 0 },
    });
  });

  it('that did not change are not read again, and one that is gone counts as removed', async () => {
    await using agent = await makeAgent({ fill });
    await agent.backup({ state: stateOf(agent) });
    const again = await agent.backup({ state: stateOf(agent) });
    expect(again).toMatchObject({ files: { unmodified: 7, changed: 0, new: 0 }, bytes: { read: 0 } });
    rmSync(join(agent.state, 'keys'), { recursive: true });
    const last = await agent.backup({ state: stateOf(agent) });
    expect(last).toMatchObject({ files: { total: 6, removed: 1 }, secrets: { files: 2 } });
  });

  it('that are all gone are told once, with the snapshot that has them', async () => {
    await using agent = await makeAgent({ fill });
    const { snapshot } = await agent.backup({ state: stateOf(agent) });
    for (const path of ['keys', 'notes/my.key', 'deep/er']) rmSync(join(agent.state, path), { recursive: true });
    const gone = await agent.backup({ state: stateOf(agent) });
    expect(gone).toMatchObject({ complete: false, warnings: [{ code: 'secrets_gone' }] });
    expect(gone.warnings[0]?.message).toContain(`snapshot ${snapshot.id.slice(0, 8)} keeps 3 secret files apart`);
    expect(await agent.backup({ state: stateOf(agent) })).toMatchObject({ complete: true, warnings: [] });
  });

  it('are restored by path, and a path that is only among them says where it is', async () => {
    await using agent = await makeAgent({ fill });
    await agent.backup({ state: stateOf(agent) });
    const target = fresh();
    await expect(agent.restore(target, { paths: ['keys'] })).rejects.toMatchObject({
      code: 'not_found',
      hint: expect.stringContaining('--with-secrets') as string,
    });
    const result = await agent.restore(target, { paths: ['keys/sub', 'notes/a'], withSecrets: true });
    expect(result).toMatchObject({ files: 2, secrets: { files: 3, restored: 1 } });
    expect(readFileSync(join(target, 'keys/sub'), 'utf8')).toBe('the content of keys/sub\n');
  });

  it('are printed by `cat` when it looks among them, and not otherwise', async () => {
    await using agent = await makeAgent({ fill });
    await agent.backup({ state: stateOf(agent) });
    const pieces: Uint8Array[] = [];
    const cat = (secrets: boolean) =>
      catFile(
        {
          backends: agent.addresses,
          secret: { kind: 'root', root: agent.root },
          snapshot: 'latest',
          path: 'keys/sub',
          secrets,
          write: (bytes) => Promise.resolve(void pieces.push(bytes.slice())),
        },
        agent.seams(),
      );
    await expect(cat(false)).rejects.toMatchObject({ code: 'not_found' });
    expect(pieces).toEqual([]);
    await cat(true);
    expect(Buffer.concat(pieces).toString()).toBe('the content of keys/sub\n');
  });

  it('come back with a recovery that asks for them', async () => {
    await using agent = await makeAgent({ fill });
    await agent.backup({ state: stateOf(agent) });
    const [plain, whole] = [fresh(), fresh()];
    for (const home of [plain, whole]) mkdirSync(home);
    expect(await agent.recover(plain)).toMatchObject({ secrets: { files: 3, restored: 0 } });
    expect(existsSync(join(plain, 'state/keys'))).toBe(false);
    expect(await agent.recover(whole, { withSecrets: true })).toMatchObject({ secrets: { files: 3, restored: 3 } });
    expect(readFileSync(join(whole, 'state/notes/my.key'), 'utf8')).toBe('the content of notes/my.key\n');
  });

  it('that are damaged are told by their paths, and so is a manifest of them', async () => {
    await using agent = await makeAgent({ fill, backends: ['a'] });
    await agent.backup({ state: stateOf(agent) });
    const [key = ''] = await packKeysOf(agent, 'data');
    const store = storeOf(agent, 'a').inner;
    const good = Uint8Array.from(await store.get(key));
    await store.delete(key);
    const { damaged } = await agent.verify('listing', 'restore');
    expect(damaged).toEqual([
      expect.objectContaining({ key, paths: expect.arrayContaining(['keys/sub', 'notes/a']) as string[] }),
    ]);
    const target = fresh();
    const result = await agent.restore(target, { withSecrets: true });
    expect(result.lost).toContain('keys/sub');
    expect(result).toMatchObject({ complete: false, secrets: { files: 3, restored: 0 } });
    await store.put(key, good);

    // The second snapshot has the manifest of the first and another one of secrets.
    const before = await packKeysOf(agent, 'manifest');
    chmodSync(join(agent.state, 'keys/sub'), 0o600);
    const { snapshot } = await agent.backup({ state: stateOf(agent) });
    const added = (await packKeysOf(agent, 'manifest')).filter((pack) => !before.includes(pack));
    expect(added).toHaveLength(1);
    await store.delete(added[0] ?? '');
    const lost = await agent.verify('listing', 'restore');
    expect(lost.damaged).toEqual([expect.objectContaining({ key: added[0], snapshots: [snapshot.id] })]);
  });

  it('are told of a restore to another path, for agents that find their files by it', async () => {
    await using agent = await makeAgent({ fill });
    await agent.backup({ state: stateOf(agent, 'apart', 'claude-code') });
    const codes = async (over: Parameters<TestAgent['restore']>[1] = {}) =>
      (await agent.restore(fresh(), over)).warnings.map(({ code }) => code);
    expect(await codes()).toEqual(['path_dependent']);
    await agent.backup({ state: stateOf(agent, 'apart', 'mine') });
    expect(await codes()).toEqual([]);
    const mine = { ...(await loadProfile('claude-code')), name: 'mine' };
    expect(await codes({ profile: mine })).toEqual(['path_dependent']);
    await agent.backup({ state: stateOf(agent, 'apart', 'openclaw') });
    expect(await codes()).toEqual([]);
    await agent.backup({ state: stateOf(agent, 'apart', 'claude-code') });
    removeFolder(agent.state);
    expect((await agent.restore(agent.state)).warnings).toEqual([]);
  });
});

describe('a snapshot that no backup writes', () => {
  let agent: TestAgent;
  beforeAll(async () => {
    agent = await makeAgent({ backends: ['a'] });
    await agent.backup();
  });
  afterAll(() => agent[Symbol.asyncDispose]());
  const folderLine = (path: string) => ({ path, type: 'folder', mode: '0755', mtime: '1.000000000', uid: 0, gid: 0 });
  const linkLine = (path: string) => ({ ...folderLine(path), type: 'symlink', mode: '0777', target: '/tmp' });
  const fileLine = (path: string) => ({ ...folderLine(path), type: 'file', mode: '0644', size: 0, chunks: [] });

  it.each([
    ['a secret below a link', [linkLine('x')], [folderLine('x'), fileLine('x/y')]],
    ['a secret in the place of a file', [fileLine('x')], [fileLine('x')]],
    ['a secret link in the place of a folder', [folderLine('x')], [linkLine('x')]],
    ['the mark of an unfinished restore', [], [fileLine('.holdfast-restore-incomplete')]],
    ['a secret without its folder', [folderLine('x')], [fileLine('x/y')]],
  ])('is refused before anything is written: %s', async (_what, state, secrets) => {
    await using repository = await agent.open('writer');
    const { index } = await repository.loadIndex();
    const writer = repository.writer(index, agent.seams());
    const manifestOf = (lines: readonly object[]) => {
      const bytes = Buffer.from([folderLine(''), ...lines].map((line) => `${JSON.stringify(line)}\n`).join(''));
      return { chunks: [writer.add(bytes, 'manifest')], bytes: bytes.length, entries: lines.length + 1 };
    };
    const parts = { manifest: manifestOf(state), secrets: { ...manifestOf(secrets), files: 1 } };
    await writer.flush();
    const before = await repository.findSnapshot('latest');
    const next = { seq: before.record.seq + 1, parent: before.id, time: timestamp(aheadClock.now()) };
    await writer.commit({ ...before.record, ...parts, ...next }, agent.signer);
    const target = fresh();
    await expect(agent.restore(target, { withSecrets: true })).rejects.toMatchObject({ code: 'damaged' });
    expect(existsSync(target)).toBe(false);
  });
});

describe('the manifest of secrets', () => {
  it('has the parents of each entry, in order, and nothing else of the state', () => {
    const name = fc.constantFrom('a', 'b', 'c-', 'd');
    const paths = fc.array(
      fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/')),
      { maxLength: 20 },
    );
    fc.assert(
      fc.property(paths, fc.array(name, { maxLength: 3 }), (given, secretNames) => {
        const folders = new Set<string>(['']);
        const leaves = new Set(given);
        for (const path of given)
          for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1))
            folders.add(path.slice(0, at));
        const all = [...new Set([...folders, ...leaves])].map(rawFromText).toSorted(comparePaths);
        const isSecret = (path: RawPath) =>
          path !== '' && path.split('/').some((part) => secretNames.some((secret) => secret === part));
        const lines: string[] = [];
        let opened = 0;
        const manifest = new SecretManifest(() => {
          opened++;
          return { add: (line: string) => void lines.push(line), end: () => lines.length };
        });
        for (const path of all) {
          if (isSecret(path)) manifest.add(path, path, folders.has(path));
          else if (folders.has(path)) manifest.passFolder(path, path);
        }
        const secrets = all.filter(isSecret);
        expect(manifest.end()).toBe(secrets.length > 0 ? lines.length : undefined);
        expect(opened).toBe(secrets.length > 0 ? 1 : 0);
        const needed = new Set<RawPath>(secrets);
        for (const path of secrets) for (let at = path; at !== '';) needed.add((at = parentOf(at)));
        expect(lines).toEqual([...needed].toSorted(comparePaths));
      }),
    );
  });
});

describe.each(['openclaw', 'openclaw-sessions', 'ants', 'claude-code', 'hermes'] as const)('%s', (name) => {
  it('is saved as its profile says, and no list or restore of the state has anything secret', async () => {
    await using agent = await makeAgent();
    using made = makeFixture(name, agent.state);
    const profile = await detectProfile(agent.state);
    const state: StateOptions = {
      ...stateOf(agent),
      exclude: profile.cache,
      secret: { patterns: profile.secret, handling: 'apart' },
      profile: profile.name,
    };
    const { secrets, complete } = await agent.backup({ state });
    expect(complete).toBe(true);
    const lasting = (paths: readonly string[]) => paths.filter((path) => !/-(wal|shm)$/.test(path));
    const listed = await list(agent);
    expect(listed).toEqual(expect.arrayContaining(lasting(made.state)));
    for (const path of [...made.secret, ...made.cache]) expect(listed).not.toContain(path);
    expect(await list(agent, true)).toEqual(expect.arrayContaining(lasting(made.secret)));
    expect(secrets.files).toBeGreaterThanOrEqual(lasting(made.secret).length);

    const [plain, whole] = [fresh(), fresh()];
    await agent.restore(plain);
    for (const path of made.secret) expect(existsSync(join(plain, path)), path).toBe(false);
    await agent.restore(whole, { withSecrets: true });
    for (const path of lasting(made.secret)) {
      if (path.endsWith('.sqlite')) {
        const count = (root: string) => {
          using database = Object.assign(new DatabaseSync(join(root, path)), {
            [Symbol.dispose]() {
              (this as unknown as DatabaseSync).close();
            },
          });
          return database.prepare('SELECT count(*) AS n FROM devices').get();
        };
        expect(count(whole)).toEqual({ n: 3 });
      } else expect(readFileSync(join(whole, path)).equals(readFileSync(join(agent.state, path))), path).toBe(true);
    }
  });
});
