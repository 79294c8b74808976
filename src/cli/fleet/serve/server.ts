/**
 * The server of `fleet serve`: metrics for Prometheus, the health of the watching itself, the status as JSON and as a page, and the two things that
 * may be done there: trip a breaker, reset one. docs/monitoring.md has what keeps others out.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Clock, Random } from '../../../clock.ts';
import { HoldfastError, isHoldfastError, messageOf, type ErrorCode } from '../../../errors.ts';
import type { AgentView } from '../../../fleet/health.ts';
import { METRICS_CONTENT_TYPE, renderFleetMetrics, type MetricsInput } from '../../../fleet/metrics.ts';
import { escapeForDisplay, escapeJson } from '../../../raw-path.ts';
import { listen, plain, send, setHeaders } from '../../web.ts';
import type { ServeSettings } from '../serve-config.ts';
import { SCRIPT, STYLE } from './assets.ts';
import { TokenGate } from './gate.ts';
import { progressOf, readinessOf, type HealthAnswer } from './health.ts';
import { layout, type Page, type Place } from './layout.ts';
import { Looks, type FleetLook } from './looks.ts';
import { agentPage, errorPage, fleetPage, loginPage } from './pages.ts';

/** What the server goes by. Everything may throw what the store throws. */
export interface ServeSources {
  look: (signal: AbortSignal) => Promise<FleetLook>;
  /** What `fleet status --json` prints. */
  statusJson: (look: FleetLook) => unknown;
  trip: (agent: string, reason: string) => Promise<void>;
  reset: (agent: string) => Promise<void>;
  /** Reads something from the store. */
  watcher: () => Promise<{ seenMs: number } | null>;
  own: () => MetricsInput['own'];
  /** One line. */
  log: (line: string) => void;
}

export interface ServeOptions extends ServeSettings {
  token: string;
  /** Told to whoever is to log in; absent where strangers can ask. */
  tokenFileShown?: string;
  /** Where the fleet is looked at from. */
  hostName: string;
  clock: Clock;
  random: Random;
  limits?: Partial<Limits>;
}

interface Limits {
  bodyBytes: number;
  headerBytes: number;
  /** How long a request may take to arrive. */
  requestMs: number;
  connections: number;
}

const LIMITS: Limits = { bodyBytes: 4096, headerBytes: 16 * 1024, requestMs: 10_000, connections: 100 };
/** How long a page may take; a scrape says itself how long it has. */
const PAGE_MS = 8000;
const HEALTH_MS = 2000;
/** For the answer to be on its way before whoever asked gives up. */
const SCRAPE_MARGIN_MS = 500;
/** How long answers that are under way at the end have. */
const CLOSING_MS = 2000;
const NEXT_BODY_MS = 5000;

/** The page's script looks again by itself. */
const OWN_LOOKS = "img-src data:; connect-src 'self'";

const STATUS_OF: Partial<Record<ErrorCode, number>> = {
  not_found: 404,
  usage: 400,
  busy: 503,
  io: 503,
  damaged: 503,
  breaker_open: 503,
};

export interface FleetServer {
  /** Without the token. */
  url: string;
  port: number;
  /** Ends it: what is under way may end first, for two seconds. */
  close(): Promise<void>;
}

