/** The server of `browse`, for one test, and its clients. */
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { startBrowse, type Browse } from '../../src/cli/browse/server.ts';
import type { Look } from '../../src/operations/looking/open-look.ts';
import { FakeClock } from '../fake-clock.ts';

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
  text: string;
}

export interface Ask {
  host?: string;
  method?: string;
  headers?: Record<string, string>;
}

/** A request as no browser would send it: any Host, any path. */
export function ask(
  port: number,
  path: string,
  { host = `127.0.0.1:${port}`, method = 'GET', headers = {} }: Ask = {},
) {
  return new Promise<Answer>((resolve, reject) => {
    const sent = httpRequest(
      { host: '127.0.0.1', port, path, method, headers: { Host: host, ...headers }, agent: false },
      (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.once('error', reject);
        response.once('end', () => {
          const body = Buffer.concat(pieces);
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body, text: body.toString('utf8') });
        });
      },
    );
    sent.once('error', reject);
    sent.end();
  });
}

/** A page that runs until the end of the test, and a client that has the cookie. */
export async function withPageOf(look: Look, test: (page: Page) => Promise<void>): Promise<void> {
  const clock = new FakeClock();
  const stop = new AbortController();
  const random = { bytes: (length: number) => crypto.getRandomValues(new Uint8Array(length)) };
  const browse = await startBrowse(look, { port: 0, idleMs: 60_000, clock, random, signal: stop.signal });
  const enter = async (): Promise<Client> => {
    const token = browse.url.slice(browse.url.indexOf('/?'));
    const { headers, text } = await ask(browse.port, token);
    const cookie = headers['set-cookie']?.[0]?.split(';')[0] ?? '';
    const base = /url=([^"]+)"/.exec(text)?.[1] ?? '';
    const get = (path: string, how: Ask = {}) =>
      ask(browse.port, base + path, { ...how, headers: { Cookie: cookie, ...how.headers } });
    return { base, cookie, get };
  };
  try {
    await test({ browse, clock, enter, stop });
  } finally {
    stop.abort();
    await browse.ended;
  }
}

export interface Client {
  base: string;
  cookie: string;
  get(path: string, how?: Ask): Promise<Answer>;
}

export interface Page {
  browse: Browse;
  clock: FakeClock;
  enter(): Promise<Client>;
  stop: AbortController;
}
