/**
 * What happened to the fleet, and what was decided and why: a log in the store, which every process may add to. Entries expire (`EVENT_DAYS`).
 */
export const EVENT_KINDS = [
  'agent_state', // an agent changed its state
  'layer_down',
  'layer_ok',
  'action', // a rule acted, or would have (dry run): evidence, command, what came of it
  'action_held', // a rule was due and did not act: cap, cool-down, quarantine
  'escalated',
  'breaker', // tripped, opened, reset by rule or hand on the page
  'level', // the degradation level changed
  'watch_started',
  'watch_stopped',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

export interface FleetEvent {
  /** ISO 8601 in JSON output; here milliseconds. */
  atMs: number;
  kind: EventKind;
  agent?: string;
  /** For a person. */
  message: string;
  /** What was seen and what it was held against. */
  evidence?: Readonly<Record<string, string | number | boolean | null>>;
  dryRun?: true;
}
