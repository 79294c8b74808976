/** Pings and a webhook, against a server on this host. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { Notifier, type NotifySettings, type RunMessage } from '../../src/operations/notify.ts';
import { seededRandom } from '../crypto/support.ts';
import { FakeClock } from '../fake-clock.ts';

const MESSAGE: RunMessage = {
  agent: 'ada',
  event: 'backup',
  outcome: 'done',
  exitCode: 0,
  snapshot: 'f00d',
  error: null,
  warnings: [],
  seconds: 1.5,
  time: '2026-01-01T00:00:00.000Z',
};
const INCOMPLETE: RunMessage = { ...MESSAGE, outcome: 'incomplete', exitCode: 3 };
const FAILED: RunMessage = {
  ...MESSAGE,
  outcome: 'failed',
  exitCode: 10,
  error: { code: 'no_repository', message: 'no repository' },
};

interface Request {
  line: string;
  body: string;
}

/** @param answer by default 200 to everything */
async function server(answer = (_request: IncomingMessage, response: ServerResponse) => void response.end('OK')) {
  const requests: Request[] = [];
  const listening = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('end', () => {
      requests.push({ line: `${request.method} ${request.url}`, body });
      answer(request, response);
    });
  });
  await new Promise<void>((resolve) => void listening.listen(0, '127.0.0.1', resolve));
  const { port } = listening.address() as AddressInfo;
  return {
    requests,
    url: (path: string) => `http://127.0.0.1:${port}${path}`,
    host: `127.0.0.1:${port}`,
    lines: () => requests.map(({ line }) => line),
    [Symbol.asyncDispose]: async () => {
      listening.closeAllConnections();
      await new Promise((resolve) => listening.close(resolve));
    },
  };
}

const random = seededRandom('notify');
const noClock = new FakeClock();
const notifier = (settings: Partial<NotifySettings>, clock = noClock) =>
  new Notifier({ pingFailure: 'fail', ...settings }, { clock, random });

/** Lets the clock go on when all that is left to do is to wait, but never while an answer is under way. */
async function through<T>(clock: FakeClock, stepMs: number, work: Promise<T>): Promise<T> {
  let done = false;
  const end = () => void (done = true);
  work.then(end, end);
  while (!done) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (!done) await clock.advance(stepMs);
  }
  return work;
}

describe('a ping', () => {
  test('tells start and success', async () => {
    await using at = await server();
    const run = notifier({ ping: at.url('/uuid') });
    run.start();
    expect(await run.end(MESSAGE, { silent: false })).toEqual([]);
    expect(at.lines()).toEqual(['GET /uuid/start', 'GET /uuid']);
  });

  test.each([
    [INCOMPLETE, 'fail', 'POST /uuid/fail', 'holdfast backup: incomplete, exit code 3\n'],
    [FAILED, 'fail', 'POST /uuid/fail', 'holdfast backup: failed, exit code 10 (no_repository)\n'],
    [INCOMPLETE, 'exit-code', 'POST /uuid/3', 'holdfast backup: incomplete, exit code 3\n'],
    [FAILED, 'exit-code', 'POST /uuid/10', 'holdfast backup: failed, exit code 10 (no_repository)\n'],
  ] as const)('never says success of less: %j, %s', async (message, pingFailure, line, body) => {
    await using at = await server();
    expect(await notifier({ ping: at.url('/uuid'), pingFailure }).end(message, { silent: false })).toEqual([]);
    expect(at.requests).toEqual([{ line, body }]);
  });

  test('goes before a query, and not behind a slash', async () => {
    await using at = await server();
    const run = notifier({ ping: at.url('/push/?rid=1') });
    run.start();
    await run.end(FAILED, { silent: false });
    expect(at.lines()).toEqual(['GET /push/start?rid=1', 'POST /push/fail?rid=1']);
  });

  test('of a run that found another at work says nothing at its end', async () => {
    await using at = await server();
    const run = notifier({ ping: at.url('/uuid'), webhook: at.url('/hook') });
    await run.end({ ...FAILED, exitCode: 11 }, { silent: true });
    expect(at.lines()).toEqual(['POST /hook']);
  });

  test('is sent again when the server is ill for a moment', async () => {
    let answers = 0;
    await using at = await server((_request, response) => void response.writeHead(answers++ < 2 ? 503 : 200).end());
    const clock = new FakeClock();
    const end = notifier({ ping: at.url('/uuid') }, clock).end(MESSAGE, { silent: false });
    expect(await through(clock, 100, end)).toEqual([]);
    expect(at.requests).toHaveLength(3);
  });

  test('that is refused for good is not sent again, and the warning names the host alone', async () => {
    await using at = await server((_request, response) => void response.writeHead(404).end());
    const run = notifier({ ping: at.url('/secret-uuid') });
    run.start();
    expect(await run.end(MESSAGE, { silent: false })).toEqual([
      { code: 'ping_failed', message: `the ping to ${at.host} failed: HTTP 404` },
    ]);
    expect(at.requests).toHaveLength(2);
  });

  test('to a server that is down costs a warning', async () => {
    const at = await server();
    await at[Symbol.asyncDispose]();
    const clock = new FakeClock();
    const end = notifier({ ping: at.url('/secret-uuid'), webhook: at.url('/secret') }, clock).end(MESSAGE, {
      silent: false,
    });
    expect(await through(clock, 100, end)).toEqual([
      { code: 'ping_failed', message: `the ping to ${at.host} failed: ECONNREFUSED` },
      { code: 'webhook_failed', message: `the webhook to ${at.host} failed: ECONNREFUSED` },
    ]);
  });

  test('to a server that does not answer is given up', async () => {
    await using at = await server(() => {});
    const clock = new FakeClock();
    const end = notifier({ ping: at.url('/secret-uuid') }, clock).end(MESSAGE, { silent: false });
    expect(await through(clock, 1000, end)).toEqual([
      { code: 'ping_failed', message: `the ping to ${at.host} failed: no answer in 10 s` },
    ]);
    expect(clock.monotonic()).toBeLessThan(60_000);
  });
});

test('the webhook is sent the outcome as JSON, with so many warnings and no more', async () => {
  await using at = await server();
  const warnings = Array.from({ length: 150 }, (_, i) => ({ code: 'vanished', message: `file ${i}` }));
  await notifier({ webhook: at.url('/hook?token=x') }).end({ ...FAILED, warnings }, { silent: false });
  expect(at.lines()).toEqual(['POST /hook?token=x']);
  expect(JSON.parse(at.requests[0]?.body ?? '')).toEqual({ ...FAILED, warnings: warnings.slice(0, 100) });
});
