/**
 * A circuit breaker (Nygard, "Release It!") as a pure state machine: what was asked too often in vain is left alone for a while, then asked
 * by one caller on trial.
 *
 *     closed --failures in a row--> open --its time over--> half-open --the trial succeeds--> closed
 *                                    ^                          |
 *                                    +------the trial fails-----+   (for longer)
 *
 * What counts as too often: failures in a row, and, for what is called often, a share of the last calls. An answer that took too long is a failure.
 * The whole table of states and events, those of people included, stands in docs/breakers.md.
 *
 * The state is plain data that outlives the process: times are wall clock, and whoever holds a state reads it, makes a transition and writes
 * what came out. Several processes may share one where reading and writing is compare-and-swap; where it is not, the worst is a trial too
 * many, or an outcome that is lost. The trial is a lease: of a holder that died another takes over when its time is up. A wall clock that was
 * set back keeps nothing open for longer than `openMaxMs`.
 *
 * Nothing here reads a clock or a disk, and no function changes a state it is given; one that changes nothing returns the very object.
 */
import { objectIn } from '../json.ts';

export interface BreakerSettings {
  /** Failures in a row that open it; 1 or more, Infinity where only `window` counts. */
  threshold: number;
  /** How long it stays open the first time; `growth` times as long each further time in a row … */
  openMs: number;
  /** … up to this. */
  openMaxMs: number;
  /** 1 or more; default 2. */
  growth?: number | undefined;
  /** A failure also opens it when at least `ratio` (0 to 1) of the last `calls` calls failed, once there were so many; at most `WINDOW_MAX_CALLS`. */
  window?: { calls: number; ratio: number } | undefined;
  /** An answer that took longer counts as a failure. */
  slowMs?: number | undefined;
  /** Only the holder of the trial closes it. Otherwise the answer to a call from before it opened does so too: with one caller, that is news. */
  trialOnly?: boolean | undefined;
  /** How long the holder of the trial has, before another may try. */
  trialMs: number;
}

/** What one reporter has said since the breaker was last closed for good. */
export interface Evidence {
  reporter: string;
  failures: number;
  lastError: string;
  atMs: number;
}

/** The latest of each reporter, newest last, at most `EVIDENCE_MAX`; absent where nobody gave a name. */
interface Reported {
  evidence?: readonly Evidence[];
}

/** Times in milliseconds since the Unix epoch. */
export type BreakerState =
  /** Calls go through. `failures`: in a row, so far. `window`: the last calls, oldest first, 1 for a failure; where `BreakerSettings.window` is set. */
  | ({ kind: 'closed'; failures: number; window?: string } & Reported)
  /** Calls are refused until `untilMs`. `opened`: how often in a row, from 1. `failures`: in a row. */
  | ({ kind: 'open'; failures: number; opened: number; untilMs: number; lastError: string } & Reported)
  /** `holder` alone is trying, until `untilMs`. */
  | ({
      kind: 'half-open';
      failures: number;
      opened: number;
      untilMs: number;
      lastError: string;
      holder: string;
    } & Reported)
  /** Somebody took it out of use, until somebody else puts it back. */
  | { kind: 'forced-open'; reason: string }
  /** Calls go through, whatever comes of them. */
  | { kind: 'disabled' };

/** What came of a call that was admitted. `holder` is whom it was admitted for, `reporter` under whose name it is remembered. */
export type BreakerEvent =
  /** An answer came, be it a refusal. */
  | { type: 'success'; holder: string; tookMs?: number; reporter?: string }
  /** None did. */
  | { type: 'failure'; holder: string; error: string; reporter?: string }
  /** Nothing was learned: the caller gave up. */
  | { type: 'abandoned'; holder: string }
  /** The holder of the trial is still at it: its time begins anew. */
  | { type: 'renewed'; holder: string };

