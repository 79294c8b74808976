/** Asking by HTTP. Each look is a connection of its own: one that was kept open would not show that no new one is accepted. */
import { readFile } from 'node:fs/promises';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { urlToHttpOptions } from 'node:url';
import { HoldfastError, messageOf, systemErrorCode } from '../../errors.ts';
import { cachedLookup } from './lookup.ts';
import { absent, failed, found, oneLine, type Finding, type Probe } from './probe.ts';

export interface HttpSpec {
  url: string;
  /** Default: 200 to 299. */
  status?: readonly number[];
  /** What the body must contain. */
  contains?: string;
  /** Checks in a JSON body that must be there and pass. */
  checks?: readonly string[];
  /** Where each has its value from. Secrets. */
  headers?: Readonly<Record<string, { file: string } | { env: string }>>;
}

/** More of a body is not read. */
const BODY_MAX_BYTES = 64 * 1024;
const HEADER_MAX_BYTES = 16 * 1024;

export type Env = Readonly<Record<string, string | undefined>>;

export interface Answer {
  status: number;
  body: string;
  /** That the body was longer than what is read. */
  isCut: boolean;
}

const http = new HttpAgent({ keepAlive: false, maxSockets: Infinity });
const https = new HttpsAgent({ keepAlive: false, maxSockets: Infinity, maxCachedSessions: 1000 });

/** Addresses are taken apart once, not with each look. */
const targets = new WeakMap<HttpSpec, ReturnType<typeof urlToHttpOptions>>();

function targetOf(spec: HttpSpec): ReturnType<typeof urlToHttpOptions> {
  const known = targets.get(spec) ?? urlToHttpOptions(new URL(spec.url));
  targets.set(spec, known);
  return known;
}

/** Redirections are not followed: the answer is the one of the very address. @throws system errors; `interrupted` */
export async function ask(spec: HttpSpec, env: Env, signal: AbortSignal): Promise<Answer> {
  const { url, headers = {} } = spec;
  const sent: Record<string, string> = { accept: '*/*', 'user-agent': 'holdfast' };
  for (const [name, from] of Object.entries(headers)) {
    const value = 'file' in from ? await readFile(from.file, 'utf8') : env[from.env];
    if (value === undefined) throw new Error(`the variable ${'env' in from ? from.env : ''} is not set`);
    sent[name] = value.trim();
  }
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const isTls = url.startsWith('https:');
  const how = { headers: sent, agent: isTls ? https : http, lookup: cachedLookup, maxHeaderSize: HEADER_MAX_BYTES };
  const options = { ...targetOf(spec), ...how };
  const request = isTls ? httpsRequest(options) : httpRequest(options);
  const interrupt = () => {
    request.destroy();
    reject(new HoldfastError('interrupted', 'interrupted'));
  };
  request.once('response', (response) => read(response, resolve, reject));
  request.on('error', reject);
  signal.addEventListener('abort', interrupt, { once: true });
  if (signal.aborted) interrupt();
  else request.end();
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', interrupt);
    request.destroy(); // whatever more it would send
  }
}

function read(response: IncomingMessage, resolve: (answer: Answer) => void, reject: (error: Error) => void): void {
  const status = response.statusCode ?? 0;
  const parts: Buffer[] = [];
  let bytes = 0;
  const end = (isCut: boolean) => resolve({ status, body: Buffer.concat(parts).toString('utf8'), isCut });
  response.on('data', (part: Buffer) => {
    if (bytes + part.length > BODY_MAX_BYTES) {
      parts.push(part.subarray(0, BODY_MAX_BYTES - bytes));
      return end(true);
    }
    bytes += part.length;
    parts.push(part);
  });
  response.once('end', () => end(false));
  response.once('error', reject);
  response.once('aborted', () => reject(new Error('the answer broke off')));
}

/** Without what may be secret: user, password, query. */
export function shownUrl(url: string): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}

/** Nobody is there to answer. */
const NOBODY = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EHOSTDOWN',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ENOENT',
]);
const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EHOSTUNREACH: 'host unreachable',
  ENETUNREACH: 'network unreachable',
  ENOTFOUND: 'unknown host',
  EAI_AGAIN: 'the name of the host cannot be looked up',
  ETIMEDOUT: 'connection timed out',
};

/** What a connection that failed says. @param to shown */
export function unreached(error: unknown, to: string): Finding {
  // Several addresses of one name, tried one after the other: the first tells as much as any.
  const one: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const code = systemErrorCode(one) ?? '';
  const text = `${WORDS[code] ?? messageOf(one)}: ${to}`;
  return NOBODY.has(code) ? absent(text) : failed(text);
}

export function httpProbe(spec: HttpSpec, env: Env = {}): Probe {
  const where = shownUrl(spec.url);
  return async (signal) => {
    let answer: Answer;
    try {
      answer = await ask(spec, env, signal);
    } catch (error) {
      if (error instanceof HoldfastError) throw error;
      return unreached(error, where);
    }
    return judgeAnswer(answer, spec, where);
  };
}

export function statusProblem({ status }: Answer, spec: HttpSpec, where: string): string | undefined {
  const isGood = spec.status ? spec.status.includes(status) : status >= 200 && status <= 299;
  return isGood ? undefined : `HTTP ${status} from ${where}`;
}

