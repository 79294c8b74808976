/**
 * What stands between a client and a server and does harm to what passes, as planned: `tcpProxy` to connections, `httpProxy` to requests. It counts
 * what it did, so that a test can assert that each fault happened.
 */
import {
  Agent,
  createServer as createHttpServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { connect, createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { pipeline, Transform, type TransformCallback } from 'node:stream';

/** From the client to the server, or back. */
export type Direction = 'up' | 'down';

/**
 * - `refuse`: the connection is reset at its beginning;
 * - `hang`: nothing passes any more, and nobody is told;
 * - `cut`: after `bytes` bytes in one direction the connection is reset;
 * - `corrupt`: one bit of the byte at `bytes` is turned;
 * - `slow`: so many bytes a second pass, one at a time;
 * - `answer` (HTTP): the server is not asked; the client is told this status and, of a failure, S3's error code;
 * - `lose-answer` (HTTP): the server is asked, and the connection is reset when it answers.
 *
 * Bytes are counted from 0 in the body of a message (HTTP), or in what passes on one connection since the fault was planned (TCP). What is shorter is
 * not hit, and the fault waits for the next.
 */
export type Fault = Selection &
  (
    | { effect: 'refuse' | 'hang' | 'lose-answer' }
    | { effect: 'cut' | 'corrupt'; direction: Direction; bytes: number }
    | { effect: 'slow'; direction: Direction; bytesPerSecond: number }
    | { effect: 'answer'; status: number; code: string }
  );

interface Selection {
  /** Which requests (HTTP), by `METHOD /path?query`. Default: any. */
  on?: RegExp;
  /** The first of those so chosen that is hit (HTTP), from 1, counted from when the fault is planned. Default: 1. */
  nth?: number;
  /** Of those from there on, one of how many (HTTP). Default: 1. */
  every?: number;
  /** How many are hit; Infinity for all that follow. Default: 1. */
  times?: number;
}

interface Planned {
  fault: Fault;
  seen: number;
  hits: number;
  /** Requests under way that it may hit yet. */
  aimed: number;
}

/** A fault that is about to happen; `hit` tells that it did. */
interface Aim {
  fault: Fault;
  hit(): void;
}

export class FaultProxy implements AsyncDisposable {
  readonly host = '127.0.0.1';
  port = 0;
  /** Connections that clients made so far. */
  accepted = 0;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;
  readonly #plan: Planned[];

  constructor(server: Server, sockets: Set<Socket>, plan: Planned[]) {
    this.#server = server;
    this.#sockets = sockets;
    this.#plan = plan;
    server.on('connection', () => this.accepted++);
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => void this.#server.listen(0, this.host, resolve));
    this.port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  /** Adds a fault. Where several apply to one request or connection, the one planned first hits it; each counts all it applies to. */
  plan(...faults: Fault[]): this {
    for (const fault of faults) this.#plan.push({ fault, seen: 0, hits: 0, aimed: 0 });
    return this;
  }

  /** Drops what was planned, and the count. */
  clear(): void {
    this.#plan.length = 0;
  }

  /** How many times any fault happened. */
  get fired(): number {
    return this.#plan.reduce((sum, { hits }) => sum + hits, 0);
  }

  /** Throws when a planned fault did not happen as many times as planned (at least once, where that is Infinity). */
  assertAllFired(): void {
    const missed = this.#plan.filter(({ fault: { times = 1 }, hits }) => hits < (times === Infinity ? 1 : times));
    if (missed.length === 0) return;
    const told = missed.map(
      ({ fault, hits }) => `${JSON.stringify(fault)} (${String(fault.on)}) happened ${hits} times`,
    );
    throw new Error(`planned faults that did not happen: ${told.join('; ')}`);
  }

  /** Resets every connection there is now. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => void this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

/** The fault that is due for a request, counted as seen by all. `release` is for when the request is over. */
function choose(plan: readonly Planned[], request: string): (Aim & { release(): void }) | undefined {
  let due: Planned | undefined;
  for (const planned of plan) {
    const { on, nth = 1, every = 1, times = 1 } = planned.fault;
    if (on && !on.test(request)) continue;
    planned.seen++;
    const isTurn = planned.seen >= nth && (planned.seen - nth) % every === 0;
    if (isTurn && planned.hits + planned.aimed < times) due ??= planned;
  }
  if (!due) return undefined;
  const planned = due;
  let isAimed = true;
  const release = () => {
    if (isAimed) planned.aimed--;
    isAimed = false;
  };
  planned.aimed++;
  return { fault: planned.fault, release, hit: () => (release(), planned.hits++) };
}

/** A proxy for connections of any protocol to a server on loopback. */
export function tcpProxy(target: number): Promise<FaultProxy> {
  const plan: Planned[] = [];
  const sockets = new Set<Socket>();
  const server = createTcpServer({ noDelay: true }, (client) => {
    keep(sockets, client);
    const refusal = live(plan, ({ effect }) => effect === 'refuse');
    if (refusal) {
      refusal.hit();
      client.resetAndDestroy();
      return;
    }
    const upstream = keep(sockets, connect({ host: '127.0.0.1', port: target, noDelay: true }));
    const reset = () => {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    };
    for (const [direction, from, to] of [
      ['up', client, upstream],
      ['down', upstream, client],
    ] as const) {
      from.once('close', () => to.destroy());
      from.pipe(new Harm(() => live(plan, harms(direction)), reset)).pipe(to);
    }
  });
  return new FaultProxy(server, sockets, plan).start();
}

/** The first fault of a kind that has not happened often enough. */
function live(plan: readonly Planned[], isOne: (fault: Fault) => boolean): Aim | undefined {
  const planned = plan.find(({ fault, hits }) => hits < (fault.times ?? 1) && isOne(fault));
  return planned && { fault: planned.fault, hit: () => planned.hits++ };
}

/** True for what harms the bytes of a direction. */
function harms(direction: Direction): (fault: Fault) => boolean {
  return (fault) => fault.effect === 'hang' || ('direction' in fault && fault.direction === direction);
}

/** A proxy for HTTP/1.1 to a server on loopback. Requests pass as they are, the host header too, so that signatures hold. */
export function httpProxy(target: number): Promise<FaultProxy> {
  const plan: Planned[] = [];
  const sockets = new Set<Socket>();
  const agent = new Agent({ keepAlive: true });
  const server = createHttpServer({ noDelay: true }, (request, response) => {
    const aim = choose(plan, `${request.method} ${request.url}`);
    if (aim) response.once('close', aim.release);
    forward(request, response, aim, { target, agent });
  });
  server.on('connection', (socket) => keep(sockets, socket));
  server.once('close', () => agent.destroy());
  return new FaultProxy(server, sockets, plan).start();
}

function forward(
  request: IncomingMessage,
  response: ServerResponse,
  aim: Aim | undefined,
  { target, agent }: { target: number; agent: Agent },
): void {
  const fault = aim?.fault;
  if (fault?.effect === 'refuse' || fault?.effect === 'hang' || fault?.effect === 'answer') {
    aim?.hit();
    if (fault.effect === 'refuse') request.socket.resetAndDestroy();
    if (fault.effect === 'answer') {
      request.resume().once('end', () => {
        response.writeHead(fault.status, { 'content-type': 'application/xml' });
        const told = `<Error><Code>${fault.code}</Code><Message>as planned</Message></Error>`;
        response.end(request.method === 'HEAD' || fault.status < 300 ? undefined : told);
      });
    }
    return;
  }
  const headers = request.rawHeaders;
  const upstream = httpRequest({ host: '127.0.0.1', port: target, method: request.method, path: request.url, agent });
  for (let i = 0; i < headers.length; i += 2) upstream.setHeader(headers[i] ?? '', headers[i + 1] ?? '');
  const reset = () => {
    upstream.destroy();
    request.socket.resetAndDestroy();
  };
  const harm = (direction: Direction) => new Harm(() => (fault && harms(direction)(fault) ? aim : undefined), reset);
  upstream.once('error', () => request.socket.destroy());
  response.once('close', () => upstream.destroy());
  upstream.once('response', (answer) => {
    if (fault?.effect === 'lose-answer') {
      aim?.hit();
      return reset();
    }
    response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
    response.flushHeaders();
    pipeline(answer, harm('down'), response, () => undefined);
  });
  pipeline(request, harm('up'), upstream, () => undefined);
}

function keep(sockets: Set<Socket>, socket: Socket): Socket {
  sockets.add(socket);
  socket.on('error', () => undefined).once('close', () => sockets.delete(socket));
  return socket;
}

/** Passes bytes on, and does one fault at a time to them. */
class Harm extends Transform {
  readonly #aim: () => Aim | undefined;
  readonly #reset: () => void;
  #fault: Fault | undefined;
  /** Bytes that passed under this fault. */
  #passed = 0;
  #isDone = false;
  /** Of a connection or message that has become slow, which it stays. */
  #everyMs: number | undefined;

  constructor(aim: () => Aim | undefined, reset: () => void) {
    super();
    this.#aim = aim;
    this.#reset = reset;
  }

  override _transform(chunk: Buffer, _: BufferEncoding, done: TransformCallback): void {
    if (this.#everyMs !== undefined) return this.#trickle(chunk, this.#everyMs, done);
    const aim = this.#aim();
    if (aim?.fault !== this.#fault) {
      this.#fault = aim?.fault;
      this.#passed = 0;
      this.#isDone = false;
    }
    const at = this.#passed;
    this.#passed += chunk.length;
    if (!aim) return done(null, chunk);
    const { fault } = aim;
    if (fault.effect === 'hang') return aim.hit(); // `done` is never called
    if (fault.effect === 'slow') {
      aim.hit();
      this.#everyMs = 1000 / fault.bytesPerSecond;
      return this.#trickle(chunk, this.#everyMs, done);
    }
    const place = 'bytes' in fault ? fault.bytes - at : -1;
    if (!('bytes' in fault) || this.#isDone || place < 0 || place >= chunk.length) return done(null, chunk);
    aim.hit();
    this.#isDone = true;
    if (fault.effect === 'corrupt') {
      const changed = Buffer.from(chunk);
      changed[place] = (changed[place] ?? 0) ^ 1;
      return done(null, changed);
    }
    this.push(chunk.subarray(0, place));
    setImmediate(this.#reset); // what was pushed is on its way first
  }

  #trickle(chunk: Buffer, everyMs: number, done: TransformCallback): void {
    let at = 0;
    const next = () => {
      if (this.destroyed) return;
      if (at === chunk.length) return done();
      this.push(chunk.subarray(at, ++at));
      setTimeout(next, everyMs);
    };
    next();
  }
}
