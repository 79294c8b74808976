/** Commands of the operator's, run with the restored HOME in the restored state: "start the agent, and ask it what it was doing". */
import { basename, dirname } from 'node:path';
import { HOOK_OUTPUT_MAX_BYTES } from '../../limits.ts';
import { runCommand, Tail } from '../../operations/hooks.ts';
import { secondsSince } from '../../operations/seams.ts';
import { throwIfAborted } from '../../errors.ts';
import { rawFromText } from '../../raw-path.ts';
import { readSmall } from '../past.ts';
import { endAll } from '../processes.ts';
import type { Check } from '../result.ts';
import { skip, type Outcome, type Scene } from '../scene.ts';
import { KEY_FILE_MAX_BYTES } from './keys.ts';

const SHOWN_CHARS = 500;
/** What is at least so long and stands in a secret file is taken for a secret. */
const SECRET = /[A-Za-z0-9_+/=.-]{8,}/g;
const WORD = /^[A-Za-z0-9_+/=.-]{8,}$/;
/** `NAME=value`, `name: "value",` */
const VALUE = /^[^=:]{1,200}[=:]\s*["']?(.*?)["']?[,;]?\s*$/;
const VALUE_MIN_CHARS = 6;
/** A part of a key file that is no word. */
const KEY_MIN_CHARS = 20;
/** Between SIGTERM and SIGKILL, for what a command has left running. */
const TERM_GRACE_MS = 10_000;

/** One check a command. */
export async function checkCommands(scene: Scene): Promise<Outcome[]> {
  const { options, seams } = scene;
  if (options.commands.length === 0) return [skip('commands', 'the config names none (`drill.checks`)')];
  const outcomes: Check[] = [];
  const secrets = await secretsIn(scene);
  for (const [i, command] of options.commands.entries()) {
    const started = seams.clock.monotonic();
    const { exitCode, problem, output } = await runIn(scene, command);
    throwIfAborted(seams.signal);
    const shown = redacted(output, secrets);
    const name = `command-${i + 1}`;
    const what = JSON.stringify(command.slice(0, 200));
    outcomes.push({
      name,
      ok: problem === undefined,
      detail: problem === undefined ? `${what} ended with exit code 0` : `${what} ${problem}${shown && `: ${shown}`}`,
      evidence: { command, exitCode, seconds: secondsSince(seams.clock, started), output: shown },
    });
  }
  return outcomes;
}

/** In the restored state, with the restored HOME and none of the real one. What it has started ends with it, also what has left its group. */
export async function runIn(
  { options, host, seams, world }: Pick<Scene, 'options' | 'host' | 'seams' | 'world'>,
  command: string,
): Promise<{ exitCode: number | null; problem?: string; output: string }> {
  const output = new Tail(HOOK_OUTPUT_MAX_BYTES);
  const how = { folder: host.state, env: { ...options.env, ...host.env } };
  const { clock, signal } = seams;
  const limits = { timeoutMs: options.commandTimeoutMs, signal, leavesNothing: true };
  const end = await runCommand(command, how, { clock, output, ...limits });
  await endAll(undefined, world.folder, TERM_GRACE_MS, seams.clock);
  const text = output.text();
  // The beginning may be the rest of a secret, by which nobody would know it.
  return { ...end, output: output.droppedBytes > 0 ? text.replace(/^\S*/, '') : text };
}

/** What stands in the secret files of the restored state, and in the key files of the recovered host. */
export async function secretsIn({
  past,
  snapshot,
  host,
}: Pick<Scene, 'past' | 'snapshot' | 'host'>): Promise<Set<string>> {
  const secrets = new Set<string>();
  for await (const entry of past.entries(snapshot)) {
    if (entry.type !== 'file' || !entry.isApart) continue;
    addSecrets(readSmall(host.state, entry.path, KEY_FILE_MAX_BYTES), secrets);
  }
  for (const file of [host.files.identity, host.files.writerKey]) {
    const text = readSmall(dirname(file), rawFromText(basename(file)), KEY_FILE_MAX_BYTES)?.toString('latin1') ?? '';
    // Besides keys, names stand there.
    for (const [found] of text.matchAll(SECRET)) if (found.length >= KEY_MIN_CHARS) secrets.add(found);
  }
  return secrets;
}

/** Each word, and what stands behind a name on its line: that may be several words, or short. */
function addSecrets(bytes: Buffer | undefined, secrets: Set<string>): void {
  const text = bytes?.toString('utf8') ?? '';
  for (const [found] of text.matchAll(SECRET)) secrets.add(found);
  for (const line of text.split('\n')) {
    const [, value = ''] = VALUE.exec(line) ?? [];
    if (value.length >= VALUE_MIN_CHARS) secrets.add(value);
  }
}

/** The end of it, on one line, without what stands in secret files. */
export function redacted(output: string, secrets: ReadonlySet<string>): string {
  // The longest first: another may be a part of it.
  const ofSeveralWords = [...secrets].filter((one) => !WORD.test(one)).toSorted((a, b) => b.length - a.length);
  const without = ofSeveralWords.reduce((text, secret) => text.replaceAll(secret, '[secret]'), output);
  const safe = without.replace(SECRET, (found) => {
    const isSecret = secrets.has(found) || [...secrets].some((secret) => found.includes(secret));
    return isSecret ? '[secret]' : found;
  });
  return safe.replace(/\s+/g, ' ').trim().slice(-SHOWN_CHARS);
}
