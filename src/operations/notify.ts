/**
 * Telling others how a run went: a ping in the manner of healthchecks.io, and a webhook. Their addresses are secrets (who knows one can
 * speak for the agent): of them only the host is ever told.
 */
import type { Warning } from '../entry.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { withDeadline } from '../policy/deadline.ts';
import { retry } from '../policy/retry.ts';
import type { Seams } from './seams.ts';

export interface NotifySettings {
  /** Of one kind of run alone: the success of another must not say that all is well. */
  ping?: string | undefined;
  /** How a failure is told: at `URL/fail`, or at `URL/<exit code>`. */
  pingFailure: 'fail' | 'exit-code';
  webhook?: string | undefined;
}

/** What the webhook is sent, as JSON. */
export interface RunMessage {
  agent: string;
  event: string;
  outcome: 'done' | 'incomplete' | 'failed';
  exitCode: number;
  snapshot: string | null;
  error: { code: string; message: string } | null;
  warnings: { code: string; message: string }[];
  seconds: number;
  /** ISO 8601, of the end. */
  time: string;
}

/** Of what is no run: an exit code only where there was one. */
export type EventMessage = Omit<RunMessage, 'exitCode'> & { exitCode?: number };

const REQUEST_MS = 10_000;
const RETRY = { tries: 3, baseMs: 1000, capMs: 5000, budgetMs: 15_000 };
const BODY_MAX_WARNINGS = 100;

/** For one run. Nothing here rejects: what cannot be sent becomes a warning. It goes on when the run is interrupted, which is to be told too. */
export class Notifier {
  readonly #settings: NotifySettings;
  readonly #seams: Pick<Seams, 'clock' | 'random'>;
  #started: Promise<Warning[]> = Promise.resolve([]);

  constructor(settings: NotifySettings, seams: Pick<Seams, 'clock' | 'random'>) {
    this.#settings = settings;
    this.#seams = seams;
  }

  /** Sends the start ping while the run goes on. */
  start(): void {
    const { ping } = this.#settings;
    if (ping !== undefined) this.#started = this.#send('ping', pingUrl(ping, 'start'), { method: 'GET' });
  }

  /** @param silent that no ping is sent for the end: it is another run's to tell. */
  async end(message: RunMessage, { silent }: { silent: boolean }): Promise<Warning[]> {
    const warnings = await this.#started; // a start that arrives after the end would say that a run goes on
    const { ping } = this.#settings;
    const sent = await Promise.all([
      ping === undefined || silent ? [] : this.#pingEnd(ping, message),
      this.tell(message),
    ]);
    const all = [...warnings, ...sent.flat()];
    return all.filter(({ message: text }, i) => all.findIndex((other) => other.message === text) === i);
  }

  /** To the webhook alone: pings are for runs. */
  async tell(message: EventMessage): Promise<Warning[]> {
    const { webhook } = this.#settings;
    return webhook === undefined ? [] : this.#send('webhook', webhook, jsonPost(message));
  }

  #pingEnd(ping: string, { event, exitCode, outcome, error }: RunMessage): Promise<Warning[]> {
    if (exitCode === 0) return this.#send('ping', ping, { method: 'GET' });
    const place = this.#settings.pingFailure === 'fail' ? 'fail' : String(exitCode);
    const reason = error === null ? '' : ` (${error.code})`;
    const body = `holdfast ${event}: ${outcome}, exit code ${exitCode}${reason}\n`;
    return this.#send('ping', pingUrl(ping, place), { method: 'POST', body });
  }

  async #send(what: 'ping' | 'webhook', url: string, request: RequestInit): Promise<Warning[]> {
    const { clock, random } = this.#seams;
    const { host } = new URL(url);
    const failed = (why: string, retryable: boolean) =>
      new HoldfastError('io', `the ${what} to ${host} failed: ${why}`, { retryable });
    const once = async (signal: AbortSignal): Promise<void> => {
      let response: Response;
      try {
        // A message that is posted and then redirected would arrive as a question without its body.
        const redirect = request.method === 'POST' ? 'manual' : 'follow';
        response = await fetch(url, { ...request, redirect, signal });
      } catch (error) {
        throw failed(networkProblem(error), true);
      }
      await response.body?.cancel();
      if (response.ok) return;
      throw failed(`HTTP ${response.status}`, response.status >= 500 || response.status === 429);
    };
    const within = () =>
      withDeadline(once, {
        clock,
        ms: REQUEST_MS,
        graceMs: 0,
        expired: () => failed(`no answer in ${REQUEST_MS / 1000} s`, true),
      });
    try {
      await retry(within, { settings: RETRY, clock, random });
      return [];
    } catch (error) {
      // Anything else could name the address.
      const message = isHoldfastError(error) ? error.message : `the ${what} to ${host} failed`;
      return [{ code: `${what}_failed`, message }];
    }
  }
}

/** Behind the path, before a query. */
function pingUrl(url: string, place: string): string {
  const whole = new URL(url);
  whole.pathname = `${whole.pathname.replace(/\/+$/, '')}/${place}`;
  return whole.href;
}

function jsonPost(message: EventMessage): RequestInit {
  const warnings = message.warnings.slice(0, BODY_MAX_WARNINGS);
  return {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...message, warnings }),
  };
}

/** The code of the system or of undici: their messages may hold the address. */
function networkProblem(error: unknown): string {
  const cause: unknown = error instanceof Error ? error.cause : undefined;
  const code: unknown = typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined;
  return typeof code === 'string' ? code : 'the connection broke';
}
