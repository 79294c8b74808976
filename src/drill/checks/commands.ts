/** Commands of the operator's, run with the restored HOME in the restored state: "start the agent, and ask it what it was doing". */
import { HOOK_OUTPUT_MAX_BYTES } from '../../limits.ts';
import { runCommand, Tail } from '../../operations/hooks.ts';
import { secondsSince } from '../../operations/seams.ts';
import { throwIfAborted } from '../../errors.ts';
import { readSmall } from '../past.ts';
import type { Check } from '../result.ts';
import { skip, type Outcome, type Scene } from '../scene.ts';
import { KEY_FILE_MAX_BYTES } from './keys.ts';

const SHOWN_CHARS = 500;
/** What is at least so long and stands in a secret file is taken for a secret. */
const SECRET = /[A-Za-z0-9_+/=.-]{8,}/g;

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

/** In the restored state, with the restored HOME and none of the real one. What it has started ends with it. */
export async function runIn(
  { options, host, seams }: Pick<Scene, 'options' | 'host' | 'seams'>,
  command: string,
): Promise<{ exitCode: number | null; problem?: string; output: string }> {
  const output = new Tail(HOOK_OUTPUT_MAX_BYTES);
  const how = { folder: host.state, env: { ...options.env, ...host.env } };
  const end = await runCommand(command, how, options.commandTimeoutMs, seams.clock, output, seams.signal, true);
  return { ...end, output: output.text() };
}

/** What stands in the secret files of the restored state. */
export async function secretsIn({
  past,
  snapshot,
  host,
}: Pick<Scene, 'past' | 'snapshot' | 'host'>): Promise<Set<string>> {
  const secrets = new Set<string>();
  for await (const entry of past.entries(snapshot)) {
    if (entry.type !== 'file' || !entry.isApart) continue;
    const text = readSmall(host.state, entry.path, KEY_FILE_MAX_BYTES)?.toString('latin1') ?? '';
    for (const [found] of text.matchAll(SECRET)) secrets.add(found);
  }
  return secrets;
}

/** The end of it, on one line, without what stands in secret files. */
export function redacted(output: string, secrets: ReadonlySet<string>): string {
  const safe = output.replace(SECRET, (found) => {
    const isSecret = secrets.has(found) || [...secrets].some((secret) => found.includes(secret));
    return isSecret ? '[secret]' : found;
  });
  return safe.replace(/\s+/g, ' ').trim().slice(-SHOWN_CHARS);
}
