/**
 * How secrets come in: from files, a command or a prompt, never as an argument, which every process on the host could read.
 */
import * as Flags from '@oclif/core/flags';
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { addAbortSignal, Writable, type Readable } from 'node:stream';
import { parseAgeIdentityFile } from '../crypto/age.ts';
import { isPassphraseFile, openWithPassphrase } from '../crypto/age-passphrase.ts';
import { withSecret } from '../crypto/hash.ts';
import { HoldfastError, isHoldfastError, systemErrorCode } from '../errors.ts';
import { parsePem } from '../identity/pem.ts';
import { checkIsName, READ_NOW, readPipe, readSecretFile, SECRET_FILE_MAX_BYTES } from '../identity/secret-file.ts';
import { STDIN } from './input-file.ts';

/** The flag of commands that need a passphrase. */
export const passphraseFlags = {
  'passphrase-file': Flags.string({
    summary: 'File whose first line is the passphrase (mode 0600); default the output of $HOLDFAST_PASSPHRASE_COMMAND.',
    helpValue: 'FILE',
  }),
};

/** The flags of every command that restores. */
export const restoreSecretFlags = {
  'words-file': Flags.string({
    summary:
      'File with the 24 recovery words, a share, or scanned codes (mode 0600); - reads stdin; may be given again.',
    helpValue: 'FILE',
    multiple: true,
    multipleNonGreedy: true, // the next word is an argument, not one more file
    exclusive: ['identity-file'],
  }),
  'identity-file': Flags.string({
    summary: 'age key file (mode 0600) of a restore recipient; default $HOLDFAST_RESTORE_IDENTITY_FILE.',
    helpValue: 'FILE',
  }),
  vault: Flags.string({
    summary: 'age file with the words, which a passphrase opens; - reads stdin.',
    helpValue: 'FILE',
    exclusive: ['words-file', 'identity-file'],
  }),
  ...passphraseFlags,
};

export interface PassphraseFlagValues {
  'passphrase-file'?: string | undefined;
}

export interface RestoreSecretFlagValues extends PassphraseFlagValues {
  'words-file'?: string[] | undefined;
  'identity-file'?: string | undefined;
  vault?: string | undefined;
}

/** Texts as they were given (see `parseRecoveryText`), or age identities. */
export type GivenSecret =
  { kind: 'texts'; texts: string[]; from: 'files' | 'vault' | 'prompt' } | { kind: 'identities'; identities: string[] };