/** What somebody, or a watchdog, says. */
export type BreakerCommand =
  /** Out of use, until `reset`. */
  | { type: 'trip'; reason: string }
  /** Open as by failures: it is tried when its time is over. */
  | { type: 'open'; error: string; reporter?: string }
  /** As at the beginning; what is disabled stays so. */
  | { type: 'reset' }
  | { type: 'disable' }
  /** What was disabled begins anew. */
  | { type: 'enable' };

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
export const WINDOW_MAX_CALLS = 1000;
export const EVIDENCE_MAX = 8;

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
      return { admitted: true, state: { ...trial, ...evidenceOf(state) } };
    }
  }
}

/** The state after an event. */
export function after(state: BreakerState, said: BreakerEvent, nowMs: number, settings: BreakerSettings): BreakerState {
  const event = slowIsFailure(said, settings);
  switch (state.kind) {
    case 'forced-open':
    case 'disabled':
      return state;
    case 'closed':
      if (event.type === 'success') return succeeded(state, settings);
      return event.type === 'failure' ? failed(state, 0, event, nowMs, settings) : state;
    case 'open':
      // Of calls that were under way when it opened: a failure is old news; an answer is not, where callers are few.
      return event.type === 'success' && !settings.trialOnly ? CLOSED : state;
    case 'half-open': {
      if (event.type === 'success' && !settings.trialOnly) return CLOSED;
      if (event.holder !== state.holder) return state;
      const { holder: _given, ...rest } = state;
      switch (event.type) {
        case 'success':
          return CLOSED;
        case 'failure':
          return failed(state, state.opened, event, nowMs, settings);
        case 'abandoned':
          return { ...rest, kind: 'open', untilMs: nowMs };
        case 'renewed':
          return { ...state, untilMs: nowMs + settings.trialMs };
      }
    }
  }
}

/** The state after a command. */
export function commanded(
  state: BreakerState,
  command: BreakerCommand,
  nowMs: number,
  settings: BreakerSettings,
): BreakerState {
  switch (command.type) {
    case 'trip': {
      const reason = command.reason.slice(0, ERROR_MAX_CHARACTERS);
      return state.kind === 'forced-open' && state.reason === reason ? state : { kind: 'forced-open', reason };
    }
    case 'open': {
      if (state.kind !== 'closed') return state; // open already, or taken out of use by somebody who knows why
      return failed(state, 0, { ...command, type: 'failure', holder: '' }, nowMs, { ...settings, threshold: 1 });
    }
    case 'reset':
      return state.kind === 'disabled' || isAsAtFirst(state) ? state : CLOSED;
    case 'disable':
      return state.kind === 'disabled' ? state : { kind: 'disabled' };
    case 'enable':
      return state.kind === 'disabled' ? CLOSED : state;
  }
}

function slowIsFailure(event: BreakerEvent, { slowMs }: BreakerSettings): BreakerEvent {
  if (event.type !== 'success' || slowMs === undefined || (event.tookMs ?? 0) <= slowMs) return event;
  const { tookMs = 0, ...rest } = event;
  return { ...rest, type: 'failure', error: `the answer took ${tookMs / 1000} s, more than ${slowMs / 1000} s` };
}

type Closed = Extract<BreakerState, { kind: 'closed' }>;
type Failure = Extract<BreakerEvent, { type: 'failure' }>;

function isAsAtFirst(state: BreakerState): boolean {
  return state.kind === 'closed' && state.failures === 0 && !state.window && !state.evidence;
}

function succeeded(state: Closed, settings: BreakerSettings): BreakerState {
  const window = windowAfter(state.window, '0', settings);
  if (window === undefined) return isAsAtFirst(state) ? state : CLOSED;
  if (window === state.window && state.failures === 0) return state;
  return { kind: 'closed', failures: 0, window, ...(window.includes('1') && evidenceOf(state)) };
}

