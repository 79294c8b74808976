/** Every way a run can fail, told in one form: `Error: …` and `Hint: …` on stderr, or with --json one document on stdout. */
import * as Errors from '@oclif/core/errors';
import { stripVTControlCharacters, styleText } from 'node:util';
import { HoldfastError, messageOf, systemErrorCode, type ErrorCode } from '../errors.ts';
import { escapeForDisplay } from '../raw-path.ts';
import { EXIT_CODE_OF } from './exit-codes.ts';
import { toJson, writeStdout } from './output.ts';
import { nearest } from './suggest.ts';

/**
 * Reports what was thrown and sets the exit code. Never shows a stack trace. A document that cannot be written becomes text
 * on stderr. Never rejects.
 */
export async function reportFailure(thrown: unknown, { json }: { json: boolean }): Promise<void> {
  const failure = toFailure(thrown);
  process.exitCode = EXIT_CODE_OF[failure.code];
  const { code, message, hint = HINT_OF[failure.code], retryAtMs } = failure;
  if (json) {
    const retryAt = retryAtMs === undefined ? {} : { retryAt: new Date(retryAtMs).toISOString() };
    const written = writeStdout(toJson({ error: { code, message, hint: hint ?? null, ...retryAt } }));
    if (
      await written.then(
        () => true,
        () => false,
      )
    )
      return;
  }
  const line = (label: string, colour: 'red' | 'yellow', text: string): string =>
    `${styleText(colour, label, { stream: process.stderr })} ${escapeForDisplay(messageOf(text))}\n`;
  process.stderr.write(line('Error:', 'red', message) + (hint === undefined ? '' : line('Hint:', 'yellow', hint)));
}

/** For errors that come from deep below, where nobody knows what the user can do. */
const HINT_OF: Partial<Record<ErrorCode, string>> = {
  damaged:
    '`holdfast verify --level objects` tells what is damaged where; another backend or an older snapshot may have it whole.',
  forged: 'Find out who could write there, and restore nothing from it before you know.',
  unsupported_format: 'Use the version of holdfast that wrote it, or a newer one.',
  io: 'Check the disk and its permissions, and repeat.',
};

/** What was thrown as the domain error that it is; what no code expected is a `bug`. */
export function toFailure(thrown: unknown): HoldfastError {
  if (thrown instanceof HoldfastError) return thrown;
  if (thrown instanceof Errors.CLIError) return fromParser(thrown);
  if (thrown instanceof Error && thrown.name === 'AbortError') {
    return new HoldfastError('interrupted', 'interrupted', { cause: thrown });
  }
  if (thrown instanceof Error && 'syscall' in thrown && systemErrorCode(thrown) !== undefined) {
    return new HoldfastError('io', messageOf(thrown), {
      hint: 'The system refused this; see the code in capitals.',
      cause: thrown,
    });
  }
  return new HoldfastError('bug', `internal error: ${messageOf(thrown)}`, {
    hint: 'This is a defect of holdfast; please report it with the command that you ran.',
    cause: thrown,
  });
}

/** What oclif's parser says, in our words where it knows more than a sentence. */
function fromParser(error: Errors.CLIError): HoldfastError {
  const { flags, args, parse } = error as ParserError;
  let message = stripVTControlCharacters(error.message)
    .replace('See more help with --help', '')
    .replace(/The following errors? occurred:\s*/, '')
    .trim();
  message = message.charAt(0).toLowerCase() + message.slice(1);
  let hint: string | undefined;
  if (flags !== undefined) {
    // Without what was given with them, which may be a secret in the wrong place.
    const names = flags.map((flag) => /^[-\w]*/.exec(flag)?.[0] ?? '');
    message = `unknown ${flags.length === 1 ? 'flag' : 'flags'} ${names.join(', ')}`;
    const known = Object.keys(parse?.input?.flags ?? {}).map((name) => `--${name}`);
    const meant = nearest(names[0] ?? '', known);
    if (meant !== undefined) hint = `Did you mean ${meant}?`;
  } else if (args !== undefined) {
    const missing = args.flatMap((arg) => (typeof arg === 'string' ? [] : [arg.name.toUpperCase()]));
    const many = args.length === 1 ? 'argument' : 'arguments';
    // What was given too much is not repeated: it may be recovery words, typed in the wrong place.
    message = missing.length > 0 ? `missing ${many}: ${missing.join(', ')}` : `${args.length} unexpected ${many}`;
  }
  const command = parse?.input?.context?.id?.replaceAll(':', ' ');
  hint ??= `See \`holdfast ${command === undefined ? '' : `${command} `}--help\`.`;
  return new HoldfastError('usage', message, { hint });
}

/** The fields that oclif's parse errors carry, by kind. */
interface ParserError {
  flags?: string[];
  args?: (string | { name: string })[];
  parse?: { input?: { flags?: Record<string, unknown>; context?: { id?: string } } };
}
