/** bin/setup.js, with a stand-in for npm so that nothing is downloaded. */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Installs what the lock file says, as far as set-up looks at it; a file `calls.fail` makes it fail. */
const FAKE_NPM = `
const { appendFileSync, cpSync, existsSync, mkdirSync, writeFileSync } = require('node:fs');
appendFileSync(process.env.CALLS, process.argv.slice(2).join(' ') + '\\n');
console.log('added 1 package');
if (existsSync(process.env.CALLS + '.fail')) process.exit(7);
mkdirSync('node_modules/node/bin', { recursive: true });
writeFileSync('node_modules/node/bin/node', '');
writeFileSync('node_modules/made-by', String(process.pid));
cpSync('package-lock.json', 'node_modules/.package-lock.json');
`;

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'holdfast-setup-'));
  mkdirSync(join(root, 'bin'));
  cpSync(join(ROOT, 'bin/setup.js'), join(root, 'bin/setup.js'));
  writeFileSync(join(root, 'package.json'), '{"type": "module"}');
  writeFileSync(join(root, 'npm.cjs'), FAKE_NPM);
  // npm-cli.js is recognised by its ending.
  writeFileSync(join(root, 'npm.js'), "import './npm.cjs';");
  lock('1.0.0');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function lock(version: string): void {
  const packages = {
    '': { name: 'x' },
    'node_modules/a': { version, integrity: `sha512-${version}` },
    'node_modules/other-platform': { version, optional: true },
  };
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages }));
}

const calls = (): string[] =>
  existsSync(join(root, 'calls')) ? readFileSync(join(root, 'calls'), 'utf8').trim().split('\n') : [];
const madeBy = (): string => readFileSync(join(root, 'node_modules/made-by'), 'utf8');

function setup(): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [join(root, 'bin/setup.js')], {
    env: { ...process.env, npm_execpath: join(root, 'npm.js'), CALLS: join(root, 'calls') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve) => void child.once('close', (code) => resolve({ code, stdout, stderr })));
}

it('installs what is missing, saying so on stderr only, and then does nothing', async () => {
  const first = await setup();
  expect(first).toMatchObject({ code: 0, stdout: '' });
  expect(first.stderr).toContain('added 1 package');
  expect(calls()).toHaveLength(1);
  expect(calls()[0]).toMatch(/^ci /);
  expect(await setup()).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(calls()).toHaveLength(1);
  expect(readdirSync(join(root, '.cache'))).toEqual([]);
});

it('installs again when the lock file has changed, or the Node that comes with it is not there', async () => {
  await setup();
  lock('1.0.1');
  await setup();
  expect(calls()).toHaveLength(2);
  rmSync(join(root, 'node_modules/node/bin/node'));
  await setup();
  expect(calls()).toHaveLength(3);
  await setup();
  expect(calls()).toHaveLength(3);
});

it('a failed installation leaves the old tree and is an error', async () => {
  await setup();
  const before = madeBy();
  lock('2.0.0');
  writeFileSync(join(root, 'calls.fail'), '');
  const failed = await setup();
  expect(failed).toMatchObject({ code: 1, stdout: '' });
  expect(failed.stderr).toContain('Error: set-up failed: npm ci failed (exit code 7)');
  expect(madeBy()).toBe(before);
  expect(readdirSync(join(root, '.cache'))).toEqual([]);
});

it('several at once leave one whole tree', async () => {
  const runs = await Promise.all([setup(), setup(), setup(), setup()]);
  expect(runs.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
  expect(await setup()).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(readdirSync(join(root, '.cache'))).toEqual([]);
});

it('what a killed run left behind is swept away', async () => {
  await setup();
  mkdirSync(join(root, `.cache/setup-${2 ** 22 + 1}`), { recursive: true }); // above the largest process id
  mkdirSync(join(root, `.cache/setup-${process.pid}`));
  await setup();
  expect(readdirSync(join(root, '.cache'))).toEqual([`setup-${process.pid}`]);
});
