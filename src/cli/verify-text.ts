/** What `verify` says for people. */
import type { VerifyResult } from '../operations/verify.ts';
import { isLost } from '../repository/repository.ts';
import { formatSize } from '../units.ts';
import { CAN_FORGET, damageLines, lossLines } from './damage-text.ts';
import { count, lines, warningLines } from './render.ts';

/** @param how whether the restore secret was given, and whether it was asked to repair */
export function verifiedText(result: VerifyResult, how: { withSecret: boolean; repairs: boolean }): string {
  const { damaged, loss, knownLoss, restored, warnings } = result;
  const left = damaged.filter(({ repaired }) => !repaired);
  const canHeal = left.some((one) => !isLost(one)) && !how.repairs;
  const canForget = left.some(isLost);
  return (
    warningLines(warnings) +
    lines(
      ...damageLines(damaged),
      ...lossLines(loss, how),
      ...knownLoss.map(
        ({ snapshot, whole, files, since }) =>
          `known loss: snapshot ${snapshot.slice(0, 8)} ${whole ? 'cannot be restored' : `lacks ${count(files, 'file')}`}; given up on ${since}`,
      ),
      ...restored.map(
        ({ backend, snapshot, files, bytes, seconds }) =>
          `restored snapshot ${snapshot.slice(0, 8)} from ${backend}: ${count(files, 'file')}, ${formatSize(bytes)}, compared and removed, in ${seconds} s`,
      ),
      ...endLines(result),
      ...(canHeal ? ['What another backend has whole is stored again by `holdfast verify --repair`.'] : []),
      ...(canForget ? [CAN_FORGET] : []),
    )
  );
}

/** What was verified, and what was not. */
function endLines({ level, objects, bytes, damaged, seconds, coverage, confidence }: VerifyResult): string[] {
  const found = damaged.length === 0 ? 'no damage found' : `${count(damaged.length, 'problem')} found`;
  const read = `${formatSize(bytes)} read, in ${seconds} s`;
  const known = coverage && coverage.read < coverage.total ? coverage : undefined;
  if (!coverage || !known) return [`verified (${level}): ${count(objects, 'object')}, ${read}: ${found}`];
  const { verified, total, oldest, left } = known;
  const age = oldest === null ? `${count(total - verified, 'pack')} never` : `the one longest ago on ${oldest}`;
  return [
    `${left > 0 ? `stopped: the budget is used up, ${count(left, 'pack')} NOT reached` : 'done'} (${level}): ${count(objects, 'object')} listed, ${count(known.read, 'pack')} read, ${read}: ${found}`,
    `packs found whole at this level so far: ${verified.toLocaleString('en')} of ${total.toLocaleString('en')}, ${age}`,
    ...(confidence ? [confidence.text] : []),
  ];
}