/** A body that names what is wrong says more than the status. */
export function judgeAnswer(answer: Answer, spec: HttpSpec, where: string): Finding {
  const problem = statusProblem(answer, spec, where);
  const body = jsonObject(answer);
  const said = body && readinessProblem(body, spec.checks ?? []);
  if (problem !== undefined) return failed(said === undefined ? problem : `${problem}: ${said}`);
  if (said !== undefined) return failed(`${where}: ${said}`);
  const otherwise = body ? undefined : otherProblem(answer);
  if (otherwise !== undefined) return failed(`${where}: ${otherwise}`);
  if (spec.checks && !body) return failed(`${where} answered no JSON object with checks`);
  if (spec.contains !== undefined && !answer.body.includes(spec.contains))
    return failed(`the answer of ${where} does not contain ${JSON.stringify(spec.contains)}`);
  return found(`HTTP ${answer.status}`);
}

/** What is no JSON object may say no as well: one word, a list. What cannot be read whole may say so where it is not read. */
function otherProblem({ body, isCut }: Answer): string | undefined {
  const isJson = /^\s*(?:\{\s*["}]|\[)/.test(body);
  if (isCut)
    return isJson ? `it answered more than ${BODY_MAX_BYTES / 1024} KiB of JSON, which is not read` : undefined;
  let said: unknown = body.trim();
  try {
    said = JSON.parse(body);
  } catch {
    if (body.trimStart().startsWith('{"')) return 'it answered JSON that is not whole';
  }
  return verdict(said) === false ? `it says ${JSON.stringify(oneLine(body, 60))}` : undefined;
}

function jsonObject({ body, isCut }: Answer): Record<string, unknown> | undefined {
  if (isCut || !body.trimStart().startsWith('{')) return undefined;
  try {
    return JSON.parse(body) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** Words for a state in which nothing should be given to it (application/health+json, Spring Boot, Kubernetes and others). */
const BAD_WORDS = new Set([
  ...['fail', 'failed', 'failing', 'error', 'down', 'unhealthy', 'critical', 'dead', 'out_of_service'],
  ...['not_ready', 'not ready', 'notready', 'unavailable', 'starting', 'stopped', 'stuck', 'false'],
  ...['not_serving', 'offline', 'crashed', 'fatal', 'red', 'nok', 'ko', 'disconnected', 'shutting_down', 'terminating'],
]);
const GOOD_WORDS = new Set([
  'true',
  'ok',
  'pass',
  'passed',
  'up',
  'healthy',
  'ready',
  'warn',
  'degraded',
  'alive',
  'live',
]);
const VERDICTS = ['ok', 'healthy', 'ready', 'alive', 'live', 'passed', 'connected', 'reachable'] as const;

/**
 * Why the body says no: the names of required checks that fail, `{"checks": {"messaging": {"ok": false}}}`, or what it says of the whole.
 * A check with `"required": false` may fail, unless it is asked for by name.
 */
export function readinessProblem(body: Record<string, unknown>, asked: readonly string[]): string | undefined {
  const checks = new Map(checksOf(body['checks'] ?? body['components']));
  const bad = [...checks].filter(
    ([name, check]) => verdict(check) === false && (isRequired(check) || asked.includes(name)),
  );
  const unclear = asked.filter((name) => verdict(checks.get(name)) === undefined);
  const parts = [
    ...bad.map(([name, check]) => `${oneLine(name, 60)} fails${reason(check)}`),
    ...unclear.map((name) => `nothing is said of ${name}`),
  ];
  if (parts.length > 0) return parts.join('; ');
  if (verdict(body) !== false) return undefined;
  const { status } = body;
  return `it says ${typeof status === 'string' ? JSON.stringify(oneLine(status, 60)) : 'that it is not'}${reason(body)}`;
}

function checksOf(checks: unknown): [string, unknown][] {
  if (Array.isArray(checks)) {
    return checks.flatMap((one: unknown): [string, unknown][] =>
      typeof one === 'object' && one !== null && 'name' in one ? [[String(one.name), one]] : [],
    );
  }
  return typeof checks === 'object' && checks !== null ? Object.entries(checks) : [];
}

function isRequired(check: unknown): boolean {
  return !(typeof check === 'object' && check !== null && 'required' in check && check.required === false);
}

/** Undefined: it cannot be told. What says yes and no at once says no. */
function verdict(check: unknown): boolean | undefined {
  if (typeof check === 'boolean') return check;
  if (typeof check === 'string') {
    const word = check.toLowerCase();
    return BAD_WORDS.has(word) ? false : GOOD_WORDS.has(word) ? true : undefined;
  }
  // application/health+json has a list of measurements under each name.
  if (Array.isArray(check)) return together(check.map(verdict));
  if (typeof check !== 'object' || check === null) return undefined;
  const said: Record<string, unknown> = { ...check };
  return together([...VERDICTS, 'success', 'status', 'state'].map((key) => flag(said[key])));
}

/** A word, yes or no, or a status of HTTP that stands in the body. */
function flag(said: unknown): boolean | undefined {
  if (typeof said === 'number' && said >= 400 && said <= 599) return false;
  return typeof said === 'string' || typeof said === 'boolean' ? verdict(said) : undefined;
}

function together(verdicts: readonly (boolean | undefined)[]): boolean | undefined {
  if (verdicts.includes(false)) return false;
  return verdicts.includes(true) ? true : undefined;
}

function reason(check: unknown): string {
  if (typeof check !== 'object' || check === null) return '';
  const said: Record<string, unknown> = { ...check };
  const why = ['error', 'message', 'reason', 'output', 'detail']
    .map((key) => said[key])
    .find((one) => typeof one === 'string');
  return typeof why === 'string' && why !== '' ? ` (${oneLine(why, 100)})` : '';
}
