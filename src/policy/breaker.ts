/**
 * A circuit breaker (Nygard, "Release It!") as a pure state machine: what was asked too often in vain is left alone for a while, then asked
 * by one caller on trial.
 *
 *     closed --failures in a row--> open --its time over--> half-open --the trial succeeds--> closed
 *                                    ^                          |
 *                                    +------the trial fails-----+   (for twice as long)
 *
 * The state is plain data that outlives the process: times are wall clock, and whoever holds a state reads it, makes a transition and writes
 * what came out. Several processes may share one where reading and writing is compare-and-swap; where it is not, the worst is a trial too
 * many, or an outcome that is lost. The trial is a lease: of a holder that died another takes over when its time is up. A wall clock that was
 * set back keeps nothing open for longer than `openMaxMs`.
 *
 * Nothing here reads a clock or a disk, and no function changes a state it is given; one that changes nothing returns the very object.
 */

export interface BreakerSettings {
  /** Failures in a row that open it; 1 or more. */
  threshold: number;
  /** How long it stays open the first time; twice as long each further time in a row … */
  openMs: number;
  /** … up to this. */
  openMaxMs: number;
  /** How long the holder of the trial has, before another may try. */
  trialMs: number;
}

/** Times in milliseconds since the Unix epoch. */
export type BreakerState =
  /** Calls go through. `failures`: in a row, so far. */
  | { kind: 'closed'; failures: number }
  /** Calls are refused until `untilMs`. `opened`: how often in a row, from 1. `failures`: in a row. */
  | { kind: 'open'; failures: number; opened: number; untilMs: number; lastError: string }
  /** `holder` alone is trying, until `untilMs`. */
  | { kind: 'half-open'; failures: number; opened: number; untilMs: number; lastError: string; holder: string }
  /** Somebody took it out of use, until somebody else puts it back. */
  | { kind: 'forced-open'; reason: string }
  /** Calls go through, whatever comes of them. */
  | { kind: 'disabled' };

/** What came of a call that was admitted. `holder` is whom it was admitted for. */
export type BreakerEvent =
  /** An answer came, be it a refusal. */
  | { type: 'success'; holder: string }
  /** None did. */
  | { type: 'failure'; holder: string; error: string }
  /** Nothing was learned: the caller gave up. */
  | { type: 'abandoned'; holder: string };

export type Admission =
  /** On trial when `state` is half-open. */
  | { admitted: true; state: BreakerState }
  /** `state` says why and until when. */
  | { admitted: false; state: Exclude<BreakerState, { kind: 'closed' | 'disabled' }> };

/** Where the state of one breaker is kept. Neither method throws: a state that is lost costs a few calls, and no run may fail of it. */
export interface BreakerStore {
  /** Asked before every call. Undefined where there is none, or none that can be read. */
  read(): BreakerState | undefined;
  /** Only when the state changed. */
  write(state: BreakerState): void;
}

/** As all begin. */
export const CLOSED: BreakerState = { kind: 'closed', failures: 0 };
/** Of the text of an error: it is kept for people, not for machines. */
const ERROR_MAX_CHARACTERS = 300;

/** A store that lasts as long as the process. */
export function memoryStore(): BreakerStore {
  let held: BreakerState | undefined;
  return { read: () => held, write: (state) => void (held = state) };
}

/** May `holder` make a call now? `state` of the answer is the state from now on. */
export function admit(
  state: BreakerState,
  holder: string,
  nowMs: number,
  { openMaxMs, trialMs }: BreakerSettings,
): Admission {
  switch (state.kind) {
    case 'closed':
    case 'disabled':
      return { admitted: true, state };
    case 'forced-open':
      return { admitted: false, state };
    case 'open':
    case 'half-open': {
      const longestMs = state.kind === 'open' ? openMaxMs : trialMs;
      if (nowMs < state.untilMs && state.untilMs - nowMs <= longestMs) return { admitted: false, state };
      const { failures, opened, lastError } = state;
      const trial = { kind: 'half-open', failures, opened, untilMs: nowMs + trialMs, lastError, holder } as const;
      return { admitted: true, state: trial };
    }
  }
}

/** The state after an event. */
export function after(
  state: BreakerState,
  event: BreakerEvent,
  nowMs: number,
  settings: BreakerSettings,
): BreakerState {
  switch (state.kind) {
    case 'forced-open':
    case 'disabled':
      return state;
    case 'closed':
      if (event.type === 'abandoned') return state;
      if (event.type === 'success') return state.failures === 0 ? state : CLOSED;
      return failed(state.failures, 0, event.error, nowMs, settings);
    case 'open':
      // Of calls that were under way when it opened: a failure is old news; an answer is not.
      return event.type === 'success' ? CLOSED : state;
    case 'half-open': {
      if (event.type === 'success') return CLOSED;
      if (event.holder !== state.holder) return state;
      const { failures, opened, lastError } = state;
      if (event.type === 'failure') return failed(failures, opened, event.error, nowMs, settings);
      return { kind: 'open', failures, opened, untilMs: nowMs, lastError };
    }
  }
}

function failed(
  before: number,
  openedBefore: number,
  error: string,
  nowMs: number,
  { threshold, openMs, openMaxMs }: BreakerSettings,
): BreakerState {
  const failures = before + 1;
  if (openedBefore === 0 && failures < threshold) return { kind: 'closed', failures };
  const untilMs = nowMs + Math.min(openMaxMs, openMs * 2 ** openedBefore);
  return { kind: 'open', failures, opened: openedBefore + 1, untilMs, lastError: error.slice(0, ERROR_MAX_CHARACTERS) };
}

const VERSION = 1;

/** A state as one line of JSON. */
export function encodeBreaker(state: BreakerState): string {
  return JSON.stringify({ version: VERSION, ...state });
}

/** What `encodeBreaker` wrote; undefined for anything else, also for a state of another version. Never throws. */
export function decodeBreaker(text: string): BreakerState | undefined {
  const read = parsed(text);
  const { version, kind, failures, opened, untilMs, lastError, holder, reason } = read ?? {};
  if (version !== VERSION) return undefined;
  if (kind === 'disabled') return { kind };
  if (kind === 'forced-open') return typeof reason === 'string' ? { kind, reason } : undefined;
  if (!isCount(failures)) return undefined;
  if (kind === 'closed') return { kind, failures };
  if (!isCount(opened) || opened === 0 || typeof lastError !== 'string') return undefined;
  if (typeof untilMs !== 'number' || !Number.isFinite(untilMs)) return undefined;
  if (kind === 'open') return { kind, failures, opened, untilMs, lastError };
  if (kind !== 'half-open' || typeof holder !== 'string') return undefined;
  return { kind, failures, opened, untilMs, lastError, holder };
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