export interface SecretTerminal {
  stdin: Readable & { isTTY?: boolean };
  stderr: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
  signal: AbortSignal;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Whether the flags name a secret that restores; without one, commands that need it ask for it. */
export function namesRestoreSecret(flags: RestoreSecretFlagValues): boolean {
  return [flags['words-file'], flags['identity-file'], flags.vault].some((value) => value !== undefined);
}

/**
 * The restore secret: of --words-file, --vault, --identity-file, $HOLDFAST_RESTORE_IDENTITY_FILE, or typed at a prompt. Throws `missing_key` when
 * there is none and nobody can be asked, and what `readSecretFile`, `readPassphrase`, `openWithPassphrase` and `parseAgeIdentityFile` throw.
 */
export async function readRestoreSecret(
  flags: RestoreSecretFlagValues,
  env: Environment,
  terminal: SecretTerminal,
): Promise<GivenSecret> {
  const { vault, 'words-file': wordsFiles = [] } = flags;
  const [, twice] = [vault, ...wordsFiles].filter((file) => file === STDIN);
  if (twice !== undefined) throw new HoldfastError('usage', 'stdin can be read once only', { hint: 'Give - once.' });
  if (vault !== undefined)
    return { kind: 'texts', texts: [await openVault(vault, flags, env, terminal)], from: 'vault' };
  if (wordsFiles.length > 0) {
    for (const file of wordsFiles) checkIsName(file); // all, before the first is read
    const texts: string[] = [];
    for (const file of wordsFiles) texts.push(await readWordsFile(file, terminal));
    return { kind: 'texts', texts, from: 'files' };
  }
  const identityFile = flags['identity-file'] ?? (env['HOLDFAST_RESTORE_IDENTITY_FILE'] || undefined);
  if (identityFile !== undefined) {
    const text = secretText(await readSecretFile(identityFile), identityFile);
    return { kind: 'identities', identities: parseAgeIdentityFile(text) };
  }
  if (!canAsk(terminal)) {
    throw new HoldfastError('missing_key', 'the recovery words are needed, and there is no terminal to ask for them', {
      hint: 'Give --words-file FILE, --vault FILE or --identity-file FILE.',
    });
  }
  const { promptForSecret } = await import('./word-prompt.ts');
  return { kind: 'texts', texts: await promptForSecret(terminal), from: 'prompt' };
}

/**
 * A passphrase: the first line of --passphrase-file, else of what $HOLDFAST_PASSPHRASE_COMMAND prints, else typed, unseen, at a prompt that
 * names `what` it is for, twice with `confirm`. It is taken byte for byte. Throws `missing_key` when there is none and nobody can be asked, `usage`
 * when it is empty.
 */
export async function readPassphrase(
  flags: PassphraseFlagValues,
  env: Environment,
  terminal: SecretTerminal,
  { what, confirm }: { what: string; confirm: boolean },
): Promise<string> {
  const file = flags['passphrase-file'];
  if (file !== undefined) return firstLine(secretText(await readSecretFile(file), file), file);
  const command = env['HOLDFAST_PASSPHRASE_COMMAND'] || undefined;
  if (command !== undefined) return passphraseOfCommand(command, env, terminal.signal);
  if (!canAsk(terminal)) {
    throw new HoldfastError(
      'missing_key',
      `the passphrase of ${what} is needed, and there is no terminal to ask for it`,
      {
        hint: 'Give --passphrase-file FILE or set HOLDFAST_PASSPHRASE_COMMAND.',
      },
    );
  }
  for (;;) {
    const passphrase = firstLine(await askUnseen(`Passphrase of ${what}: `, terminal), 'the answer');
    if (!confirm || passphrase === (await askUnseen('The same once more: ', terminal))) return passphrase;
    terminal.stderr.write('These were two different passphrases. From the beginning:\n');
  }
}

function canAsk({ stdin, stderr }: SecretTerminal): boolean {
  return stdin.isTTY === true && stderr.isTTY === true;
}

async function readWordsFile(path: string, terminal: SecretTerminal): Promise<string> {
  const name = path === STDIN ? 'stdin' : path;
  const sealed = new HoldfastError(
    'usage',
    `${name} is a file that a passphrase opens, not recovery words as they stand`,
    {
      hint: 'Give it as --vault instead of --words-file.',
    },
  );
  const bytes =
    path === STDIN
      ? await readAll(terminal.stdin, terminal.signal)
      : await readSecretFile(path).catch(async (error: unknown) => {
          // A sealed file may be readable by others: then this is what to say of it.
          if (isHoldfastError(error, 'insecure_permissions') && isSealed(await readSealedFile(path))) throw sealed;
          throw error;
        });
  if (isSealed(bytes)) throw sealed;
  return toText(bytes, name);
}

function isSealed(file: Uint8Array): boolean {
  return isPassphraseFile(withoutArmor(file));
}

async function openVault(
  path: string,
  flags: PassphraseFlagValues,
  env: Environment,
  terminal: SecretTerminal,
): Promise<string> {
  const stored = path === STDIN ? await readAll(terminal.stdin, terminal.signal) : await readSealedFile(path);
  const file = withoutArmor(stored);
  const name = path === STDIN ? 'stdin' : path;
  if (!isPassphraseFile(file)) {
    throw new HoldfastError('usage', `${name} is no age file that a passphrase opens`, {
      hint: 'Give a file with the words themselves as --words-file, and an age key file as --identity-file.',
    });
  }
  const passphrase = await readPassphrase(flags, env, terminal, { what: name, confirm: false });
  return toText(await openWithPassphrase(file, passphrase), `what ${name} holds`);
}

/** Others may read it: it is encrypted, and often comes from a download. */
async function readSealedFile(path: string): Promise<Uint8Array> {
  checkIsName(path);
  try {
    await using file = await open(path, READ_NOW);
    if ((await file.stat()).isFIFO()) return await readPipe(path);
    return await readAll(file.createReadStream({ autoClose: false }));
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    const code = systemErrorCode(error);
    if (code !== 'ENOENT')
      throw new HoldfastError('io', `cannot read ${path}: ${code ?? 'unknown error'}`, { cause: error });
    throw new HoldfastError('missing_key', `${path} is not there`, {
      hint: 'Check the path; a relative one counts from the current folder.',
    });
  }
}

/** An age file in its text form (`age -a`) as bytes; others as they are. */
function withoutArmor(file: Uint8Array): Uint8Array {
  const pem = parsePem(Buffer.from(file.buffer, file.byteOffset, file.length).toString('latin1'));
  return pem?.label === 'AGE ENCRYPTED FILE' ? pem.bytes : file;
}

/** Its standard error goes through, so that it can ask; what it prints is never repeated. */
async function passphraseOfCommand(command: string, env: Environment, signal: AbortSignal): Promise<string> {
  const name = '$HOLDFAST_PASSPHRASE_COMMAND';
  const child = spawn('sh', ['-c', command], { stdio: ['inherit', 'pipe', 'inherit'], env: { ...env }, signal });
  const ended = new Promise<string | undefined>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, killedBy) => {
      resolve(code === 0 ? undefined : code === null ? `was ended by ${killedBy}` : `failed with exit code ${code}`);
    });
  });
  ended.catch(() => {}); // awaited below, after what it printed
  let output: Uint8Array;
  try {
    output = await readAll(child.stdout);
  } catch (error) {
    child.kill();
    throw error;
  }
  const problem = await ended;
  if (problem !== undefined) {
    throw new HoldfastError('missing_key', `the command of ${name} ${problem}`, {
      hint: 'Run it by itself to see what it lacks, or give --passphrase-file FILE.',
    });
  }
  return firstLine(toText(output, `the output of ${name}`), `the output of ${name}`);
}