function failed(
  before: Closed | Extract<BreakerState, { kind: 'half-open' }>,
  openedBefore: number,
  { error, reporter }: Failure,
  nowMs: number,
  settings: BreakerSettings,
): BreakerState {
  const { threshold, openMs, openMaxMs, growth = 2 } = settings;
  const failures = before.failures + 1;
  const lastError = error.slice(0, ERROR_MAX_CHARACTERS);
  const window = before.kind === 'closed' ? windowAfter(before.window, '1', settings) : undefined;
  const evidence =
    reporter === undefined ? evidenceOf(before) : { evidence: withReport(before, reporter, lastError, nowMs) };
  if (openedBefore === 0 && failures < threshold && !reachesRatio(window, settings))
    return { kind: 'closed', failures, ...(window !== undefined && { window }), ...evidence };
  const untilMs = nowMs + Math.min(openMaxMs, openMs * growth ** openedBefore);
  return { kind: 'open', failures, opened: openedBefore + 1, untilMs, lastError, ...evidence };
}

function windowAfter(window: string | undefined, call: '0' | '1', { window: of }: BreakerSettings): string | undefined {
  return of && `${window ?? ''}${call}`.slice(-Math.min(of.calls, WINDOW_MAX_CALLS));
}

function reachesRatio(window: string | undefined, { window: of }: BreakerSettings): boolean {
  if (of === undefined || window === undefined || window.length < Math.min(of.calls, WINDOW_MAX_CALLS)) return false;
  return window.replaceAll('0', '').length >= of.ratio * window.length;
}

function evidenceOf({ evidence }: Reported): Reported {
  return evidence === undefined ? {} : { evidence };
}

function withReport({ evidence = [] }: Reported, reporter: string, lastError: string, atMs: number): Evidence[] {
  const failures = (evidence.find((one) => one.reporter === reporter)?.failures ?? 0) + 1;
  const others = evidence.filter((one) => one.reporter !== reporter);
  return [...others, { reporter, failures, lastError, atMs }].slice(-EVIDENCE_MAX);
}

const VERSION = 1;

/** A state as one line of JSON. */
export function encodeBreaker(state: BreakerState): string {
  return JSON.stringify({ version: VERSION, ...state });
}

/** What `encodeBreaker` wrote; undefined for anything else, also for a state of another version. Never throws. */
export function decodeBreaker(text: string): BreakerState | undefined {
  const read = objectIn(text);
  const { version, kind, failures, opened, untilMs, lastError, holder, reason, window } = read ?? {};
  if (version !== VERSION) return undefined;
  if (kind === 'disabled') return { kind };
  if (kind === 'forced-open') return typeof reason === 'string' ? { kind, reason } : undefined;
  const reported = decodeEvidence(read?.['evidence']);
  if (!isCount(failures) || reported === undefined) return undefined;
  if (kind === 'closed') {
    if (window === undefined) return { kind, failures, ...reported };
    return typeof window === 'string' && WINDOW.test(window) ? { kind, failures, window, ...reported } : undefined;
  }
  if (!isCount(opened) || opened === 0 || typeof lastError !== 'string') return undefined;
  if (!isTime(untilMs)) return undefined;
  if (kind === 'open') return { kind, failures, opened, untilMs, lastError, ...reported };
  if (kind !== 'half-open' || typeof holder !== 'string') return undefined;
  return { kind, failures, opened, untilMs, lastError, holder, ...reported };
}

const WINDOW = new RegExp(`^[01]{1,${WINDOW_MAX_CALLS}}$`);

function decodeEvidence(value: unknown): Reported | undefined {
  if (value === undefined) return {};
  if (!Array.isArray(value) || value.length > EVIDENCE_MAX) return undefined;
  const evidence = value.map((one: unknown): Evidence | undefined => {
    const { reporter, failures, lastError, atMs } = (one ?? {}) as Record<string, unknown>;
    const isOne = typeof reporter === 'string' && isCount(failures) && typeof lastError === 'string' && isTime(atMs);
    return isOne ? { reporter, failures, lastError, atMs } : undefined;
  });
  return evidence.every((one) => one !== undefined) ? { evidence } : undefined;
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
