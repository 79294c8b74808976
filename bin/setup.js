// Makes node_modules what package-lock.json says, when it is not; runs before `npm run demo` and `npm test`.
// Plain JavaScript for Node 20, no dependencies. The new tree is installed aside and renamed into place, so that a run
// that fails, is killed, or has a twin leaves either the old tree or a whole new one. Everything it says goes to stderr.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const cache = join(root, '.cache');
const aside = join(cache, `setup-${process.pid}`);
const target = join(root, 'node_modules');

/** True when every package that the lock file requires is installed in its version; npm writes its record last. */
function isCurrent() {
  if (!existsSync(join(target, 'node', 'bin', 'node'))) return false; // made by the install script of package `node`
  try {
    const installed = readJson(join(target, '.package-lock.json')).packages;
    return Object.entries(readJson(join(root, 'package-lock.json')).packages).every(([path, want]) => {
      const have = installed[path];
      if (have === undefined) return path === '' || want.optional === true; // for another platform
      return have.version === want.version && have.integrity === want.integrity;
    });
  } catch (error) {
    if (error.code === 'ENOENT') return false;
    throw error;
  }
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

function install() {
  mkdirSync(aside, { recursive: true });
  for (const name of ['package.json', 'package-lock.json', '.npmrc']) {
    if (existsSync(join(root, name))) copyFileSync(join(root, name), join(aside, name));
  }
  const flags = ['ci', '--include=dev', '--ignore-scripts=false', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = process.env.npm_execpath;
  const [command, args] = npm?.endsWith('.js') ? [process.execPath, [npm, ...flags]] : ['npm', flags];
  process.stderr.write('Setting up: installing the dependencies of package-lock.json …\n');
  const run = spawnSync(command, args, { cwd: aside, stdio: ['ignore', 2, 2], shell: process.platform === 'win32' });
  if (run.error) throw run.error;
  if (run.status !== 0) throw new Error(`npm ci failed (${run.signal ?? `exit code ${run.status}`})`);
}

/** Puts the new tree in place, unless a twin has done so meanwhile; a twin's rename between two of ours is tried again. */
function swap() {
  for (let attempt = 1; !isCurrent(); attempt++) {
    try {
      if (existsSync(target)) renameSync(target, join(aside, `old_modules-${attempt}`));
      renameSync(join(aside, 'node_modules'), target);
    } catch (error) {
      if (attempt === 10) throw error;
    }
  }
}

/** Removes what runs that were killed left behind. */
function sweep() {
  if (!existsSync(cache)) return;
  for (const name of readdirSync(cache)) {
    const pid = Number(/^setup-(\d+)$/.exec(name)?.[1]);
    if (pid > 0 && !isAlive(pid)) rmSync(join(cache, name), { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
}

try {
  sweep();
  if (!isCurrent()) {
    try {
      install();
      swap();
    } finally {
      rmSync(aside, { recursive: true, force: true });
    }
  }
} catch (error) {
  process.stderr.write(`Error: set-up failed: ${error.message}\n`);
  process.exitCode = 1;
}
