import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..', '..');

interface Step {
  command: string;
  output: string;
}

/** The commands of the README's console blocks, each with the output shown for it. */
function stepsOf(markdown: string): Step[] {
  const steps: Step[] = [];
  for (const [, block] of markdown.matchAll(/^```console\n([\s\S]*?)^```$/gm)) {
    for (const part of (block ?? '').split(/^\$ /m).slice(1)) {
      const end = part.indexOf('\n');
      steps.push({ command: part.slice(0, end), output: part.slice(end + 1) });
    }
  }
  return steps;
}

/** What differs from run to run becomes a placeholder: ids, keys, times, paths, sizes of ciphertext. */
function normalise(text: string, home: string): string {
  return text
    .replaceAll(home, '/home/ada')
    .replace(/SHA256:[A-Za-z0-9+/]{43}/g, 'SHA256:KEY')
    .replace(/\b[0-9a-f]{8}\b/g, 'ID')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/\d+(\.\d+)? s\b/g, 'SECONDS')
    .replace(/(read|stored|new|copied,|objects,) \d[\d.,]* [KM]?i?B/g, '$1 SIZE')
    .replace(/ +/g, ' ');
}

describe('the tour of the README', () => {
  let home: string;
  let steps: Step[];

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'holdfast-readme-'));
    steps = stepsOf(await readFile(join(ROOT, 'README.md'), 'utf8'));
  });
  afterAll(() => rm(home, { recursive: true, force: true }));

  it('prints what it says, command by command', async () => {
    expect(steps.length).toBeGreaterThan(8);
    const holdfast = `holdfast() { '${process.execPath}' '${join(ROOT, 'bin/dev.js')}' "$@"; }`;
    for (const { command, output } of steps) {
      const { stdout } = await run('sh', ['-c', `${holdfast}\n${command}`], {
        cwd: home,
        env: {
          ...process.env,
          HOME: home,
          XDG_STATE_HOME: '',
          XDG_CACHE_HOME: '',
          XDG_CONFIG_HOME: '',
          HOLDFAST_CONFIG: '',
        },
      });
      expect(normalise(stdout, home), command).toBe(normalise(output, home));
    }
  }, 60_000);
});
