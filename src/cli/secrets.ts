/**
 * How the secret that restores comes in: from files or a prompt, never as an argument, which every process on the host
 * could read.
 */
import * as Flags from '@oclif/core/flags';
import { createInterface } from 'node:readline';
import { addAbortSignal, type Readable } from 'node:stream';
import { parseAgeIdentityFile } from '../crypto/age.ts';
import { WORDS } from '../crypto/words.ts';
import { HoldfastError } from '../errors.ts';
import { readSecretFile, SECRET_FILE_MAX_BYTES } from '../identity/secret-file.ts';

/** The flags of every command that restores. */
export const restoreSecretFlags = {
  'words-file': Flags.string({
    summary: 'File with the 24 recovery words (mode 0600); - reads stdin.',
    helpValue: 'FILE',
    exclusive: ['identity-file'],
  }),
  'identity-file': Flags.string({
    summary: 'age key file (mode 0600) of a restore recipient; default $HOLDFAST_RESTORE_IDENTITY_FILE.',
    helpValue: 'FILE',
  }),
};

/** The words as they were given (see `parseWordsText`), or age identities. */
export type RestoreSecret = { kind: 'words'; text: string } | { kind: 'identities'; identities: string[] };

export interface SecretTerminal {
  stdin: Readable & { isTTY?: boolean };
  stderr: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  signal: AbortSignal;
}

/**
 * The restore secret: of --words-file, --identity-file, $HOLDFAST_RESTORE_IDENTITY_FILE, or typed at a prompt. Throws `missing_key` when there
 * is none and nobody can be asked, and what `readSecretFile` and `parseAgeIdentityFile` throw.
 */
export async function readRestoreSecret(
  flags: { 'words-file'?: string | undefined; 'identity-file'?: string | undefined },
  env: Readonly<Record<string, string | undefined>>,
  terminal: SecretTerminal,
): Promise<RestoreSecret> {
  const wordsFile = flags['words-file'];
  if (wordsFile !== undefined && wordsFile.trim().split(/\s+/).length >= WORDS / 2) {
    throw new HoldfastError('usage', '--words-file takes the name of a file, not the words', {
      hint: 'Everybody on this host could read them there. Put them into a file with mode 0600, or type them at the prompt.',
    });
  }
  if (wordsFile === '-') return { kind: 'words', text: await readAll(terminal.stdin, terminal.signal) };
  if (wordsFile !== undefined) return { kind: 'words', text: toText(await readSecretFile(wordsFile), wordsFile) };
  const identityFile = flags['identity-file'] ?? (env['HOLDFAST_RESTORE_IDENTITY_FILE'] || undefined);
  if (identityFile !== undefined) {
    return {
      kind: 'identities',
      identities: parseAgeIdentityFile(toText(await readSecretFile(identityFile), identityFile)),
    };
  }
  if (terminal.stdin.isTTY !== true || terminal.stderr.isTTY !== true) {
    throw new HoldfastError('missing_key', 'the recovery words are needed, and there is no terminal to ask for them', {
      hint: 'Give --words-file FILE or --identity-file FILE.',
    });
  }
  return { kind: 'words', text: await promptForWords(terminal) };
}

/**
 * Asks for the words, in as many lines as one likes (typed or pasted), until 24 are there or a line is empty. Each line is
 * wiped from the screen once it is read, so that the words do not stay in the terminal's history.
 */
async function promptForWords({ stdin, stderr, signal }: SecretTerminal): Promise<string> {
  const reader = createInterface({ input: stdin, output: stderr, terminal: true, historySize: 0 });
  const lines: string[] = [];
  let words = 0;
  const ask = (): void => {
    reader.setPrompt(`${words} of ${WORDS}> `);
    reader.prompt();
  };
  stderr.write(`Type the ${WORDS} recovery words, in one line or several (an empty line ends):\n`);
  try {
    return await new Promise((resolve, reject) => {
      const interrupt = (): void => reject(new HoldfastError('interrupted', 'interrupted while asking for the words'));
      reader.on('line', (line) => {
        const rows = Math.ceil((reader.getPrompt().length + line.length + 1) / (stderr.columns || 80));
        stderr.write('\x1b[1A\x1b[2K'.repeat(rows));
        lines.push(line);
        words += line.split(/\s+/).filter((part) => /\p{L}/u.test(part)).length;
        if (line.trim() !== '' && words < WORDS) return ask();
        resolve(lines.join('\n'));
        reader.close(); // what was pasted beyond is not even shown
      });
      reader.on('SIGINT', interrupt); // in raw mode the terminal sends no signal, only the key
      reader.on('close', interrupt);
      signal.addEventListener('abort', interrupt, { once: true });
      if (signal.aborted) interrupt();
      else ask();
    });
  } finally {
    reader.close();
  }
}

async function readAll(stream: Readable, signal: AbortSignal): Promise<string> {
  addAbortSignal(signal, stream);
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    chunks.push(Buffer.from(chunk));
    length += chunk.length;
    if (length > SECRET_FILE_MAX_BYTES)
      throw new HoldfastError('usage', 'what came on stdin is too long for recovery words');
  }
  return toText(Buffer.concat(chunks), 'stdin');
}

function toText(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new HoldfastError('usage', `${name} is no UTF-8 text`);
  }
}