/** A line typed on the terminal that does not show it. Throws `interrupted`. */
async function askUnseen(question: string, { stdin, stderr, signal }: SecretTerminal): Promise<string> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const reader = createInterface({ input: stdin, output: nowhere, terminal: true, historySize: 0 });
  stderr.write(question);
  try {
    return await new Promise((resolve, reject) => {
      const interrupt = (): void =>
        reject(new HoldfastError('interrupted', 'interrupted while asking for a passphrase'));
      reader.once('line', resolve);
      reader.on('SIGINT', interrupt);
      reader.on('close', interrupt);
      signal.addEventListener('abort', interrupt, { once: true });
      if (signal.aborted) interrupt();
    });
  } finally {
    reader.close();
    stderr.write('\n');
  }
}

function firstLine(text: string, where: string): string {
  const [line = ''] = text.split(/\r?\n/, 1);
  if (line !== '') return line;
  throw new HoldfastError('usage', `the first line of ${where} is empty, and should be the passphrase`);
}

async function readAll(stream: Readable, signal?: AbortSignal): Promise<Uint8Array> {
  if (signal) addAbortSignal(signal, stream);
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    chunks.push(Buffer.from(chunk));
    length += chunk.length;
    if (length > SECRET_FILE_MAX_BYTES) {
      throw new HoldfastError(
        'usage',
        `what was given is too long for a secret (more than ${SECRET_FILE_MAX_BYTES} bytes)`,
      );
    }
  }
  return Buffer.concat(chunks);
}

/** The bytes are wiped; what becomes of the text is up to the collector. */
const secretText = (bytes: Uint8Array, name: string): string => withSecret(bytes, () => toText(bytes, name));

function toText(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new HoldfastError('usage', `${name} is no UTF-8 text`);
  }
}
