/** The server of `fleet serve`: who may ask, what is answered, and what it bears. */
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { isLoopback, parseAddress, serveSettings, DEFAULT_SERVE } from '../../../src/cli/fleet/serve-config.ts';
import type { FleetLook } from '../../../src/cli/fleet/serve/looks.ts';
import { serveToken } from '../../../src/cli/fleet/serve/token.ts';
import type { Clock } from '../../../src/clock.ts';
import { HoldfastError } from '../../../src/errors.ts';
import { runTool } from '../../../src/operations/schedule/run-tool.ts';
import { failure, lacks, seededRandom } from '../../crypto/support.ts';
import { FakeClock } from '../../fake-clock.ts';
import { removeFolder, temporaryFolder } from '../../state/trees.ts';
import { clock, TOKEN, withServer, type Started } from './served.ts';
import { agentView, fleetViewOf, layer, lookOf, NOW_MS, troubledLook } from './views.ts';

describe('who may ask', () => {
  test('nothing of the fleet is told without the token, and no more than that it is missing', () =>
    withServer(async ({ ask }) => {
      for (const path of ['/', '/metrics', '/api/status', '/agents/router', '/agents/nobody', '/nothing']) {
        for (const headers of [
          {},
          { Authorization: 'Bearer wrong' },
          { Authorization: `Basic ${TOKEN}` },
          { Cookie: 'holdfast-fleet=wrong' },
        ]) {
          const { status, text } = await ask(path, { headers: { ...headers } });
          expect(status, path).toBe(401);
          expect(text, path).not.toMatch(/router|holdfast_fleet/);
        }
      }
      expect((await ask('/metrics')).headers['www-authenticate']).toMatch(/^Bearer/);
    }));

  test('a program with the token', () =>
    withServer(async ({ get }) => {
      expect((await get('/metrics')).text).toContain('holdfast_fleet_agents{state="unhealthy"} 2\n');
      expect(JSON.parse((await get('/api/status')).text)).toMatchObject({ level: 2 });
      expect((await get('/')).text).toContain('5 of 40 agents need a look');
      expect((await get('/agents/router')).text).toContain('ECONNREFUSED');
      expect((await get('/agents/nobody')).status).toBe(404);
      expect((await get('/../../etc/passwd')).status).toBe(404);
    }));

  test('/metrics without the token only where the config says so', () =>
    withServer(
      async ({ ask }) => {
        expect((await ask('/metrics')).status).toBe(200);
        expect((await ask('/api/status')).status).toBe(401);
      },
      { options: { openMetrics: true } },
    ));

  test('a browser that has logged in, by a cookie that scripts, other sites and other servers of the host do not get', () =>
    withServer(async ({ ask, login, port }) => {
      const { base, cookie, get } = await login();
      expect(base).toMatch(/^\/[\w-]{22}\/$/);
      expect((await get('')).text).toContain('router');
      expect((await ask(base, { headers: { Cookie: `a=b; ${cookie}; c=d` } })).status).toBe(200);
      expect((await ask(base)).status).toBe(401);
      const { headers } = await ask('/login', {
        method: 'POST',
        headers: { 'Content-Type': 'application/x-www-form-urlencoded', Origin: `http://127.0.0.1:${port}` },
        body: `token=${TOKEN}`,
      });
      expect(headers['set-cookie']).toEqual([
        expect.stringMatching(new RegExp(`^holdfast-fleet=[\\w-]{43}; Path=${base}; HttpOnly; SameSite=Strict$`)),
      ]);
      expect(headers['set-cookie']?.[0]).not.toContain(cookie);
    }));

  test('not with a wrong token, nor after logging out', () =>
    withServer(async ({ ask, login, logged, port }) => {
      const wrong = await ask('/login', {
        method: 'POST',
        headers: { 'Content-Type': 'application/x-www-form-urlencoded', Origin: `http://127.0.0.1:${port}` },
        body: 'token=wrong-secret-guess',
      });
      expect(wrong).toMatchObject({ status: 401, text: expect.stringContaining('That is not the token') });
      expect(wrong.headers).not.toHaveProperty('set-cookie');
      const { post, get } = await login();
      expect((await post('logout', {})).status).toBe(303);
      expect((await get('')).status).toBe(401);
      expect(logged.join('\n')).not.toMatch(new RegExp(`wrong-secret|${TOKEN}`));
      expect(logged[0]).toMatch(/^POST \/login 401 127\.0\.0\.1$/);
    }));

  test('a session ends after twelve hours', async () => {
    let ms = 0;
    const moving: Clock = { ...clock, monotonic: () => ms };
    await withServer(
      async ({ login }) => {
        const { get } = await login();
        ms = 12 * 3_600_000 - 1;
        expect((await get('')).status).toBe(200);
        ms += 1;
        expect((await get('')).status).toBe(401);
      },
      { options: { clock: moving } },
    );
  });

  test('a name that was made to point here is refused, whoever asks for what', () =>
    withServer(async ({ get, ask, port }) => {
      for (const host of [
        'evil.example',
        `evil.example:${port}`,
        '127.0.0.1.evil.example',
        'localhost.evil.example',
        '0x7f000001',
        '[::1',
        '2130706433',
      ])
        for (const path of ['/', '/metrics', '/health/live', '/style.css'])
          expect((await get(path, { Host: host })).status, `${host} ${path}`).toBe(421);
      expect((await ask('/login', { method: 'POST', headers: { Host: 'evil.example' } })).status).toBe(421);
      const nameless = connect(port, '127.0.0.1');
      nameless.write('GET /metrics HTTP/1.0\r\n\r\n');
      expect(await textOf(nameless)).toMatch(/^HTTP\/1\.1 421 /);
      for (const host of [`127.0.0.1:${port}`, 'LOCALHOST:9', `[::1]:${port}`, '192.0.2.7', 'fleet.example.org'])
        expect((await get('/health/live', { Host: host })).status, host).toBe(200);
    }));
});

