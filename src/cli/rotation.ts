/** What `identity rotate` and `identity import` share. */
import type { RotateOptions, RotateResult } from '../operations/rotate.ts';
import { requireSections, type Config } from './config.ts';
import { localFolders, readWriterKey, restoreSecret } from './context.ts';
import { facts, lines, warningLines } from './render.ts';
import type { RestoreSecretFlagValues } from './secrets.ts';

export async function rotationOptions(
  config: Config,
  flags: RestoreSecretFlagValues,
  signal: AbortSignal,
): Promise<RotateOptions> {
  const { agent, backends } = requireSections(config, 'agent', 'backends');
  const writerKey = await readWriterKey(agent);
  return {
    backends,
    secret: await restoreSecret(flags, signal),
    files: { identity: agent.identity, writerKey: agent.writerKey },
    writerKey,
    folders: localFolders(process.env, writerKey.repositoryId),
  };
}

export function rotationText({
  handle,
  agent,
  previous,
  entry,
  wasInterrupted,
  lastSnapshot,
  files,
  backends,
  warnings,
}: RotateResult): string {
  const done = wasInterrupted
    ? 'The key had been replaced before; the files of this host are right now.'
    : 'The new key is in force. Whoever still has the old one cannot add snapshots that are believed.';
  const believed = lastSnapshot
    ? `up to snapshot ${lastSnapshot.id.slice(0, 8)} (number ${lastSnapshot.seq})`
    : 'no snapshot';
  return (
    warningLines(warnings) +
    facts({
      agent: handle,
      'agent key': `${agent.fingerprint} (${agent.origin})`,
      before: `${previous.fingerprint}, believed ${believed}`,
      entry: `${entry.seq} of the identity log, on ${backends.join(', ')}`,
      identity: files.identity,
      'old key': files.kept ?? undefined,
      'writer key': files.writerKey,
    }) +
    lines(
      '',
      done,
      ...(agent.origin === 'imported'
        ? ['Print a new recovery document, with the new key on it: holdfast paper create']
        : []),
      'Tell those who know the agent by its old key, and the relays.',
    )
  );
}
