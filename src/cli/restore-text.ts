/** What came back, for people: of `restore`, and of `recover`. */
import type { EmergencyResult } from '../operations/emergency.ts';
import type { RecoverResult } from '../operations/recover.ts';
import type { Changes } from '../operations/restoring/restore-over.ts';
import type { RestoreResult } from '../operations/restore.ts';
import { formatSize } from '../units.ts';
import { ageText, count, facts, lines, secretsLine, warningLines } from './render.ts';

export function restoredText(result: RestoreResult): string {
  const { snapshot, target, files, bytes, secrets, healed, warnings, seconds, lost, changes, dryRun } = result;
  const from = `snapshot ${snapshot.id.slice(0, 8)} of ${snapshot.time}`;
  const what = `${count(files, 'file')}, ${formatSize(bytes)}`;
  return (
    warningLines(warnings) +
    (dryRun && changes ? changeLines(changes) : '') +
    lines(
      dryRun
        ? `would restore ${from} to ${target}: ${what}; nothing was written`
        : `restored ${from} to ${target}: ${what}, in ${seconds} s`,
      ...(changes ? [sums(changes)] : []),
      ...secretsLine(secrets, dryRun),
      ageText(snapshot.ageSeconds),
      ...healedLines(healed),
      ...lostLines(lost),
    )
  );
}

export function emergencyText({
  handle,
  action,
  agent,
  identityFile,
  entry,
  backends,
  warnings,
}: EmergencyResult): string {
  const what = { rotate: 'a new key', revoke: 'its key revoked', relays: 'other relays' }[action];
  return (
    warningLines(warnings) +
    facts({
      agent: handle,
      begun: `${what}: entry ${entry.seq} of the identity log, on ${backends.join(', ')}`,
      'in force': entry.state === 'pending' ? `from ${entry.inForceFrom}, unless the agent objects` : 'now',
      'agent key': agent?.fingerprint,
      identity: identityFile ?? undefined,
    }) +
    lines(
      '',
      'This recovery key is used up. Keep the identity file (if there is one): it is the only copy outside the backends.',
      'To bring back the state, an age key that restores, or the words, are needed: holdfast recover --target DIR',
    )
  );
}

export function recoveredText({
  agent,
  identity,
  snapshot,
  target,
  files,
  bytes,
  secrets,
  configFile,
  identityFile,
  writerKeyFile,
  markerFile,
  healed,
  warnings,
  seconds,
  lost,
}: RecoverResult): string {
  return (
    warningLines(warnings) +
    facts({
      agent: `${agent.handle}, key ${agent.fingerprint}: ${identity.continuous ? 'the same identity as before' : 'NOT PROVED to be the same, see above'}`,
      state: `snapshot ${snapshot.id.slice(0, 8)} of ${snapshot.time}: ${count(files, 'file')}, ${formatSize(bytes)}, in ${target}`,
      config: configFile,
      identity: identityFile,
      'writer key': writerKeyFile,
      'for the agent': markerFile ?? undefined,
      time: `${seconds} s`,
    }) +
    lines(...secretsLine(secrets)) +
    lines(...healedLines(healed)) +
    lines(...lostLines(lost)) +
    lines('', 'Make sure that the old copy of the agent runs nowhere, look through the config, then: holdfast backup')
  );
}

const healedLines = (healed: RestoreResult['healed']): string[] =>
  healed.map(({ backend, key }) => `healed: ${key} on backend ${backend}`);

const lostLines = (lost: RestoreResult['lost']): string[] =>
  lost.length > 0 ? [`${count(lost.length, 'file')} could NOT be restored: see the warnings above.`] : [];

const SHOWN_MAX = 50;
const SIGNS = { create: '+', replace: '~', metadata: 'm', refuse: '!' } as const;

function changeLines(changes: Changes): string {
  const rows = Object.entries(SIGNS).flatMap(([kind, sign]) =>
    changes[kind as keyof typeof SIGNS].paths.map((path) => `${sign} ${path}`),
  );
  const more = rows.length - SHOWN_MAX;
  return lines(...rows.slice(0, SHOWN_MAX), ...(more > 0 ? [`… and ${more} more (see --json)`] : []));
}

function sums({ create, replace, metadata, keep, refuse }: Changes): string {
  const parts = [
    `${create.count} new`,
    `${replace.count} replaced`,
    `${metadata.count} with mode or time set`,
    `${keep.count} kept`,
  ];
  if (refuse.count > 0) parts.push(`${refuse.count} NOT restored`);
  return `entries: ${parts.join(', ')}`;
}
