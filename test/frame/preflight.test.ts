import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const PREFLIGHT = fileURLToPath(new URL('../../bin/preflight.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'holdfast-preflight-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function preflight(before: string, after: string) {
  const code = `${before}
    const { preflight } = await import(${JSON.stringify(PREFLIGHT)});
    preflight(${JSON.stringify(folder)});
    ${after}`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

it.each(['20.19.0', '22.17.1', '18.0.0'])('Node %s is refused in one sentence', (version) => {
  const pretend = `Object.defineProperty(process.versions, 'node', { value: '${version}' });`;
  expect(preflight(pretend, "console.log('went on');")).toEqual({
    status: 1,
    stdout: '',
    stderr: `Error: holdfast needs Node 22.18 or newer, and this is ${version}.\n`,
  });
});

it.each(['22.18.0', '23.0.0', '24.1.0'])('Node %s is taken', (version) => {
  const pretend = `Object.defineProperty(process.versions, 'node', { value: '${version}' });`;
  expect(preflight(pretend, "console.log('went on');")).toEqual({ status: 0, stdout: 'went on\n', stderr: '' });
});

it('the warning that SQLite is experimental is hidden, and no other', () => {
  const { stderr } = preflight(
    '',
    `process.emitWarning('SQLite is an experimental feature and might change at any time', 'ExperimentalWarning');
     process.emitWarning('something else', 'ExperimentalWarning');
     process.emitWarning('SQLite will be gone', { type: 'DeprecationWarning' });`,
  );
  expect(stderr).toContain('ExperimentalWarning: something else');
  expect(stderr).toContain('DeprecationWarning: SQLite will be gone');
  expect(stderr).not.toContain('SQLite is an experimental feature');
});
