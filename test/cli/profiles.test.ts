/** From `init` to `recover` with agents that have secrets, through the command line. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { makeFixture } from '../../fixtures/agents/generate.ts';
import type { BackupResult } from '../../src/operations/backup.ts';
import type { RestoreResult } from '../../src/operations/restore.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';

interface Taken {
  profile: { name: string; detected: boolean };
  takes: Record<
    'state' | 'secret' | 'cache' | 'databases' | 'logs',
    { files: number; bytes: number; examples: string[] }
  >;
}

const folder = temporaryFolder();
afterAll(() => removeFolder(folder));
let homes = 0;
const newHome = (): AgentHome => agentHome(`${folder}/home-${homes++}`, { warm: true });
const init = (home: AgentHome, ...more: string[]) => [
  ...initArgs((name) => home.at(name)),
  '--words-file',
  'words.txt',
  ...more,
];

describe('an agent that is known', () => {
  it('is recognised by init, which says what it will take; its secrets come back when they are asked for', async () => {
    const home = newHome();
    using made = makeFixture('openclaw-sessions', home.at('state'));
    const taken = await home.json<Taken>(0, ...init(home));
    expect(taken.profile).toMatchObject({ name: 'openclaw', detected: true });
    expect(taken.takes.state.files).toBe(made.state.length);
    expect(taken.takes.secret.files).toBe(made.secret.length);
    expect(taken.takes.secret.examples).toContain('credentials/');
    expect(taken.takes.logs.files).toBe(2);
    expect(readFileSync(home.at('holdfast.yaml'), 'utf8')).toContain('  profile: openclaw\n');

    const backup = await home.json<BackupResult>(0, 'backup');
    expect(backup.secrets).toMatchObject({ handling: 'apart', files: made.secret.length });
    const { stdout } = await home.holdfast('backup');
    expect(stdout).toContain(`${made.secret.length} secret files: saved apart, restored only with --with-secrets\n`);

    const words = ['--words-file', 'words.txt'];
    const plain = await home.holdfast('restore', '--target', 'plain', ...words);
    expect(plain).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`${made.secret.length} secret files of the snapshot NOT restored`) as string,
    });
    expect(existsSync(home.at('plain/identity/device.json'))).toBe(false);
    const dry = await home.holdfast('restore', '--target', 'dry', '--dry-run', ...words);
    expect(dry.stdout).toContain(`${made.secret.length} secret files of the snapshot would NOT be restored`);
    const { secrets } = await home.json<RestoreResult>(0, 'restore', '--target', 'whole', '--with-secrets', ...words);
    expect(secrets).toEqual({ files: made.secret.length, restored: made.secret.length });
    const key = (place: string) => readFileSync(home.at(place, 'identity/device.json'), 'utf8');
    expect(key('whole')).toBe(key('state'));

    const list = await home.holdfast('ls', ...words);
    expect(list.stdout).not.toMatch(/device\.json|openclaw\.json/);
    expect(list.stdout).toContain(`${made.secret.length} secret files kept apart: --secrets lists them\n`);
    expect((await home.holdfast('ls', '--secrets', ...words)).stdout).toContain(' identity/device.json\n');
  });

  it('is taken whole where the config says `secrets: include`, and its patterns give way to those of the config', async () => {
    const home = newHome();
    using made = makeFixture('claude-code', home.at('state'));
    const { stdout } = await home.holdfast(...init(home));
    expect(stdout).toMatch(/^profile: +claude-code: Claude Code, recognised by its files$/m);
    expect(stdout).toMatch(
      /^secrets: +2 files, .*\(\.credentials\.json, session-env\/\): saved apart, restored only with --with-secrets$/m,
    );
    expect(stdout).toMatch(/^left out: +4 files, .*\(debug\/, shell-snapshots\/, statsig\/, …\): cache, not saved$/m);
    const config = readFileSync(home.at('holdfast.yaml'), 'utf8');
    writeFileSync(
      home.at('holdfast.yaml'),
      config.replace('  # exclude:', "  secrets: include\n  exclude: ['!/debug/'] #"),
    );
    const backup = await home.json<BackupResult>(0, 'backup');
    expect(backup.files.total).toBe(made.state.length + made.secret.length + 1);
    expect(backup.secrets).toMatchObject({ handling: 'include', files: made.secret.length });
    const restored = await home.holdfast('restore', '--target', 'new', '--words-file', 'words.txt');
    expect(restored.stdout).toMatch(
      /^Warning: the state was in .*\/state and is in .*\/new now: Claude Code finds sessions by/m,
    );
    expect(existsSync(home.at('new/.credentials.json'))).toBe(true);
    expect(existsSync(home.at('new/statsig'))).toBe(false);
  });
});

describe('a profile of the user', () => {
  it('is used by init and backup, and a recovery says when it is not there', async () => {
    const home = newHome();
    mkdirSync(home.at('state', 'vault'), { recursive: true });
    for (const path of ['note.txt', 'vault/token', 'scratch.tmp']) writeFileSync(home.at('state', path), path);
    writeFileSync(home.at('mine.yaml'), 'name: mine\ntitle: my agent\nsecret: [/vault/]\ncache: ["*.tmp"]\n');
    const taken = await home.json<Taken>(0, ...init(home, '--profile', './mine.yaml'));
    expect(taken).toMatchObject({
      profile: { name: 'mine', detected: false },
      takes: { state: { files: 1 }, secret: { files: 1 }, cache: { files: 1, examples: ['scratch.tmp'] } },
    });
    expect(await home.json<BackupResult>(0, 'backup')).toMatchObject({ files: { total: 2 }, secrets: { files: 1 } });

    writeFileSync(home.at('mine.yaml'), 'name: mine\ntitle: my agent\nsecret: /vault/\n');
    const broken = await home.refused(2, 'backup');
    expect(broken).toMatchObject({
      code: 'config_invalid',
      message: expect.stringContaining('mine.yaml:3:1: `secret` is not valid') as string,
    });

    const other = newHome();
    const config = readFileSync(home.at('holdfast.yaml'), 'utf8');
    expect(config).toContain(`  profile: ${home.at('mine.yaml')}\n`);
    const recover = [
      'recover',
      '--from',
      `file://${home.at('nas')}`,
      '--target',
      'state',
      '--words-file',
      home.at('words.txt'),
    ];
    const recovered = await other.json<RestoreResult>(0, ...recover, '--with-secrets');
    expect(recovered.secrets).toEqual({ files: 1, restored: 1 });
    expect(recovered.warnings).toEqual([
      { code: 'profile_missing', message: expect.stringContaining('no backup can be made yet') as string },
    ]);
  });

  it('that does not exist stops init before anything is made', async () => {
    const home = newHome();
    mkdirSync(home.at('state'), { recursive: true });
    for (const [profile, what] of [
      ['nosuch', 'there is no profile nosuch'],
      ['./nosuch.yaml', 'cannot be read'],
    ] as const) {
      const error = await home.refused(2, ...init(home, '--profile', profile));
      expect(error).toMatchObject({ code: 'config_invalid', message: expect.stringContaining(what) as string });
    }
    for (const path of ['holdfast.yaml', 'words.txt', 'nas', 'usb']) expect(existsSync(home.at(path))).toBe(false);
  });
});
