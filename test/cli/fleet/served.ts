/** A server of `fleet serve` that runs for one test, before made-up looks, and its clients. */
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import { expect } from 'vitest';
import type { FleetLook } from '../../../src/cli/fleet/serve/looks.ts';
import { startFleetServer, type ServeOptions, type ServeSources } from '../../../src/cli/fleet/serve/server.ts';
import { systemClock, type Clock } from '../../../src/clock.ts';
import { NOW_MS, troubledLook } from './views.ts';

export const TOKEN = 'token-of-the-test-0123456789abcdefghij';

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}
export interface Ask {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

export interface Started {
  port: number;
  url: string;
  ask(path: string, how?: Ask): Promise<Answer>;
  /** With the token. */
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  /** Logs in as a browser does. */
  login(): Promise<Browser>;
  done: string[];
  logged: string[];
  sources: ServeSources;
}
export interface Browser {
  base: string;
  cookie: string;
  form: string;
  get(path: string): Promise<Answer>;
  post(path: string, fields: Record<string, string>, headers?: Record<string, string>): Promise<Answer>;
}

/** A clock of the moment of the made-up looks that goes on like any other. */
export const clock: Clock = { ...systemClock, now: () => NOW_MS };

export async function withServer(
  test: (server: Started) => Promise<void>,
  {
    look = troubledLook(),
    sources = {},
    options = {},
  }: { look?: FleetLook; sources?: Partial<ServeSources>; options?: Partial<ServeOptions> } = {},
): Promise<void> {
  const [done, logged]: [string[], string[]] = [[], []];
  const all: ServeSources = {
    look: () => Promise.resolve(look),
    statusJson: ({ view }) => ({ level: view.level?.level, agents: view.agents.map(({ name }) => name) }),
    trip: (agent, reason) => Promise.resolve(void done.push(`trip ${agent}: ${reason}`)),
    reset: (agent) => Promise.resolve(void done.push(`reset ${agent}`)),
    watcher: () => Promise.resolve({ seenMs: NOW_MS - 5000 }),
    own: () => ({ version: '0', startedMs: 0, cpuSeconds: 0, residentBytes: 1 }),
    log: (line) => void logged.push(line),
    ...sources,
  };
  const random = { bytes: (length: number) => crypto.getRandomValues(new Uint8Array(length)) };
  const server = await startFleetServer(all, {
    ...{
      listen: { host: '127.0.0.1', port: 0 },
      hosts: ['fleet.example.org'],
      openMetrics: false,
      watcherWithinMs: 60_000,
    },
    ...{ token: TOKEN, tokenFileShown: '/home/ada/token', hostName: 'fleet-1', clock, random },
    ...options,
  });
  const { port, url } = server;
  const ask = (path: string, { method = 'GET', headers = {}, body }: Ask = {}) =>
    new Promise<Answer>((resolve, reject) => {
      const sent = httpRequest({ host: '127.0.0.1', port, path, method, headers, agent: false }, (response) => {
        textOf(response).then(
          (text) => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
          reject,
        );
      });
      sent.once('error', reject);
      sent.end(body);
    });
  const get = (path: string, headers: Record<string, string> = {}) =>
    ask(path, { headers: { Authorization: `Bearer ${TOKEN}`, ...headers } });
  const post = (path: string, fields: Record<string, string>, headers: Record<string, string> = {}) =>
    ask(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded', Origin: `http://127.0.0.1:${port}`, ...headers },
      body: new URLSearchParams(fields).toString(),
    });
  const login = async (): Promise<Browser> => {
    const { status, headers } = await post('/login', { token: TOKEN });
    expect(status).toBe(303);
    const [cookie = ''] = headers['set-cookie']?.[0]?.split(';') ?? [];
    const base = headers.location ?? '';
    const page = await ask(base, { headers: { Cookie: cookie } });
    const form = /name="form" value="([^"]+)"/.exec(page.text)?.[1] ?? '';
    return {
      ...{ base, cookie, form },
      get: (path) => ask(base + path, { headers: { Cookie: cookie } }),
      post: (path, fields, more) => post(base + path, { form, ...fields }, { Cookie: cookie, ...more }),
    };
  };
  try {
    await test({ ...{ port, url, ask, get, login, done, logged }, sources: all });
  } finally {
    await server.close();
  }
}