/** @throws `io` when the address cannot be listened on */
export async function startFleetServer(sources: ServeSources, options: ServeOptions): Promise<FleetServer> {
  const { clock } = options;
  const limits = { ...LIMITS, ...options.limits };
  const site = new Site(sources, options, limits);
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.requestMs,
      requestTimeout: limits.requestMs,
      connectionsCheckingInterval: Math.min(1000, limits.requestMs),
      keepAliveTimeout: NEXT_BODY_MS,
    },
    (request, response) => void site.answer(request, response),
  );
  server.maxConnections = limits.connections;
  // Also for whoever does not read what is sent.
  server.setTimeout(3 * limits.requestMs, (socket) => socket.destroy());
  const hint = 'Give another with --listen ADDRESS:PORT; port 0 is any that is free.';
  const port = await listen(server, options.listen, hint);
  const { host } = options.listen;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}/`,
    port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      site.looks.stop();
      const done = new AbortController();
      await Promise.race([closed, clock.sleep(CLOSING_MS, done.signal).catch(() => {})]);
      done.abort();
      server.closeAllConnections();
      await closed;
    },
  };
}

class Site {
  readonly looks: Looks;
  readonly #sources: ServeSources;
  readonly #options: ServeOptions;
  readonly #limits: Limits;
  readonly #gate: TokenGate;
  readonly #startedMs: number;

  constructor(sources: ServeSources, options: ServeOptions, limits: Limits) {
    this.looks = new Looks(sources.look, options.clock);
    this.#sources = sources;
    this.#options = options;
    this.#limits = limits;
    this.#gate = new TokenGate(options);
    this.#startedMs = options.clock.monotonic();
  }

  /** Never rejects. */
  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const who = request.socket.remoteAddress ?? 'gone';
    const target = request.url ?? '';
    const asked =
      target.startsWith('/') && URL.canParse(`http://any${target}`) ? new URL(`http://any${target}`).pathname : '/';
    const isBelow = asked.startsWith(this.#gate.base);
    const path = isBelow ? asked.slice(this.#gate.base.length - 1) : asked;
    const visitor = this.#gate.visitor(request);
    const root = visitor?.kind === 'session' ? this.#gate.base : '/';
    const place: Place = { root, host: this.#options.hostName, visitor };
    try {
      setHeaders(response, OWN_LOOKS);
      await this.#route(request, response, path, place);
    } catch (error) {
      if (response.headersSent || response.destroyed) response.destroy();
      else this.#tell(error, response, path, place);
    }
    // Reading is not worth a line, nor is an answer that somebody asks for every few seconds; a change, a refusal and a failure are.
    const isRefused = response.statusCode >= 400 && response.statusCode !== 404 && !path.startsWith('/health/');
    if (request.method === 'POST' || isRefused)
      this.#sources.log(escapeForDisplay(`${request.method} ${path.slice(0, 120)} ${response.statusCode} ${who}`));
  }

  async #route(request: IncomingMessage, response: ServerResponse, path: string, place: Place): Promise<void> {
    const isReading = request.method === 'GET' || request.method === 'HEAD';
    if (!this.#gate.isHostKnown(request))
      return plain(
        response,
        421,
        'This server answers to addresses, to localhost, and to the names in fleet.serve.hosts.',
      );
    if (request.method === 'POST') return this.#post(request, response, path, place);
    request.resume();
    if (!isReading) {
      response.setHeader('Allow', 'GET, HEAD, POST');
      return plain(response, 405, 'Not that way.');
    }
    switch (path) {
      case '/health/live':
      case '/health/ready':
      case '/health/progress':
        return this.#health(path.slice('/health/'.length), response);
      case '/style.css':
        return send(response, 200, 'text/css; charset=utf-8', STYLE);
      case '/script.js':
        return send(response, 200, 'text/javascript; charset=utf-8', SCRIPT);
      case '/metrics':
        if (!this.#options.openMetrics && !place.visitor) return unauthorized(response);
        return this.#metrics(request, response);
      default:
    }
    if (!place.visitor) {
      if (path.startsWith('/api/')) return unauthorized(response);
      const isWrong = request.headers.authorization !== undefined;
      return isWrong ? unauthorized(response) : this.#page(response, 401, this.#loginPage(undefined), place);
    }
    if (!this.#gate.isOwnOrigin(request)) throw forbidden();
    const agent = agentIn(path, '');
    if (path === '/api/status') {
      const look = await this.looks.within(PAGE_MS);
      return json(response, 200, this.#sources.statusJson(look));
    }
    if (path === '/') return this.#page(response, 200, fleetPage(await this.looks.within(PAGE_MS), place), place);
    if (agent !== undefined) {
      const look = await this.looks.within(PAGE_MS);
      return this.#page(response, 200, agentPage(agentOf(look, agent), look, place), place);
    }
    throw new HoldfastError('not_found', 'there is no such page', { hint: 'Go back to all agents.' });
  }

  async #post(request: IncomingMessage, response: ServerResponse, path: string, place: Place): Promise<void> {
    const { visitor } = place;
    response.setHeader('Connection', 'close'); // a body that was refused is not read
    if (!this.#gate.isOwnOrigin(request)) return plain(response, 403, 'Another site asked for this.');
    if (path !== '/login' && !visitor) return unauthorized(response);
    const form = await readForm(request, this.#limits.bodyBytes);
    if (typeof form === 'number') return plain(response, form, form === 413 ? 'That is too much.' : 'Send a form.');
    if (path === '/login') {
      const cookie = this.#gate.login(form.get('token') ?? '');
      if (cookie === undefined) return this.#page(response, 401, this.#loginPage('That is not the token.'), place);
      return seeOther(response, this.#gate.base, cookie);
    }
    if (!visitor || !this.#gate.isOwnForm(visitor, form.get('form')))
      return plain(response, 403, 'This form was made for another session. Go back and load the page again.');
    if (path === '/logout') return seeOther(response, '/', this.#gate.logout(request));
    const [tripped, reset] = [agentIn(path, '/trip'), agentIn(path, '/reset')];
    const name = tripped ?? reset;
    if (name === undefined) return plain(response, 405, 'Nothing can be done there.');
    const { name: agent } = agentOf(await this.looks.within(PAGE_MS), name);
    if (tripped === undefined) {
      if (form.get('sure') !== 'yes')
        throw new HoldfastError('usage', 'that was not confirmed', { hint: 'Tick the box.' });
      await this.#sources.reset(agent);
    } else {
      const reason = (form.get('reason') ?? '').replace(/\s+/g, ' ').trim();
      if (reason === '') throw new HoldfastError('usage', 'no reason was given', { hint: 'Callers are told why.' });
      await this.#sources.trip(agent, reason);
    }
    this.looks.forget();
    seeOther(response, `${place.root}agents/${encodeURIComponent(agent)}`);
  }

  /** Of this service: it says nothing of the agents, and nothing that only some may know. */
  async #health(what: string, response: ServerResponse): Promise<void> {
    const { clock, watcherWithinMs } = this.#options;
    let answer: HealthAnswer;
    if (what === 'live') {
      const seconds = Math.round((clock.monotonic() - this.#startedMs) / 1000);
      answer = { ok: true, evidence: `it answers, and has done so for ${seconds} s` };
    } else {
      const watcher = () => this.#sources.watcher();
      const given = { clock, ms: HEALTH_MS, watcher, nowMs: clock.now(), withinMs: watcherWithinMs };
      answer = await (what === 'ready' ? readinessOf(given) : progressOf(given));
    }
    const { ok, evidence } = answer;
    json(response, ok ? 200 : 503, {
      status: ok ? 'ok' : 'fail',
      check: what,
      evidence,
      time: new Date(clock.now()).toISOString(),
    });
  }

  async #metrics(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const seconds = Number(request.headers['x-prometheus-scrape-timeout-seconds']);
    const givenMs = seconds > 0 && seconds <= 60 ? seconds * 1000 : PAGE_MS;
    const { view, runs, counted } = await this.looks.within(Math.max(givenMs / 2, givenMs - SCRAPE_MARGIN_MS));
    const text = await renderFleetMetrics({ view, runs, events: counted, own: this.#sources.own() });
    send(response, 200, METRICS_CONTENT_TYPE, text);
  }

  #loginPage(problem: string | undefined): Page {
    return loginPage(this.#options.tokenFileShown, problem);
  }

  #page(response: ServerResponse, status: number, page: Page, place: Place): void {
    send(response, status, 'text/html; charset=utf-8', layout(page, place));
  }

  #tell(error: unknown, response: ServerResponse, path: string, place: Place): void {
    const known = isHoldfastError(error) ? error : undefined;
    const status = known instanceof Forbidden ? 403 : ((known && STATUS_OF[known.code]) ?? 500);
    // What is no error of ours is told to the log alone, where whoever can repair it looks.
    if (!known || known.code === 'bug') this.#sources.log(escapeForDisplay(`error: ${messageOf(error).slice(0, 500)}`));
    const isTold = known !== undefined && known.code !== 'bug' && place.visitor !== undefined;
    const message = isTold ? known.message : status === 503 ? 'the fleet cannot be looked at' : 'an internal error';
    const hint = isTold ? known.hint : undefined;
    if (path === '/metrics') return plain(response, status, message);
    if (path.startsWith('/api/') || path.startsWith('/health/'))
      return json(response, status, { error: { code: known?.code ?? 'bug', message, hint: hint ?? null } });
    this.#page(response, status, errorPage(message, hint, place), place);
  }
}

class Forbidden extends HoldfastError {}
const forbidden = (): HoldfastError => new Forbidden('usage', 'another site asked for this');

/** The agent of `/agents/NAME` with what follows. */
function agentIn(path: string, then: string): string | undefined {
  const [, name, rest] = /^\/agents\/([A-Za-z0-9._-]{1,64})(\/\w+)?$/.exec(path) ?? [];
  return (rest ?? '') === then ? name : undefined;
}

function agentOf({ view }: FleetLook, name: string): AgentView {
  const agent = view.agents.find((one) => one.name === name);
  if (agent) return agent;
  throw new HoldfastError('not_found', `the config has no agent ${name}`, { hint: 'Go back to all agents.' });
}

/** A form, or the status that refuses it. Rejects when whoever sends it goes away. */
function readForm(request: IncomingMessage, maxBytes: number): Promise<URLSearchParams | number> {
  const type = (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/x-www-form-urlencoded') return Promise.resolve(415);
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) return Promise.resolve(413);
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let length = 0;
    request.on('data', (piece: Buffer) => {
      length += piece.length;
      if (length <= maxBytes) pieces.push(piece);
      else resolve(413); // the rest is not kept, and the connection ends with the answer
    });
    request.once('end', () => resolve(new URLSearchParams(Buffer.concat(pieces).toString('utf8'))));
    request.once('close', () => reject(new HoldfastError('interrupted', 'whoever asked is gone')));
    request.once('error', reject);
  });
}

function unauthorized(response: ServerResponse): void {
  response.setHeader('WWW-Authenticate', 'Bearer realm="holdfast fleet"');
  plain(response, 401, 'Give the token of `holdfast fleet serve`: Authorization: Bearer TOKEN');
}

function seeOther(response: ServerResponse, location: string, cookie?: string): void {
  if (cookie !== undefined) response.setHeader('Set-Cookie', cookie);
  response.writeHead(303, { Location: location, 'Content-Length': 0 }).end();
}

function json(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, 'application/json; charset=utf-8', `${escapeJson(JSON.stringify(value))}\n`);
}
