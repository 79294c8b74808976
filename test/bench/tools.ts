/** The programs that are compared, each behind the same interface. */
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { accessSync, constants, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { measure, type Command } from './measure.ts';
import type { PeerName, ToolInfo, ToolName } from './results.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Tool extends ToolInfo {
  /**
   * Makes an empty repository in the new folder `at`, or, with `bucket`, in that; for backups of `tree`. `home` outlives it: the tool's
   * caches are there.
   */
  open: (at: string, home: string, tree: string, bucket?: Bucket) => Promise<Repository>;
  speaksS3: boolean;
}

/** A bucket on an S3 server; each repository has a prefix of its own in it. */
export interface Bucket {
  endpoint: string;
  name: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
}

/** The commands on one repository. A label names one of its snapshots; targets are new, empty folders. */
export interface Repository {
  /** The folder whose files are the repository; undefined for one in a bucket. */
  path: string | undefined;
  backup: (label: string) => Command;
  restore: (label: string, target: string) => Command;
  /** `path` is relative to the tree; it is written to the same path below the target. */
  restoreOne: (label: string, path: string, target: string) => Command;
  /** Reads, decrypts and compares everything. */
  check: () => Command;
}

/** A path or program that was asked for and cannot be had: wrong usage. */
export class NoSuchProgram extends Error {}

const SECRET = 'benchmark';
const hasShaInstructions = (): boolean => /\bsha_ni\b|\bsha2\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));

/** What a user's shell has, with a home of the benchmark's own. */
function environment(home: string): Record<string, string> {
  mkdirSync(home, { recursive: true });
  return { PATH: process.env['PATH'] ?? '', LANG: 'C.UTF-8', HOME: home };
}

const credentialsIn = ({ credentials }: Bucket): Record<string, string> => ({
  AWS_ACCESS_KEY_ID: credentials.accessKeyId,
  AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
});

function versionOf(file: string, args: readonly string[]): string {
  const { stdout, stderr, status, error } = spawnSync(file, args, { encoding: 'utf8' });
  if (status !== 0) throw new NoSuchProgram(`${[file, ...args].join(' ')} does not run: ${error?.message ?? stderr}`);
  return /\d+\.\d+[^\s,]*/.exec(stdout)?.[0] ?? stdout.trim();
}

/** The command that a user types, for `program`, a file of this project. */
export function holdfastCommand(program: string, args: readonly string[], home: string): Command {
  return { file: process.execPath, args: [join(ROOT, program), ...args], env: environment(home), cwd: home };
}

/** @throws NoSuchProgram when `program` is missing or not built. */
export function holdfast(program: string): Tool {
  return {
    name: 'holdfast',
    version: versionOf(process.execPath, [join(ROOT, program), '--version']),
    settings: `defaults; one directory backend; Node ${process.versions.node}; the words come from a file`,
    speaksS3: true,
    open: async (at, home, tree, bucket) => {
      const path = bucket ? undefined : join(at, 'repository');
      const url =
        path === undefined
          ? `s3://${bucket?.name}/${randomUUID()}?endpoint=${bucket?.endpoint}`
          : pathToFileURL(path).href;
      const command = (...args: string[]): Command => {
        const bare = holdfastCommand(program, [...args, '--config', join(at, 'holdfast.yaml')], home);
        return bucket ? { ...bare, env: { ...bare.env, ...credentialsIn(bucket) } } : bare;
      };
      const words = ['--words-file', join(at, 'words.txt')];
      const backend = ['--backend', `one=${url}`];
      await measure(command('init', '--handle', 'bench', '--state', tree, ...backend, ...words));
      return {
        path,
        backup: (label) => command('backup', '--tag', label),
        restore: (_label, target) => command('restore', 'latest', '--target', target, ...words),
        restoreOne: (_label, one, target) => command('restore', 'latest', '--target', target, '--path', one, ...words),
        check: () => command('verify', '--level', 'chunks', ...words),
      };
    },
  };
}

