/** Is the history whole, and is its end the newest that this host knows of? */
import { whatLogLacks } from '../../operations/host/continuity.ts';
import { checkOf, nameOf, skip, type Outcome, type Scene } from '../scene.ts';

/** Every link from the newest to the oldest that is kept; what was forgotten on purpose is no gap. */
export function checkChain({ past }: Scene): Outcome {
  const { snapshots, newest } = past;
  const oldest = snapshots[0];
  if (!newest || !oldest) return skip('chain', 'there is no snapshot');
  const problems = [
    ...snapshots.flatMap((one) => (one.problem === undefined ? [] : [`${nameOf(one)}: ${one.problem}`])),
    ...past.warnings.filter(({ code }) => code !== 'index_lost').map(({ message }) => message),
  ];
  const what = `${snapshots.length} snapshots, each signed and following the one before, from ${nameOf(oldest)} to ${nameOf(newest)}`;
  return checkOf('chain', problems, what, {
    snapshots: snapshots.length,
    newest: newest.id,
    newestNumber: newest.record.seq,
    oldest: oldest.id,
    oldestNumber: oldest.record.seq,
    identityLogEntries: past.repository.log.length,
  });
}

/** An old snapshot must not pass for the newest: what this host remembers is the measure. */
export function checkNewest({ past, options: { record }, remembered: last }: Scene): Outcome {
  if (!record.folders || !last) return skip('newest', 'this host remembers no snapshot to compare with');
  const { newest } = past;
  const problems: string[] = [];
  const known = `this host made snapshot ${last.id.slice(0, 8)} (number ${last.seq})`;
  if (!newest || newest.record.seq < last.seq)
    problems.push(`${known}, and the newest that is presented is ${newest ? nameOf(newest) : 'none'}`);
  else if (past.snapshots.some(({ id, record: { seq } }) => seq === last.seq && id !== last.id))
    problems.push(`${known}, and another one has its number`);
  const lacks = whatLogLacks(past.repository.log, record.folders);
  if (lacks !== undefined) problems.push(lacks);
  return checkOf('newest', problems, `${newest ? nameOf(newest) : ''} is at least the one that this host made last`, {
    presented: newest?.id ?? null,
    presentedNumber: newest?.record.seq ?? null,
    remembered: last.id,
    rememberedNumber: last.seq,
  });
}
