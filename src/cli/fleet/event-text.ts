/** Events of the fleet as they are printed. */
import type { FleetEvent } from '../../fleet/events.ts';

/** As JSON: times as in all of our JSON. */
export interface EventRow extends Omit<FleetEvent, 'atMs' | 'evidence'> {
  time: string;
  evidence: NonNullable<FleetEvent['evidence']>;
}

export function eventRow({ atMs, evidence, ...event }: FleetEvent): EventRow {
  return { time: new Date(atMs).toISOString(), ...event, evidence: evidence ?? {} };
}

/** One line. */
export function eventLine({ time, kind, agent, message, dryRun }: EventRow): string {
  const who = agent === undefined ? '' : ` ${agent}:`;
  return `${time} ${kind}${dryRun ? ' (dry run)' : ''}${who} ${message.replace(CONTROL, ' ')}`;
}

/** What others wrote must not write to the terminal. */
const CONTROL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