function restic(file: string): Tool {
  return {
    name: 'restic',
    version: versionOf(file, ['version']),
    settings: 'defaults (repository version 2, compression auto); local repository; cache folder of its own',
    speaksS3: true,
    open: async (at, home, tree, bucket) => {
      const path = bucket ? undefined : join(at, 'repository');
      const place = path ?? `s3:${bucket?.endpoint}/${bucket?.name}/${randomUUID()}`;
      const env = {
        ...environment(home),
        RESTIC_PASSWORD: SECRET,
        RESTIC_CACHE_DIR: join(home, 'cache'),
        ...(bucket ? credentialsIn(bucket) : {}),
      };
      const command = (...args: string[]): Command => ({ file, args: ['-r', place, ...args], env, cwd: tree });
      await measure(command('init'));
      return {
        path,
        backup: (label) => command('backup', '--tag', label, '.'),
        restore: (_label, target) => flushed(command('restore', 'latest', '--target', target), target),
        restoreOne: (_label, one, target) =>
          flushed(command('restore', 'latest', '--target', target, '--include', `/${one}`), target),
        check: () => command('check', '--read-data'),
      };
    },
  };
}

function borg(file: string): Tool {
  // The faster of its two ciphers on this machine.
  const encryption = hasShaInstructions() ? 'repokey' : 'repokey-blake2';
  return {
    name: 'borg',
    version: versionOf(file, ['--version']),
    settings: `defaults, but zstd,3 for lz4; encryption ${encryption}; local repository`,
    speaksS3: false,
    open: async (at, home, tree) => {
      const path = join(at, 'repository');
      const env = { ...environment(home), BORG_BASE_DIR: home, BORG_PASSPHRASE: SECRET };
      const command = (cwd: string, ...args: string[]): Command => ({ file, args, env, cwd });
      await measure(command(at, 'init', '-e', encryption, path));
      return {
        path,
        backup: (label) => command(tree, 'create', '-C', 'zstd,3', `${path}::${label}`, '.'),
        restore: (label, target) => flushed(command(target, 'extract', `${path}::${label}`), target),
        restoreOne: (label, one, target) => flushed(command(target, 'extract', `${path}::${label}`, one), target),
        check: () => command(at, 'check', '--verify-data', path),
      };
    },
  };
}

/** The same durability for all: holdfast flushes what it restored before it says so, the peers leave that to the system. */
function flushed(command: Command, target: string): Command {
  return { ...command, file: 'sh', args: ['-c', '"$@" && sync -f "$0"', target, command.file, ...command.args] };
}

export interface ToolOptions {
  /** The file of this project that is holdfast. */
  program: string;
  /** Binaries named by the user. */
  paths: Record<PeerName, string | undefined>;
  log: (line: string) => void;
}

const PACKAGES: Record<PeerName, string> = { restic: 'restic', borg: 'borgbackup' };

/**
 * The tools that can be had of those asked for. A peer is the binary named by the user, the one in PATH, or, for root on Debian, the one
 * that is now installed.
 *
 * @throws NoSuchProgram when a binary named by the user, or holdfast, does not run.
 */
export function findTools(
  names: readonly ToolName[],
  { program, paths, log }: ToolOptions,
): { tools: Tool[]; notMeasured: { name: ToolName; reason: string }[] } {
  const tools: Tool[] = [];
  const notMeasured: { name: ToolName; reason: string }[] = [];
  for (const name of names) {
    if (name === 'holdfast') {
      tools.push(holdfast(program));
      continue;
    }
    const named = paths[name];
    const file = !named ? (inPath(name) ?? installed(name, log)) : resolve(named);
    if (file) tools.push(name === 'restic' ? restic(file) : borg(file));
    else {
      const reason = `${name} is not in PATH and could not be installed: install it, or name it with --${name} PATH`;
      log(reason);
      notMeasured.push({ name, reason });
    }
  }
  return { tools, notMeasured };
}

function inPath(name: string): string | undefined {
  const candidates = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, name));
  return candidates.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function installed(name: PeerName, log: (line: string) => void): string | undefined {
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return undefined;
  log(`installing ${PACKAGES[name]} with apt-get`);
  const apt = (...args: string[]): boolean =>
    spawnSync('apt-get', ['-qq', ...args], {
      stdio: ['ignore', 'ignore', 2],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    }).status === 0;
  return apt('update') && apt('install', '-y', '--no-install-recommends', PACKAGES[name]) ? inPath(name) : undefined;
}