describe('what can be done', () => {
  test('a breaker is tripped with a reason, and reset when somebody says that it may be', () =>
    withServer(async ({ login, done, logged }) => {
      const { post, base } = await login();
      const answer = await post('agents/router/trip', { reason: '  deploying\n\tnow ' });
      expect(answer).toMatchObject({ status: 303, headers: { location: `${base}agents/router` } });
      expect((await post('agents/router/trip', { reason: ' ' })).status).toBe(400);
      expect((await post('agents/router/reset', {})).status).toBe(400);
      expect((await post('agents/router/reset', { sure: 'yes' })).status).toBe(303);
      expect(done).toEqual(['trip router: deploying now', 'reset router']);
      expect(logged.every((line) => !line.includes(base))).toBe(true);
    }));

  test('nothing else, and to no agent that the config does not have', () =>
    withServer(async ({ login, get, ask, done }) => {
      const { post, base, cookie } = await login();
      expect((await post('agents/nobody/trip', { reason: 'x' })).status).toBe(404);
      for (const path of ['agents/router', 'agents/router/disable', 'metrics', '', 'agents/..%2f/trip', 'api/status'])
        expect((await post(path, { reason: 'x', sure: 'yes' })).status, path).toBe(405);
      for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS'])
        expect((await ask(`${base}agents/router/trip`, { method, headers: { Cookie: cookie } })).status, method).toBe(
          405,
        );
      expect((await get('/agents/router/trip')).status).toBe(404);
      expect(done).toEqual([]);
    }));

  test('not by another site, however it goes about it', () =>
    withServer(async ({ login, ask, port, done }) => {
      const { base, cookie, post } = await login();
      const how: [string, Record<string, string>, Record<string, string>][] = [
        ['another origin', { Origin: 'http://evil.example' }, {}],
        ['another port of this host', { Origin: `http://127.0.0.1:${port + 1}` }, {}],
        ['a sandbox', { Origin: 'null' }, {}],
        ['what the browser says', { 'Sec-Fetch-Site': 'cross-site' }, {}],
        ['another server of this site', { 'Sec-Fetch-Site': 'same-site' }, {}],
        ['no form of ours', {}, { form: '' }],
        ['a form of another session', {}, { form: 'A'.repeat(22) }],
      ];
      for (const [name, headers, fields] of how)
        expect((await post('agents/router/trip', { reason: 'x', ...fields }, headers)).status, name).toBe(403);
      const plain = await ask(`${base}agents/router/trip`, {
        method: 'POST',
        headers: { Cookie: cookie, 'Content-Type': 'text/plain' },
        body: 'reason=x',
      });
      expect(plain.status).toBe(415);
      expect((await ask(base, { headers: { Cookie: cookie, 'Sec-Fetch-Site': 'cross-site' } })).status).toBe(403);
      expect(done).toEqual([]);
    }));

  test('a program with the token does it without a form of ours', () =>
    withServer(async ({ ask, done }) => {
      const headers = { Authorization: `Bearer ${TOKEN}`, 'Content-Type': 'application/x-www-form-urlencoded' };
      expect((await ask('/agents/router/trip', { method: 'POST', headers, body: 'reason=by+script' })).status).toBe(
        303,
      );
      expect(
        (
          await ask('/agents/router/trip', {
            method: 'POST',
            headers: { ...headers, Origin: 'http://evil.example' },
            body: 'reason=x',
          })
        ).status,
      ).toBe(403);
      expect(done).toEqual(['trip router: by script']);
    }));

  test('is seen at once, not when the next look is due', async () => {
    let looks = 0;
    await withServer(
      async ({ get, login }) => {
        await get('/');
        await get('/');
        expect(looks).toBe(1);
        const { post } = await login();
        await post('agents/router/reset', { sure: 'yes' });
        await get('/');
        expect(looks).toBe(2);
      },
      { sources: { look: () => Promise.resolve((looks++, troubledLook())) } },
    );
  });
});

