/** The console blocks of a page: what is typed, and what the page says is printed. */
import { environment, PROGRAM, ROOT } from '../cli/run.ts';
import { runWarm } from '../cli/warm.ts';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'vitest';

const run = promisify(execFile);

interface Step {
  command: string;
  output: string;
}

/** The commands of the page's console blocks, each with the output shown for it. */
export async function stepsOf(page: string): Promise<Step[]> {
  const steps: Step[] = [];
  for (const [, block] of (await readFile(join(ROOT, page), 'utf8')).matchAll(/^```console\n([\s\S]*?)^```$/gm)) {
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
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z?/g, 'TIME')
    .replace(/It is .* old/g, 'It is AGE old')
    .replace(/\d+(\.\d+)? s\b/g, 'SECONDS')
    .replace(/(read|stored|new|copied,|objects,) \d[\d.,]* [KM]?i?B/g, '$1 SIZE')
    .replace(/\(disk \d+\)/g, '(disk N)')
    .replace(/come from \S+ alone/g, 'come from HOST alone')
    .replace(/ +/g, ' ');
}

/**
 * Runs the steps one after the other in the folder `home`; each must end well and print what the page says. What a shell has a part in but to read the
 * words is a process of its own each time, other commands are as `runWarm` has them.
 */
export async function expectSteps(steps: readonly Step[], home: string): Promise<void> {
  const own = { HOME: home, XDG_STATE_HOME: '', XDG_CACHE_HOME: '', XDG_CONFIG_HOME: '' };
  const shell = async (holdfast: string, command: string): Promise<string> => {
    const env = environment(own);
    const { stdout } = await run('sh', ['-c', `holdfast() { ${holdfast}; }\n${command}`], { cwd: home, env });
    return stdout;
  };
  const program = async (command: string): Promise<string> => {
    const words = (await shell(`printf '%s\\0' "$@"`, command)).split('\0').slice(0, -1);
    const { code, stdout, stderr } = await runWarm(words, { cwd: home, env: own });
    expect(code, `${command}: ${stderr}`).toBe(0);
    return stdout;
  };
  for (const { command, output } of steps) {
    const isPlain = /^holdfast [^|&;<>()`]*$/.test(command);
    const stdout = isPlain
      ? await program(command)
      : await shell(`'${process.execPath}' '${join(ROOT, PROGRAM)}' "$@"`, command);
    expect(normalise(stdout, home), command).toBe(normalise(output, home));
  }
}
