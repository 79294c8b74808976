/**
 * Recovery without holdfast: bin/holdfast-recover.sh under dash with the age, zstd, jq, tar and coreutils of this machine, and the commands of
 * docs/recovery.md. Runs where the programs are installed; in CI they must be.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newAgeIdentity } from '../../src/crypto/age.ts';
import { hex } from '../../src/crypto/hash.ts';
import { fingerprint } from '../../src/identity/agent-key.ts';
import { agentKey, recoveryKey, restoreIdentity } from '../../src/identity/root.ts';
import { wordsOf } from '../../src/crypto/words.ts';
import { lacks, run, seededRandom } from '../crypto/support.ts';
import { makeNastyTree as makeScannedTree, removeFolder } from '../state/trees.ts';
import { commit, forge, withRepository } from './hostile-repository.ts';
import { makeLab, type Lab } from './lab.ts';
import { makeNastyTree, noise } from './nasty-tree.ts';

const SCRIPT = fileURLToPath(new URL('../../bin/holdfast-recover.sh', import.meta.url));
const WORDS_SCRIPT = fileURLToPath(new URL('../../bin/holdfast-words-to-key.py', import.meta.url));
const recoveryPage = readFileSync(new URL('../../docs/recovery.md', import.meta.url), 'utf8');

const lackTools = ['age', 'zstd', 'jq', 'dash'].some((tool) => lacks(tool, '--help'));
const lackPython = lacks('python3', '--version');
const random = seededRandom('recover script');

interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

function sh(
  args: readonly string[],
  { input = '', as, ...options }: { cwd?: string; input?: string; as?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  const child = spawn('dash', args, { ...options, ...(as === undefined ? {} : { uid: as, gid: as }) });
  const outcome: Outcome = { status: null, stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (outcome.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (outcome.stderr += text));
  child.stdin.on('error', () => undefined); // a script that does not read it
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ ...outcome, status }));
  });
}

describe.skipIf(lackTools)('holdfast-recover.sh', { concurrent: true }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-script-'));
  const keyFile = join(folder, 'key');
  let lab: Lab;
  let first: string;
  /** Nothing was saved in it yet. */
  let hostile: Lab;
  let count = 0;

  /** A target that is not there yet, in a folder of its own, so that what the script leaves beside it shows. */
  const fresh = () => {
    const place = join(folder, `place-${count++}`);
    mkdirSync(place);
    return join(place, 'target');
  };
  const recover = (target: string, ...more: string[]) =>
    sh([SCRIPT, '--identity', keyFile, '--repository', lab.backends[0] ?? '', '--target', target, ...more]);

  beforeAll(async () => {
    lab = makeLab(folder);
    await lab.init();
    writeFileSync(keyFile, `${restoreIdentity(await lab.root(), 'x25519')}\n`, { mode: 0o600 });
    writeFileSync(join(lab.state, 'only at first'), 'old');
    first = (await lab.backup()).snapshot.id;
    rmSync(join(lab.state, 'only at first'));
    makeNastyTree(lab.state, 600_000);
    const { complete } = await lab.backup();
    if (!complete) throw new Error('the tree was not saved whole');
    hostile = makeLab(join(folder, 'hostile'));
    await hostile.init();
    writeFileSync(join(hostile.folder, 'key'), `${restoreIdentity(await hostile.root(), 'x25519')}\n`);
  });
  afterAll(() => removeFolder(folder));

  it('brings a nasty tree back, entry for entry', async () => {
    const target = fresh();
    const outcome = await recover(target);
    expect(outcome.stderr).toContain('28 of 28 files');
    expect(outcome.status).toBe(0);
    expectSameTree(lab.state, target);
    expect(readdirSync(join(target, '..'))).toEqual(['target']);
  });

  it('brings the tree of the tests of scanning back', async () => {
    const other = makeLab(join(folder, 'scanned'));
    makeScannedTree(other.state);
    await other.init();
    await other.backup();
    const key = join(other.folder, 'key');
    writeFileSync(key, `${restoreIdentity(await other.root(), 'x25519')}\n`);
    const target = fresh();
    const args = [SCRIPT, '--identity', key, '--repository', other.backends[0] ?? '', '--target', target];
    expect(await sh(args)).toMatchObject({ status: 0 });
    expectSameTree(other.state, target);
  });

  it('brings back what files have besides as far as it can, and says what it leaves', async () => {
    const other = makeLab(join(folder, 'besides'));
    const isRoot = process.getuid?.() === 0;
    const inState = (...names: string[]) => names.map((name) => join(other.state, name));
    writeFileSync(join(other.state, 'file'), 'two names');
    run('ln', inState('file', 'name'));
    run('truncate', ['-s', '900001', ...inState('hole')]);
    run('mkfifo', ['-m', '620', ...inState('fi\nfo')]);
    if (isRoot) run('mknod', [...inState('device'), 'b', '7', '300']);
    if (isRoot) run('chown', ['12:34', ...inState('device')]);
    await other.init();
    await other.backup();
    const key = join(other.folder, 'key');
    writeFileSync(key, `${restoreIdentity(await other.root(), 'x25519')}\n`);
    const args = [SCRIPT, '--identity', key, '--repository', other.backends[0] ?? '', '--target'];
    const target = fresh();
    const outcome = await sh([...args, target]);
    expect(outcome).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('each name a file of its own') as string,
    });
    const names = ['file', 'name', 'hole', 'fi\nfo', ...(isRoot ? ['device'] : [])];
    const seenIn = (cwd: string) =>
      spawnSync('stat', ['-c', '%n %F %t:%T %a %u:%g %s %.9Y', ...names], { cwd, encoding: 'utf8' }).stdout;
    expect(readdirSync(target).toSorted()).toEqual(names.toSorted());
    expect(seenIn(target)).toBe(seenIn(other.state));
    for (const name of ['file', 'name', 'hole'])
      expect(readFileSync(join(target, name)).equals(readFileSync(join(other.state, name)))).toBe(true);

    if (spawnSync('chattr', ['+d', ...inState('file')]).status !== 0) return;
    await other.backup();
    expect(await sh([...args, fresh()])).toMatchObject({
      status: 3,
      stderr: expect.stringContaining('Not restored: extended attributes, ACLs and flags') as string,
    });
  });

  it('brings secrets back when asked to, and says how many there are when not', async () => {
    const other = makeLab(join(folder, 'secrets'));
    await other.init();
    makeNastyTree(other.state, 10_000);
    mkdirSync(join(other.state, 'vault', 'deep'), { recursive: true });
    for (const path of ['vault/deep/token', 'vault/line\nfeed', 'key.pem'])
      writeFileSync(join(other.state, path), path);
    mkdirSync(join(other.state, 'both'));
    for (const path of ['both/plain', 'both/key.pem']) writeFileSync(join(other.state, path), path);
    await other.backup([], { patterns: ['/vault/', '*.pem'], handling: 'apart' });
    const otherKey = join(folder, 'secrets', 'key');
    writeFileSync(otherKey, `${restoreIdentity(await other.root(), 'x25519')}\n`, { mode: 0o600 });
    const script = (target: string, ...more: string[]) =>
      sh([SCRIPT, '--identity', otherKey, '--repository', other.backends[0] ?? '', '--target', target, ...more]);
    const [plain, whole] = [fresh(), fresh()];
    const without = await script(plain);
    expect([without.status, without.stderr]).toEqual([
      0,
      expect.stringContaining('Not restored: 4 secret files') as string,
    ]);
    expect([existsSync(join(plain, 'vault')), readdirSync(join(plain, 'both'))]).toEqual([false, ['plain']]);
    const all = await script(whole, '--with-secrets', '--check-ids');
    expect([all.status, all.stderr]).toEqual([0, expect.not.stringContaining('Not restored') as string]);
    expectSameTree(other.state, whole);
  });

  it('compares chunks with their ids when asked to', async () => {
    const target = fresh();
    expect(await recover(target, '--check-ids')).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('every chunk has the content that its id promises') as string,
    });
    expectSameTree(lab.state, target);
  });

  it('lists the snapshots and restores an older one by the beginning of its id', async () => {
    const { stdout } = await sh([SCRIPT, '--identity', keyFile, '--repository', lab.backends[0] ?? '', '--list']);
    expect(stdout.trim().split('\n')).toHaveLength(2);
    expect(stdout).toMatch(new RegExp(`^0 \\S+ ${first} 1 3\n1 `));
    const target = fresh();
    expect((await recover(target, '--snapshot', first.slice(0, 6))).status).toBe(0);
    expect(readdirSync(target)).toEqual(['only at first']);
  });

  it('restores the newest snapshot that can be opened when the newest cannot, and says so with exit code 3', async () => {
    const repository = join(folder, 'newest damaged');
    expect(spawnSync('cp', ['-r', lab.backends[0] ?? '', repository]).status).toBe(0);
    const damaged = readdirSync(join(repository, 'snapshots')).filter((name) => !name.includes(first));
    expect(damaged.length).toBeGreaterThan(0);
    for (const name of damaged) truncateSync(join(repository, 'snapshots', name), 300);
    const target = fresh();
    const args = [SCRIPT, '--identity', keyFile, '--repository', repository];
    expect(await sh([...args, '--target', target])).toMatchObject({
      status: 3,
      stderr: expect.stringContaining(`NOT the newest snapshot: ${damaged.length} newer could not be opened`) as string,
    });
    expect(readdirSync(target)).toEqual(['only at first']);
    expect((await sh([...args, '--target', fresh(), '--snapshot', first])).status).toBe(0);
    expect((await sh([...args, '--list'])).status).toBe(3);
  });

  it.skipIf(process.getuid?.() !== 0)('works for a user who is not root', async () => {
    const place = join(folder, 'not root');
    mkdirSync(place);
    const key = join(place, 'key');
    copyFileSync(keyFile, key);
    const NOBODY = 65_534;
    for (const path of [folder, place]) chmodSync(path, 0o777);
    expect(spawnSync('chown', ['-R', `${NOBODY}`, key]).status).toBe(0);
    expect(spawnSync('cp', ['-r', lab.backends[0] ?? '', join(place, 'repository')]).status).toBe(0);
    expect(spawnSync('chmod', ['-R', 'a+rX', join(place, 'repository')]).status).toBe(0);
    const target = join(place, 'target');
    const args = [SCRIPT, '--identity', key, '--repository', join(place, 'repository'), '--target', target];
    expect(await sh(args, { as: NOBODY, cwd: place })).toMatchObject({ status: 0 });
    // Of what root owned, the setuid bit must not come back as another's.
    expectSameTree(lab.state, target, {
      owners: false,
      but: (line) => line.replace('memory/setuid f 4750', 'memory/setuid f 750'),
    });
  });

  it.each([
    ['a target that is not empty', (target: string) => (mkdirSync(target), writeFileSync(join(target, 'mine'), 'x'))],
    ['a target that is a file', (target: string) => writeFileSync(target, 'x')],
  ])('refuses %s and changes nothing', async (_, prepare) => {
    const target = fresh();
    prepare(target);
    const before = spawnSync('find', [join(target, '..'), '-printf', '%p %y %s %T@\n'], { encoding: 'utf8' }).stdout;
    expect(await recover(target)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('nothing was changed') as string,
    });
    expect(spawnSync('find', [join(target, '..'), '-printf', '%p %y %s %T@\n'], { encoding: 'utf8' }).stdout).toBe(
      before,
    );
  });

  it('refuses the key of another, and a snapshot that is not there, leaving nothing behind', async () => {
    const other = join(folder, 'other key');
    writeFileSync(other, `${await newAgeIdentity(random)}\n`);
    const target = fresh();
    const repository = lab.backends[0] ?? '';
    expect(await sh([SCRIPT, '--identity', other, '--repository', repository, '--target', target])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('is this the key of this repository?') as string,
    });
    expect(await recover(target, '--snapshot', '0000')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('no snapshot begins with 0000') as string,
    });
    expect((await recover(target, '--snapshot', '../..')).status).toBe(2);
    expect((await sh([SCRIPT, '--identity', keyFile, '--repository', folder, '--target', target])).status).toBe(1);
    expect(readdirSync(join(target, '..'))).toEqual([]);
  });

  it('needs no index: packs are searched for what none names', async () => {
    const repository = copyOf(lab, folder, `no-index-${count++}`);
    for (const name of readdirSync(join(repository, 'index')))
      writeFileSync(join(repository, 'index', name), 'damaged');
    const target = fresh();
    const outcome = await sh([SCRIPT, '--identity', keyFile, '--repository', repository, '--target', target]);
    expect(outcome.stderr).toContain('chunks are in no index');
    expect(outcome.status).toBe(0);
    expectSameTree(lab.state, target);
  });

  it('brings back what a damaged pack still gives, names what is lost, and ends with 3', async () => {
    const broken = makeLab(join(folder, 'broken'));
    await broken.init();
    for (let i = 0; i < 5; i++) writeFileSync(join(broken.state, `file ${i}`), noise(500_000, i + 1));
    await broken.backup();
    const key = join(broken.folder, 'key');
    writeFileSync(key, `${restoreIdentity(await broken.root(), 'x25519')}\n`);
    {
      const [big = ''] = filesIn(join(broken.backends[0] ?? '', 'packs')).toSorted(
        (a, b) => readFileSync(b).length - readFileSync(a).length,
      );
      truncateSync(big, 1_600_000);
      const target = fresh();
      const args = ['--identity', key, '--repository', broken.backends[0] ?? '', '--target', target];
      const { status, stderr } = await sh([SCRIPT, ...args]);
      expect(status).toBe(3);
      expect(stderr).toContain('is damaged');
      expect(stderr).toContain('lost: "file 4"');
      const whole = readdirSync(target);
      expect(whole).toContain('file 0');
      expect(stderr).toContain(`${whole.length} of 5 files`);
      expect(stderr.match(/^lost: /gm)).toHaveLength(5 - whole.length);
      for (const name of whole) {
        expect(readFileSync(join(target, name)).equals(readFileSync(join(broken.state, name)))).toBe(true);
      }
    }
  });

  const line = (more: object) =>
    JSON.stringify({
      path: 'x',
      type: 'file',
      mode: '0644',
      mtime: '1.000000000',
      uid: 0,
      gid: 0,
      size: 0,
      chunks: [],
      ...more,
    });
  const TOP = line({ path: '', type: 'folder' });
  it.each([
    ['a path that climbs out', [TOP, line({ path: '../escaped' })]],
    [
      'a path that climbs out from within',
      [TOP, line({ path: 'a', type: 'folder' }), line({ path: 'a/../../escaped' })],
    ],
    ['the same in Base64', [TOP, line({ path: undefined, pathBase64: Buffer.from('../escaped').toString('base64') })]],
    ['a folder above', [TOP, line({ path: '..', type: 'folder' }), line({ path: '../escaped' })]],
    ['an absolute path', [TOP, line({ path: '/escaped' })]],
    ['a path with a NUL', [TOP, line({ path: 'a\0b' })]],
    ['a link used as a folder', [TOP, line({ path: 'a', type: 'symlink', target: '..' }), line({ path: 'a/escaped' })]],
    [
      'a link and a folder of one name',
      [
        TOP,
        line({ path: 'a', type: 'symlink', target: '..' }),
        line({ path: 'a', type: 'folder' }),
        line({ path: 'a/escaped' }),
      ],
    ],
    ['no root', [line({ path: 'a' })]],
    ['a mode that is a command', [TOP, line({ mode: '0644\n: >../escaped' })]],
    ['a time that is a command', [TOP, line({ mtime: '1.000000000 x; : >../escaped' })]],
    ['an owner that is a command', [TOP, line({ uid: '0; : >../escaped' })]],
    ['a chunk that is a command', [TOP, line({ chunks: ['$(: >../escaped)'] })]],
    ['a type that is none', [TOP, line({ type: 'device' })]],
    ['a link to nothing', [TOP, line({ type: 'symlink', target: '' })]],
  ])('refuses a manifest with %s, and writes nothing', async (_, lines) => {
    const repository = copyOf(hostile, folder, `hostile-${count++}`);
    await commit(hostile, repository, lines);
    const target = fresh();
    const args = ['--identity', join(hostile.folder, 'key'), '--repository', repository, '--target', target];
    const { status, stderr } = await sh([SCRIPT, ...args]);
    expect([status, stderr]).toEqual([1, expect.stringMatching(/^(jq: error.*)?the manifest|the manifest/m) as string]);
    expect(readdirSync(join(target, '..'))).toEqual([]);
    expect(existsSync(join(target, '..', '..', 'escaped'))).toBe(false);
  });

  it('takes no contents of a forger for the real ones with --check-ids', async () => {
    const forged = makeLab(join(folder, 'forged'));
    await forged.init();
    writeFileSync(join(forged.state, 'file'), 'what the agent wrote');
    await forged.backup();
    writeFileSync(join(forged.folder, 'key'), `${restoreIdentity(await forged.root(), 'x25519')}\n`);
    await forge(forged, Buffer.from('what the agent wrote'), Buffer.from('what a thief likes  '));
    const args = ['--identity', join(forged.folder, 'key'), '--repository', forged.backends[0] ?? '', '--target'];
    const trusting = fresh();
    expect(await sh([SCRIPT, ...args, trusting])).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('Not checked: whether every chunk has the content') as string,
    });
    expect(readFileSync(join(trusting, 'file'), 'utf8')).toBe('what a thief likes  '); // so the check below does matter
    const careful = fresh();
    expect(await sh([SCRIPT, ...args, careful, '--check-ids'])).toMatchObject({
      status: 3,
      stderr: expect.stringContaining('lost: "file"') as string,
    });
    expect(readdirSync(careful)).toEqual([]);
  });

  it('gives no secret to any program as an argument', async () => {
    const bin = join(folder, 'bin');
    const log = join(folder, 'arguments');
    mkdirSync(bin);
    for (const name of [...readdirSync('/usr/bin'), ...readdirSync('/bin')]) {
      if (
        !/^(age|zstd|jq|tar|cat|sha256sum|basenc|base64|tr|cut|sort|join|comm|paste|head|tail|wc|printf|uniq)$/.test(
          name,
        )
      )
        continue;
      const text = `#!/bin/sh\nprintf '%s\\n' "${name} $*" >>'${log}'\nexec /usr/bin/${name} "$@"\n`;
      writeFileSync(join(bin, name), text, { mode: 0o755 });
    }
    const place = ['--repository', lab.backends[0] ?? '', '--target', fresh()];
    const args = ['--identity', keyFile, ...place, '--snapshot', first, '--check-ids'];
    const env = { ...process.env, PATH: `${bin}:${process.env['PATH']}` };
    expect(await sh([SCRIPT, ...args], { env })).toMatchObject({ status: 0 });
    const seen = readFileSync(log, 'utf8');
    expect(seen).toContain('age --decrypt');
    const { chunkIdKey } = await withRepository(lab, (repository) => Promise.resolve(repository));
    for (const secret of [restoreIdentity(await lab.root(), 'x25519'), 'AGE-SECRET-KEY', hex(chunkIdKey)]) {
      expect(seen.toLowerCase()).not.toContain(secret.toLowerCase());
    }
  });

  it('says what is wrong with its arguments, with exit code 2', async () => {
    for (const args of [[], ['--identity'], ['--identity', 'x', '--repository', 'y'], ['--what']]) {
      const { status, stderr } = await sh([SCRIPT, ...args]);
      expect([status, stderr]).toEqual([2, expect.stringContaining('usage: holdfast-recover.sh') as string]);
    }
    expect((await sh([SCRIPT, '--help'])).status).toBe(0);
  });

  it.skipIf(lacks('shellcheck', '--version'))('passes shellcheck', async () => {
    const { status, stdout } = spawnSync('shellcheck', [SCRIPT], { encoding: 'utf8' });
    expect([status, stdout]).toEqual([0, '']);
  });

  describe.skipIf(lackPython || lacks('openssl', 'version') || lacks('ssh-keygen', '-?'))(
    'docs/recovery.md',
    { concurrent: false },
    () => {
      const blocks = new Map(
        [...recoveryPage.matchAll(/^```sh run=(\S+)\n(.*?)\n```$/gms)].map(([, name = '', body = '']) => [name, body]),
      );
      let desk: string;

      /** Runs blocks of the page in one shell, in a folder with both scripts, the words typed in. */
      const follow = (...names: string[]): Promise<Outcome> => followIn(lab.backends[0] ?? '', ...names);
      const followIn = async (repository: string, ...names: string[]): Promise<Outcome> => {
        const text = names.map((name) => blocks.get(name) ?? `echo "no block ${name}" && exit 99`);
        const settings = `set -e\nrepository='${repository}'\ntarget='${join(desk, 'state')}'\n`;
        return sh(['-c', settings + text.join('\n')], {
          cwd: desk,
          input: `${wordsOf(await lab.root()).join('\n')}\n`,
        });
      };

      beforeAll(() => {
        desk = join(folder, 'desk');
        mkdirSync(desk);
        for (const file of [SCRIPT, WORDS_SCRIPT])
          copyFileSync(file, join(desk, file.slice(file.lastIndexOf('/') + 1)));
      });

      it('brings key, state and identity back with its commands', async () => {
        expect(blocks.has('settings')).toBe(true);
        expect(await follow('key', 'restore', 'identity')).toMatchObject({
          status: 0,
          stdout: expect.stringContaining(fingerprint(agentKey(await lab.root(), 0).publicKey)) as string,
        });
        expectSameTree(lab.state, join(desk, 'state'));
        expect(readFileSync(join(desk, 'key.txt'), 'utf8')).toBe(readFileSync(keyFile, 'utf8'));
      });

      it('proves by hand that words, repository and snapshot belong together', async () => {
        const { status, stdout } = await follow(
          'verify-functions',
          'recovery-key',
          'verify-repository',
          'verify-snapshot',
        );
        expect(status).toBe(0);
        expect(stdout.match(/Signature Verified Successfully/g)).toHaveLength(2);
        const { publicKey } = recoveryKey(await lab.root(), 0);
        expect(stdout).toContain(`${hex(publicKey)} ${fingerprint(publicKey)}\n${hex(publicKey)}\n`);
        const [newest = ''] = readdirSync(join(lab.backends[0] ?? '', 'snapshots'))
          .toSorted()
          .toReversed();
        expect(stdout).toContain(`${newest.slice(17, 81)}  snapshot.json`);
      });

      it('notices by hand a signature that does not hold', async () => {
        const page = blocks.get('verify-snapshot') ?? '';
        blocks.set('tampered', page.replace('verify "$agent"', 'printf " " >>snapshot.json\nverify "$agent"'));
        expect(blocks.get('tampered')).not.toBe(page);
        expect((await follow('verify-functions', 'verify-repository', 'tampered')).status).not.toBe(0);
      });

      it('restores once more, with every chunk checked', async () => {
        const repository = copyOf(lab, folder, 'first alone');
        for (const name of readdirSync(join(repository, 'snapshots')))
          if (!name.includes(first)) rmSync(join(repository, 'snapshots', name));
        expect(await followIn(repository, 'restore-checked')).toMatchObject({
          status: 0,
          stderr: expect.stringContaining('every chunk has the content that its id promises') as string,
        });
        expect(readFileSync(join(desk, 'state-checked', 'only at first'), 'utf8')).toBe('old');
      });
    },
  );
});

/** Contents, types, modes, times to the nanosecond, links and (as root) owners. */
function expectSameTree(
  a: string,
  b: string,
  { owners = process.getuid?.() === 0, but = (line: string) => line } = {},
): void {
  const compared = spawnSync('diff', ['-r', '--no-dereference', a, b], { encoding: 'latin1' });
  expect(compared.stdout + compared.stderr).toBe('');
  const list = (root: string) =>
    spawnSync('find', [root, '-printf', `%P %y %m %T@ ${owners ? '%U:%G' : ''} %l\\0`], { encoding: 'latin1' })
      .stdout.split('\0')
      .toSorted();
  expect(list(a).length).toBeGreaterThan(40);
  expect(list(b)).toEqual(list(a).map(but));
}

function filesIn(folder: string): string[] {
  return spawnSync('find', [folder, '-type', 'f'], { encoding: 'utf8' }).stdout.trim().split('\n');
}

function copyOf(lab: Lab, folder: string, name: string): string {
  expect(spawnSync('cp', ['-r', lab.backends[0] ?? '', join(folder, name)]).status).toBe(0);
  return join(folder, name);
}