describe('what is shown', () => {
  test('text of strangers is text, and control characters are none', async () => {
    const HOSTILE = '</title><script>alert(1)</script>"\'\u001b[2J\u202e<img src=x onerror=alert(2)>';
    const agent = agentView('odd', {
      ...{
        state: 'unhealthy',
        layers: { live: layer('down', HOSTILE) },
        quarantine: { sinceMs: NOW_MS, reason: HOSTILE },
      },
    });
    const run = { startedMs: 0, endedMs: 1, seconds: 1, exitCode: 3, committed: { [HOSTILE]: false } };
    const look = lookOf(
      fleetViewOf([agent], {
        level: { level: 1, sinceMs: NOW_MS, reasons: [HOSTILE] },
        watcher: { host: HOSTILE, pid: 1, seenMs: NOW_MS },
      }),
      {
        events: [{ atMs: NOW_MS, kind: 'action', agent: 'odd', message: HOSTILE }],
        runs: new Map([['odd', { backup: run }]]),
      },
    );
    await withServer(
      async ({ get }) => {
        for (const path of ['/', '/agents/odd']) {
          const { text } = await get(path);
          expect(text).toContain('&#60;script&#62;alert(1)');
          expect(text).not.toMatch(/<script>|<img|onerror=alert\(2\)>|[\x00-\x08\x0b-\x1f\u202e]/);
        }
      },
      { look, options: { hostName: HOSTILE } },
    );
  });

  test('every answer says how little a browser may do with it, and holds no script or style of its own', () =>
    withServer(async ({ get, ask }) => {
      for (const answer of [
        await get('/'),
        await get('/agents/router'),
        await get('/metrics'),
        await get('/nothing'),
        await ask('/'),
        await ask('/health/live'),
      ]) {
        expect(answer.headers['content-security-policy']).toMatch(
          /^default-src 'none'; script-src 'self'; style-src 'self'/,
        );
        expect(answer.headers).toMatchObject({
          'cache-control': 'no-store',
          'x-content-type-options': 'nosniff',
          'x-frame-options': 'DENY',
        });
        expect(answer.text).not.toMatch(/<script>|<style|style="|onclick|https?:\/\/(?!127)/);
      }
    }));

  test('never says that all is well of a fleet of which that is not known', () =>
    withServer(
      async ({ get }) => {
        expect((await get('/')).text).toContain('<h1>1 of 2 agents are healthy, the others are starting</h1>');
        expect((await get('/')).text).toContain('Nobody watches');
      },
      {
        look: lookOf(
          fleetViewOf(
            [agentView('a'), agentView('b', { state: 'starting', layers: { live: layer('starting', '') } })],
            { watcher: null },
          ),
        ),
      },
    ));
});

describe('the health of the watching itself', () => {
  const health = async ({ ask }: Started, what: string) => {
    const { status, text } = await ask(`/health/${what}`);
    return { status, ...(JSON.parse(text) as { check: string; evidence: string }) };
  };

  test('it answers, the store can be read, and somebody watches; nobody needs a token to ask', () =>
    withServer(async (server) => {
      for (const what of ['live', 'ready', 'progress'])
        expect(await health(server, what)).toMatchObject({ status: 'ok', check: what });
      for (const what of ['live', 'ready', 'progress']) expect((await server.ask(`/health/${what}`)).status).toBe(200);
      expect((await health(server, 'progress')).evidence).toBe(
        'the watcher gave a sign of life 5.0 s ago, 1m at most are wanted',
      );
    }));

  test.each([
    ['that looked too long ago', () => Promise.resolve({ seenMs: NOW_MS - 61_000 }), 200, '1m 1s ago'],
    ['that is not there', () => Promise.resolve(null), 200, 'nobody watches'],
    [
      'in a store that cannot be read',
      () => Promise.reject(new HoldfastError('io', 'cannot read /secret/path')),
      503,
      'cannot be read: io',
    ],
    [
      'in a store that breaks',
      () => Promise.reject(new Error('a stack trace')),
      503,
      'cannot be read: an internal error',
    ],
  ])('a watcher %s is no progress', (_what, watcher, ready, evidence) =>
    withServer(
      async (server) => {
        const progress = await server.ask('/health/progress');
        expect(progress.status).toBe(503);
        expect(progress.text).toContain(evidence);
        expect(progress.text).not.toContain('/secret');
        expect((await server.ask('/health/ready')).status).toBe(ready);
        expect((await server.ask('/health/live')).status).toBe(200);
      },
      { sources: { watcher } },
    ),
  );

  test('a store that does not answer is told in time', async () => {
    const fake = new FakeClock(NOW_MS);
    await withServer(
      async ({ ask }) => {
        const asking = ask('/health/ready');
        while (fake.sleeping === 0) await new Promise((resolve) => setImmediate(resolve));
        await fake.advance(2000);
        expect(await asking).toMatchObject({ status: 503, text: expect.stringContaining('cannot be read: busy') });
      },
      { sources: { watcher: () => new Promise(() => {}) }, options: { clock: fake } },
    );
  });
});

describe('what it bears', () => {
  test('many scrapes at once are one look, and each waits no longer than it has time', async () => {
    const fake = new FakeClock(NOW_MS);
    let looks = 0;
    let found: (look: FleetLook) => void = () => {};
    await withServer(
      async ({ get, sources }) => {
        const scrape = () => get('/metrics', { 'X-Prometheus-Scrape-Timeout-Seconds': '3' });
        const asking = Promise.all(Array.from({ length: 10 }, scrape));
        while (fake.sleeping < 10) await new Promise((resolve) => setImmediate(resolve));
        await fake.advance(2499);
        const page = get('/');
        while (fake.sleeping < 11) await new Promise((resolve) => setImmediate(resolve));
        await fake.advance(1);
        for (const { status, text } of await asking)
          expect({ status, text }).toEqual({ status: 503, text: 'the fleet could not be looked at in time\n' });
        found(troubledLook());
        expect((await page).status).toBe(200);
        expect((await scrape()).status).toBe(200);
        expect(looks).toBe(1);
        await fake.advance(2001);
        void scrape().catch(() => {});
        while (looks < 2) await new Promise((resolve) => setImmediate(resolve));
        expect(sources).toBeDefined();
        found(troubledLook());
      },
      {
        sources: { look: () => new Promise((resolve) => ((looks++, (found = resolve)), undefined)) },
        options: { clock: fake },
      },
    );
  });

  test('a store that fails is an error that names no place to strangers, and no stack to anybody', () =>
    withServer(
      async ({ get, logged }) => {
        expect(await get('/metrics')).toMatchObject({ status: 503, text: 'cannot read the store\n' });
        const page = await get('/');
        expect(page.status).toBe(503);
        expect(page.text).toContain('cannot read the store');
        expect(JSON.parse((await get('/api/status')).text)).toEqual({
          error: { code: 'io', message: 'cannot read the store', hint: null },
        });
        expect(page.text).not.toContain('at Object');
        expect(logged.every((line) => !line.includes('\n'))).toBe(true);
      },
      { sources: { look: () => Promise.reject(new HoldfastError('io', 'cannot read the store')) } },
    ));

  test('a defect is told to the log alone', () =>
    withServer(
      async ({ get, logged }) => {
        const { status, text } = await get('/');
        expect(status).toBe(500);
        expect(text).not.toContain('the inside');
        expect(logged).toEqual([expect.stringContaining('error: the inside'), expect.stringMatching(/^GET \/ 500 /)]);
      },
      { sources: { look: () => Promise.reject(new TypeError('the inside\nof it')) } },
    ));

  test('a body that is too large, told beforehand or not, and headers that are', () =>
    withServer(async ({ ask, port }) => {
      const headers = { 'Content-Type': 'application/x-www-form-urlencoded', Authorization: `Bearer ${TOKEN}` };
      const body = `reason=${'x'.repeat(5000)}`;
      expect((await ask('/agents/router/trip', { method: 'POST', headers, body })).status).toBe(413);
      expect(
        (
          await ask('/agents/router/trip', {
            method: 'POST',
            headers: { ...headers, 'Transfer-Encoding': 'chunked' },
            body,
          })
        ).status,
      ).toBe(413);
      expect((await ask('/', { headers: { 'X-Much': 'x'.repeat(20_000) } })).status).toBe(431);
      expect((await ask('/health/live')).status).toBe(200);
      expect(port).toBeGreaterThan(0);
    }));

  test.each([
    ['headers', 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow'],
    [
      'a body',
      'POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntoken=',
    ],
  ])('a client that does not go on with %s is let go', (_what, beginning) =>
    withServer(
      async ({ port, ask }) => {
        const socket = connect(port, '127.0.0.1');
        socket.write(beginning);
        const answer = await textOf(socket).catch(() => ''); // ends when the server ends it
        expect(answer).toMatch(/^(HTTP\/1\.1 408 |$)/);
        expect((await ask('/health/live')).status).toBe(200);
      },
      { options: { limits: { requestMs: 100 } } },
    ),
  );

  test('more connections than it takes: those are closed, and the others go on', () =>
    withServer(
      async ({ port }) => {
        const sockets = Array.from({ length: 6 }, () => connect(port, '127.0.0.1').on('error', () => {}));
        const closed = await Promise.race(
          sockets.map((socket) => new Promise<string>((resolve) => socket.once('close', () => resolve('closed')))),
        );
        expect(closed).toBe('closed');
        for (const socket of sockets) socket.destroy();
      },
      { options: { limits: { connections: 3 } } },
    ));

  test('it ends although somebody holds a connection open', () =>
    withServer(
      async ({ port }) => {
        const socket = connect(port, '127.0.0.1').on('error', () => {});
        await new Promise((resolve) => socket.once('connect', resolve));
        socket.write('GET /metrics HTTP/1.1\r\n');
      },
      { options: { clock: { ...clock, sleep: () => Promise.resolve() } } },
    ));

  test.skipIf(lacks('promtool', '--version'))('a real scrape pleases promtool', () =>
    withServer(async ({ get }) => {
      const { text, headers } = await get('/metrics');
      expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
      expect(await runTool(process.env)('promtool', ['check', 'metrics'], text)).toMatchObject({
        exitCode: 0,
        stderr: '',
      });
    }),
  );
});

describe('where it listens', () => {
  test.each([
    ['127.0.0.1:8790', { host: '127.0.0.1', port: 8790 }],
    ['localhost:0', { host: '127.0.0.1', port: 0 }],
    ['[::1]:1', { host: '::1', port: 1 }],
    ['0.0.0.0:65535', { host: '0.0.0.0', port: 65535 }],
  ])('%s', (text, address) => expect(parseAddress(text)).toEqual(address));

  test.each([
    '8790',
    ':8790',
    'example.org:80',
    '127.0.0.1',
    '127.0.0.1:65536',
    '::1:80',
    '[127.0.0.1]:80',
    '127.0.0.1:',
    '',
  ])(
    '%j is no address',
    async (text) => void (await failure(() => Promise.resolve().then(() => parseAddress(text)), 'usage')),
  );

  test('elsewhere than on loopback only when somebody says that this is meant, and then nothing is open', async () => {
    expect(isLoopback('127.8.0.1') && isLoopback('::1') && !isLoopback('0.0.0.0') && !isLoopback('::')).toBe(true);
    const of = (config: Partial<typeof DEFAULT_SERVE>, flags = {}) =>
      Promise.resolve().then(() => serveSettings({ ...DEFAULT_SERVE, ...config }, flags));
    expect((await of({})).listen).toEqual({ host: '127.0.0.1', port: 8790 });
    await failure(() => of({ listen: '0.0.0.0:1' }), 'usage');
    await failure(() => of({}, { listen: '192.0.2.1:1' }), 'usage');
    await failure(() => of({ openMetrics: true }, { listen: '192.0.2.1:1', remote: true }), 'usage');
    expect((await of({ remote: true }, { listen: '[::]:1' })).listen.host).toBe('::');
  });
});

describe('the token', () => {
  test('is made once, for its owner alone, and must be hard to guess', async () => {
    const folder = temporaryFolder();
    try {
      const path = join(folder, 'new', 'token');
      const random = seededRandom('token');
      const token = await serveToken(path, { random, make: true });
      expect(token).toMatch(/^[\w-]{43}$/);
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(await serveToken(path, { random, make: true })).toBe(token);
      expect(readFileSync(path, 'utf8')).toBe(`${token}\n`);
      await failure(() => serveToken(join(folder, 'none'), { random, make: false }), 'missing_key');
      writeFileSync(join(folder, 'short'), 'password\n', { mode: 0o600 });
      await failure(() => serveToken(join(folder, 'short'), { random, make: false }), 'usage');
      chmodSync(path, 0o644);
      await failure(() => serveToken(path, { random, make: true }), 'insecure_permissions');
    } finally {
      removeFolder(folder);
    }
  });
});
