import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SHELLS } from '../../src/cli/completion.ts';
import { PROGRAM, run } from './run.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-completion-'));
  await Promise.all(
    SHELLS.map(async (shell) => {
      const { code, stdout, stderr } = await run(PROGRAM, ['completion', shell]);
      if (code !== 0) throw new Error(stderr);
      await writeFile(join(folder, shell), stdout);
    }),
  );
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** How each shell is asked what TAB offers after `words`, the last of which is being typed. */
const ask: Record<(typeof SHELLS)[number], (script: string, words: string[]) => string[]> = {
  bash: (script, words) => [
    '-c',
    `source ${script}; COMP_WORDS=(holdfast "$@"); COMP_CWORD=$#; _holdfast; printf '%s\\n' "\${COMPREPLY[@]}"`,
    'bash',
    ...words,
  ],
  // zsh completes in its line editor only: stand-ins for its builtins print what would be offered.
  zsh: (script, words) => [
    '-fc',
    `compdef() { :; }; compadd() { shift; print -l -- $@ | grep "^$PREFIX"; }; _files() { :; }
     source ${script}; words=(holdfast "$@"); CURRENT=$#words; PREFIX="$words[-1]"; _holdfast`,
    'zsh',
    ...words,
  ],
  fish: (script, words) => ['-N', '-c', `source ${script}; complete -C 'holdfast ${words.join(' ')}'`],
};

describe.each(SHELLS)('in %s', (shell) => {
  const present = spawnSync(shell, ['-c', 'true']).status === 0;
  const offered = (...words: string[]): string[] => {
    const { stdout, stderr } = spawnSync(shell, ask[shell](join(folder, shell), words), {
      encoding: 'utf8',
      cwd: folder,
    });
    expect(stderr).toBe('');
    return stdout.split('\n').map((line) => line.split('\t')[0] ?? '');
  };

  // CI installs all three; elsewhere only the shells that are there can be asked.
  it.runIf(present || process.env['CI'] === 'true')('TAB offers commands, topics, their commands and flags', () => {
    expect(offered('')).toEqual(expect.arrayContaining(['completion', 'identity', 'restore']));
    expect(offered('comp').filter(Boolean)).toEqual(['completion']);
    expect(offered('identity', 'sh').filter(Boolean)).toEqual(['show']);
    expect(offered('identity', 'show', '--q').filter(Boolean)).toEqual(['--quiet']);
    expect(offered('restore', '--tar').filter(Boolean)).toEqual(['--target']);
    expect(offered('snapshots', '--tar').filter(Boolean)).toEqual([]);
    // A command that is a topic too.
    expect(offered('snapshots', 'ta').filter(Boolean)).toEqual(['tag']);
    expect(offered('snapshots', '--q').filter(Boolean)).toEqual(['--quiet']);
    expect(offered('snapshots', 'tag', '--rem').filter(Boolean)).toEqual(['--remove']);
  });
});
