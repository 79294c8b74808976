/** Finds the command that the arguments name, runs it, and reports what went wrong. */
import '@oclif/core/command';
import { Config } from '@oclif/core/config';
import { settings } from '@oclif/core/settings';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { HoldfastError } from '../errors.ts';
import type { CommandTable } from './command-table.ts';
import { EXIT } from './exit-codes.ts';
import { reportFailure } from './failure.ts';
import { writeStdout } from './output.ts';
import { nearest } from './suggest.ts';

export interface Program {
  /** The folder of package.json. */
  root: string;
  /** The module of the command table, relative to `root`. */
  commands: string;
  /** Whether oclif.manifest.json describes the commands (in the published program). */
  manifest: boolean;
}

/** Runs the program on the process's arguments; never rejects, and leaves the exit code in `process.exitCode`. */
export async function main(program: Program): Promise<void> {
  const argv = process.argv.slice(2);
  const json = flagsOf(argv).includes('--json');
  process.exitCode = EXIT.failed; // until a command has ended: a run that just stops is no success
  let ended = false;
  process.on('uncaughtException', (error) => {
    if (ended) process.exit(); // told already, or the telling itself failed
    ended = true;
    void reportFailure(error, { json }).finally(() => process.exit());
  });
  process.once('exit', (code) => {
    if (ended || code !== EXIT.failed) return;
    void reportFailure(new HoldfastError('bug', 'internal error: the run stopped before it was done'), { json });
  });
  // A failed write is told to whoever wrote (see output.ts). oclif's listener, which comes with its Command (hence the import), would throw
  // it once more, out of everything.
  process.stdout.removeAllListeners('error').on('error', () => {});
  process.stderr.on('error', () => {}); // nobody reads the progress any more: no reason to stop
  try {
    await run(program, argv[0] === 'help' ? [...argv.slice(1), '--help'] : argv);
  } catch (error) {
    await reportFailure(error, { json });
  } finally {
    ended = true;
  }
}

async function run(program: Program, argv: string[]): Promise<void> {
  const table = pathToFileURL(join(program.root, program.commands)).href;
  // oxlint-disable-next-line house/imports -- sources or build: the program says which
  const { COMMANDS, loadCommands } = (await import(table)) as CommandTable;
  const command = findCommand(argv, Object.keys(COMMANDS));
  const asksForHelp = flagsOf(argv).some((flag) => flag === '--help' || flag === '-h');
  const asksForVersion = command === undefined && argv.includes('--version');
  if (command === undefined && !asksForHelp && !asksForVersion && argv[0]?.startsWith('-')) {
    throw new HoldfastError('usage', 'no command given', {
      hint: 'Flags come after the command: holdfast COMMAND --flag. See `holdfast --help`.',
    });
  }
  const describesCommands = command === undefined || asksForHelp || command.id === 'completion';
  if (describesCommands && !program.manifest) await loadCommands();
  const config = await loadProgram(program);
  if (command !== undefined && !asksForHelp) {
    await config.runCommand(command.id, command.rest);
    return;
  }
  if (asksForVersion) {
    await writeStdout(`${config.userAgent}\n`);
  } else {
    const { loadHelpClass } = await import('@oclif/core/help');
    const Help = await loadHelpClass(config);
    await new Help(config).showHelp([...(command?.id.split(':') ?? wordsOf(argv)), '--help']);
  }
  process.exitCode = EXIT.done;
}

/** The command whose id the leading words are, and the arguments after it; undefined for nothing or a topic alone. */
function findCommand(argv: readonly string[], ids: readonly string[]): { id: string; rest: string[] } | undefined {
  const words = wordsOf(argv);
  for (let length = words.length; length > 0; length--) {
    const id = words.slice(0, length).join(':');
    if (ids.includes(id)) return { id, rest: argv.slice(length) };
  }
  if (words.length === 0 || ids.some((id) => id.startsWith(`${words.join(':')}:`))) return undefined;
  const depth = ids.some((id) => id.startsWith(`${words[0]}:`)) ? 2 : 1;
  const name = words.slice(0, depth).join(' ');
  const meant = nearest(
    name,
    ids.map((id) => id.replaceAll(':', ' ')),
  );
  // What is near no command is not repeated: it may be a word that belongs on paper.
  const isTypo = meant !== undefined && words.length < WORDS_OF_A_PHRASE;
  throw new HoldfastError('usage', `there is no ${isTypo ? `command ${JSON.stringify(name)}` : 'such command'}`, {
    hint: meant === undefined ? 'See `holdfast --help`.' : `Did you mean \`holdfast ${meant}\`?`,
  });
}

/** So many operands are no command line but a phrase, or a part of one. */
const WORDS_OF_A_PHRASE = 8;

/** The words before the first flag. */
function wordsOf(argv: readonly string[]): string[] {
  const first = argv.findIndex((arg) => arg.startsWith('-'));
  return argv.slice(0, first < 0 ? argv.length : first);
}

/** Everything before `--`. */
function flagsOf(argv: readonly string[]): string[] {
  const end = argv.indexOf('--');
  return argv.slice(0, end < 0 ? argv.length : end);
}

/** oclif's configuration, told where the commands are instead of searching; no plugins of the user's are loaded. */
async function loadProgram({ root, commands, manifest }: Program): Promise<Config> {
  settings.enableAutoTranspile = false;
  const pjson = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as Config['pjson'];
  pjson.oclif.commands = { strategy: 'explicit', target: `./${commands}`, identifier: 'COMMANDS' };
  return Config.load({ root, pjson, ignoreManifest: !manifest, userPlugins: false, devPlugins: false });
}
