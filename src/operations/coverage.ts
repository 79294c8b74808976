/** How much of the packs has been verified, and what a part of them says about the rest. */
import type { PackTally } from '../repository/repository.ts';

/** Packs, each copy on a backend counting. */
export interface Coverage {
  /** Found whole at this level or a deeper one, in this run or as far as is remembered of earlier ones. */
  verified: number;
  total: number;
  /** When the one was verified that was verified longest ago (RFC 3339); null while there is one that never was. */
  oldest: string | null;
  /** Those not longer ago than --max-age; without it, those found whole in this run. */
  withinMaxAge: number;
  /** Read in this run. */
  read: number;
  /** Not reached before the budget was used up. */
  left: number;
  /** Snapshots whose every chunk was accounted for in this run (level `chunks`), of all. */
  snapshots: { accounted: number; total: number };
}

/** That a run which read a part of the packs would have met damage, had there been some. */
export interface Confidence {
  /** The share of damaged packs that is assumed, and how probable it is that one of them was among those read; both 0 to 1. */
  damagedShare: number;
  probability: number;
  text: string;
}

export const DAMAGED_SHARE = 0.01;

/** Undefined when all were read, or none. */
export function confidenceOf({ read, total }: Pick<PackTally, 'read' | 'total'>): Confidence | undefined {
  if (read === 0 || read >= total) return undefined;
  const damaged = Math.ceil(total * DAMAGED_SHARE);
  // Hypergeometric: that none of the damaged ones is among those read, drawn without putting back.
  let missed = 1;
  for (let i = 0; i < damaged; i++) missed *= Math.max(0, total - read - i) / (total - i);
  const probability = 1 - missed;
  // Rounded down: no more is promised than holds.
  const percent = Math.floor(probability * 100);
  const number = (n: number) => n.toLocaleString('en');
  const text = `${number(read)} of ${number(total)} packs were read; if ${DAMAGED_SHARE * 100} % of packs were damaged, this run would have met one with ${percent} % probability`;
  return { damagedShare: DAMAGED_SHARE, probability: Math.floor(probability * 1000) / 1000, text };
}
