/** Probes against real servers, processes and files. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, utimesSync, writeFileSync, mkdirSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { commandProbe } from '../../src/fleet/probes/command.ts';
import { fileProbe, folderStats, timeOf } from '../../src/fleet/probes/file.ts';
import { httpProbe, readinessProblem, shownUrl } from '../../src/fleet/probes/http.ts';
import { oneLine } from '../../src/fleet/probes/probe.ts';
import { processProbe, processStats } from '../../src/fleet/probes/process.ts';
import { httpProgress } from '../../src/fleet/probes/stats.ts';
import { tcpProbe } from '../../src/fleet/probes/tcp.ts';
import { FakeClock } from '../fake-clock.ts';

const clock = systemClock;
const quiet = new AbortController().signal;
let folder: string;
const servers: Server[] = [];
const sockets = new Set<Socket>();

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-probes-'));
});
afterAll(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true, force: true });
});

async function listening(server: Server): Promise<string> {
  servers.push(server);
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const http = async (listener: RequestListener): Promise<string> =>
  `http://${await listening(createServer(listener))}/health`;

const answering = (status: number, body: string): Promise<string> =>
  http((_, response) => void response.writeHead(status).end(body));

/** An address that nobody listens at. */
async function deserted(): Promise<string> {
  const server = createTcpServer();
  const address = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  return address;
}

describe('HTTP', () => {
  test('an answer of 200 is well, one of 503 is not, and says so', async () => {
    expect(await httpProbe({ url: await answering(200, 'fine') })(quiet)).toEqual({ ok: true, evidence: 'HTTP 200' });
    const url = await answering(503, 'no');
    expect(await httpProbe({ url })(quiet)).toEqual({ ok: false, evidence: `HTTP 503 from ${url}` });
    expect(await httpProbe({ url, status: [503] })(quiet)).toMatchObject({ ok: true });
  });

  test('a required check that fails is named, whatever the status says', async () => {
    const body = (ok: boolean) =>
      JSON.stringify({ status: 'ok', checks: { messaging: { ok, error: 'no relay' }, model: { ok: true } } });
    expect(await httpProbe({ url: await answering(200, body(true)) })(quiet)).toMatchObject({ ok: true });
    const bad = await httpProbe({ url: await answering(200, body(false)) })(quiet);
    expect(bad).toMatchObject({ ok: false, evidence: expect.stringContaining('messaging fails (no relay)') });
    const named = await httpProbe({ url: await answering(200, body(true)), checks: ['model', 'disk'] })(quiet);
    expect(named).toMatchObject({ ok: false, evidence: expect.stringContaining('nothing is said of disk') });
    const text = await httpProbe({ url: await answering(200, 'fine'), checks: ['model'] })(quiet);
    expect(text.ok).toBe(false);
  });

  test.each([
    [{ status: 'UP' }, undefined],
    [{ status: 'whatever' }, undefined],
    [{ status: 'fail', output: 'disk full' }, 'it says "fail" (disk full)'],
    [{ ok: false }, 'it says that it is not'],
    [{ checks: { a: false, b: true } }, 'a fails'],
    [{ checks: { a: { ok: false, required: false } } }, undefined],
    [
      {
        checks: [
          { name: 'a', status: 'down' },
          { name: 'b', status: 'up' },
        ],
      },
      'a fails',
    ],
    [{ checks: { 'db:latency': [{ status: 'fail' }] } }, 'db:latency fails'],
    [{ components: { db: { status: 'DOWN' } } }, 'db fails'],
    [{ checks: { a: { ok: true, status: 'down' } } }, 'a fails'],
  ])('of %j', (body, problem) => expect(readinessProblem(body, [])).toBe(problem));

  test.each([
    ['a status that is no word', '{"status": false}'],
    ['the status of another answer', '{"status": 503}'],
    ['a no in quotes', '{"ok": "false"}'],
    ['a colour', '{"status": "red"}'],
    ['a list', '[{"status": "down"}]'],
    ['one word', 'unhealthy\n'],
    ['JSON that breaks off', '{"status": "ok", '],
    ['JSON that is too long to be read', JSON.stringify({ padding: 'x'.repeat(70_000), status: 'fail' })],
  ])('an answer of 200 that says no by %s is not well', async (_, body) => {
    const { ok, evidence } = await httpProbe({ url: await answering(200, body) })(quiet);
    expect([ok, evidence]).toEqual([false, expect.stringMatching(/: it (says|answered) /)]);
  });

  test.each(['{"status": 200}', '{"ok": "true"}', '[]', 'all is well, none is down', '# HELP a b', ''])(
    'an answer of 200 that says %j is well',
    async (body) => {
      expect(await httpProbe({ url: await answering(200, body) })(quiet)).toMatchObject({ ok: true });
    },
  );

  test('nobody there is told from one that answers badly', async () => {
    const address = await deserted();
    expect(await httpProbe({ url: `http://${address}/a` })(quiet)).toEqual({
      ...{ ok: false, absent: true, evidence: `connection refused: http://${address}/a` },
    });
    const rude = await http((request) => request.socket.destroy());
    const seen = await httpProbe({ url: rude })(quiet);
    expect(seen.ok).toBe(false);
    expect(seen.absent).toBeUndefined();
  });

  test('a redirection is not followed', async () => {
    const elsewhere = await answering(200, 'fine');
    const url = await http((_, response) => void response.writeHead(302, { location: elsewhere }).end());
    expect(await httpProbe({ url })(quiet)).toMatchObject({ ok: false, evidence: `HTTP 302 from ${url}` });
  });

  test('of a body that never ends only the beginning is read, and the connection is closed', async () => {
    let closed = () => {};
    const isClosed = new Promise<void>((resolve) => (closed = resolve));
    const url = await http((request, response) => {
      request.socket.on('close', closed);
      const more = () => void (response.writable && response.write('x'.repeat(65_536), more));
      more();
    });
    expect(await httpProbe({ url })(quiet)).toMatchObject({ ok: true });
    await isClosed;
  });

  test('one that hangs is left when it is told to, and no connection stays', async () => {
    let closed = () => {};
    const isClosed = new Promise<void>((resolve) => (closed = resolve));
    const stop = new AbortController();
    const url = await http((request) => {
      request.socket.on('close', closed);
      stop.abort();
    });
    await expect(httpProbe({ url })(stop.signal)).rejects.toMatchObject({ code: 'interrupted' });
    await isClosed;
  });

  test('headers come from a file or a variable, and no secret is in what is told', async () => {
    writeFileSync(join(folder, 'token'), 'Bearer s3cret\n');
    const url = await http((request, response) => {
      const isIn = request.headers.authorization === 'Bearer s3cret' && request.headers['x-key'] === 'k3y';
      response.writeHead(isIn ? 200 : 401).end();
    });
    const headers = { authorization: { file: join(folder, 'token') }, 'x-key': { env: 'KEY' } };
    expect(await httpProbe({ url, headers }, { KEY: 'k3y' })(quiet)).toMatchObject({ ok: true });
    const without = await httpProbe({ url: `${url}?token=s3cret`, headers }, {})(quiet);
    expect(without).toMatchObject({ ok: false, evidence: expect.stringContaining('the variable KEY is not set') });
    expect(without.evidence).not.toContain('s3cret');
    expect(shownUrl('http://u:p@h:1/path?token=x#y')).toBe('http://h:1/path');
  });

  test('progress is the time in an answer, and one in the future is none', async () => {
    const clockAt = new FakeClock(Date.UTC(2026, 0, 1, 12));
    const context = { clock: clockAt, env: {} };
    const look = async (body: object, field?: string) => {
      const spec = { url: await answering(200, JSON.stringify(body)), withinMs: 600_000, ...(field && { field }) };
      return httpProgress(spec, context)(quiet);
    };
    expect(await look({ lastActivity: '2026-01-01T11:55:00Z' })).toMatchObject({ ok: true, value: 300 });
    expect(await look({ last_task: Date.UTC(2026, 0, 1, 11) / 1000 })).toMatchObject({ ok: false, value: 3600 });
    expect(await look({ a: { b: '2026-01-01T11:55:00Z' } }, 'a.b')).toMatchObject({ ok: true });
    expect(await look({ lastActivity: '2026-01-01T13:00:00Z' })).toMatchObject({
      ...{ ok: false, evidence: expect.stringContaining('from now') },
    });
    expect(await look({})).toMatchObject({ ok: false, evidence: expect.stringContaining('tells no time') });
  });
});

test('a port is well when it accepts a connection', async () => {
  const address = await listening(createTcpServer());
  const at = (text: string) => ({ host: '127.0.0.1', port: Number(text.split(':')[1]) });
  expect(await tcpProbe(at(address))(quiet)).toMatchObject({ ok: true });
  expect(await tcpProbe({ ...at(address), host: 'localhost' })(quiet)).toMatchObject({ ok: true });
  expect(await tcpProbe(at(await deserted()))(quiet)).toMatchObject({ ok: false, absent: true });
});

describe('a command', () => {
  const context = { folder: '/', env: { PATH: process.env['PATH'], HOLDFAST_AGENT: 'alpha' }, clock };

  test('says by its exit code how it is, and its last line is the evidence', async () => {
    expect(await commandProbe('echo one; echo "$HOLDFAST_AGENT is fine"', context)(quiet)).toEqual({
      ...{ ok: true, evidence: 'alpha is fine' },
    });
    expect(await commandProbe('echo bad luck; exit 3', context)(quiet)).toEqual({
      ...{ ok: false, evidence: 'the command ended with exit code 3: bad luck' },
    });
    expect(await commandProbe('kill -9 $$', context)(quiet)).toMatchObject({ ok: false });
  });

  test('is killed with all that it started when its time is over', async () => {
    const stop = new AbortController();
    const file = join(folder, 'child.pid');
    const running = commandProbe(`sleep 1000 & echo $! > ${file}; echo > ${file}.done; wait`, context)(stop.signal);
    const pid = await eventually(async () => {
      const { readFileSync } = await import('node:fs');
      readFileSync(`${file}.done`);
      return Number(readFileSync(file, 'utf8'));
    });
    stop.abort();
    await expect(running).rejects.toMatchObject({ code: 'interrupted' });
    await eventually(async () => {
      const seen = await processProbe({ pidFile: file }, clock)(quiet);
      if (seen.ok) throw new Error(`${pid} still runs`);
    });
  });

  test('that leaves something running that holds its output does not hold up the look', async () => {
    expect(await commandProbe('sleep 1000 & echo fine', context)(quiet)).toEqual({ ok: true, evidence: 'fine' });
  });
});

/** Without a time limit of its own: the test has one. */
async function eventually<T>(look: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await look();
    } catch {
      await clock.sleep(10);
    }
  }
}

describe('a process', () => {
  const mark = `holdfast-probe-${process.pid}`;
  const state = (pidFile: string, command?: RegExp) =>
    processProbe({ pidFile, ...(command && { command }) }, clock)(quiet);

  test('that runs is well; one that is stopped, ended or another program is not', async () => {
    const child = spawn('/bin/sh', ['-c', `: ${mark}; while :; do sleep 1000; done`], { detached: true });
    const { pid = 0 } = child;
    const pidFile = join(folder, 'agent.pid');
    try {
      writeFileSync(pidFile, `${pid}\n`);
      expect(await state(pidFile)).toEqual({ ok: true, evidence: `process ${pid}` });
      expect(await state(pidFile, new RegExp(mark))).toMatchObject({ ok: true });
      expect(await state(pidFile, /nginx/)).toMatchObject({
        ok: false,
        evidence: expect.stringContaining('another program'),
      });
      process.kill(pid, 'SIGSTOP');
      await eventually(async () => expect(await state(pidFile)).toMatchObject({ ok: false }));
      expect((await state(pidFile)).evidence).toBe(`process ${pid} is stopped (state T)`);
      process.kill(pid, 'SIGCONT');
      await eventually(async () => expect(await state(pidFile)).toMatchObject({ ok: true }));
      expect(await processStats({ pidFile }, clock)(quiet)).toMatchObject({
        stats: { memoryBytes: expect.any(Number), memoryLimitBytes: expect.any(Number) },
      });
    } finally {
      const ended = new Promise((resolve) => child.once('close', resolve));
      process.kill(-pid, 'SIGKILL');
      await ended;
    }
    expect(await state(pidFile)).toEqual({ ok: false, evidence: `process ${pid} is gone` });
  });

  test('that is a zombie is not well', async () => {
    // The first of the two ends at once, and the second, which took its parent over, never asks how.
    const child = spawn('/bin/sh', ['-c', 'sh -c "exit 0" & echo $!; exec sleep 1000'], { detached: true });
    try {
      const pid = await new Promise<string>((resolve) =>
        child.stdout.once('data', (text) => resolve(String(text).trim())),
      );
      const pidFile = join(folder, 'zombie.pid');
      writeFileSync(pidFile, pid);
      await eventually(async () =>
        expect((await state(pidFile)).evidence).toBe(`process ${pid} is a zombie (state Z)`),
      );
      expect((await state(pidFile)).ok).toBe(false);
    } finally {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
    }
  });

  test('is found by its command line, but not by that of the command that looks for it', async () => {
    const byName = new FakeClock(); // the list of processes is kept for a second
    const look = async () => {
      await byName.advance(2000);
      return processProbe({ command: new RegExp(`^sleep 1000${process.pid}`) }, byName)(quiet);
    };
    expect(await look()).toMatchObject({ ok: false, absent: true });
    const child = spawn('/bin/sh', ['-c', `sleep 1000${process.pid} & wait`], { detached: true });
    try {
      await eventually(async () => expect(await look()).toMatchObject({ ok: true }));
    } finally {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
    }
    const own = spawn('sleep', [`1001${process.pid}`]);
    try {
      await byName.advance(2000);
      const seen = await processProbe({ command: new RegExp(`1001${process.pid}`) }, byName)(quiet);
      expect(seen).toMatchObject({ ok: false, absent: true });
    } finally {
      own.kill('SIGKILL');
    }
  });

  test('of which there is no file, or no number in it', async () => {
    expect(await state(join(folder, 'none.pid'))).toMatchObject({ ok: false, absent: true });
    writeFileSync(join(folder, 'bad.pid'), 'hello');
    expect(await state(join(folder, 'bad.pid'))).toMatchObject({
      ok: false,
      evidence: expect.stringContaining('no process number'),
    });
  });
});

describe('a heartbeat file', () => {
  const nowMs = Date.UTC(2026, 0, 1, 12);
  const at = new FakeClock(nowMs);
  const beat = (name: string, ageMs: number, text = 'beat'): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    utimesSync(path, (nowMs - ageMs) / 1000, (nowMs - ageMs) / 1000);
    return path;
  };

  test('is fresh by its age, and not when it is dated in the future', async () => {
    const withinMs = 600_000;
    expect(await fileProbe({ path: beat('a.md', 60_000), withinMs }, at)(quiet)).toMatchObject({ ok: true, value: 60 });
    const old = beat('a.md', 840_000);
    expect(await fileProbe({ path: old, withinMs }, at)(quiet)).toEqual({
      ...{ ok: false, evidence: `${old} is 14m old, more than 10m`, value: 840 },
    });
    expect(await fileProbe({ path: beat('a.md', -3_600_000), withinMs }, at)(quiet)).toMatchObject({
      ...{ ok: false, evidence: expect.stringContaining('dated 1h from now') },
    });
    expect(await fileProbe({ path: join(folder, 'none'), withinMs }, at)(quiet)).toMatchObject({
      ok: false,
      absent: true,
    });
  });

  test('is judged by what stands in it', async () => {
    const text = '# Tasks\n- [2026-01-01T11:20:00Z] begun\n- [2026-01-01T11:58:00Z] half done\n';
    const path = beat('b.md', 86_400_000, text);
    const time = /\[([^\]]+)\]/;
    expect(await fileProbe({ path, withinMs: 600_000, time }, at)(quiet)).toMatchObject({ ok: true, value: 120 });
    expect(await fileProbe({ path, withinMs: 60_000, time }, at)(quiet)).toMatchObject({ ok: false });
    expect(await fileProbe({ path, contains: 'half done' }, at)(quiet)).toMatchObject({ ok: true });
    expect(await fileProbe({ path, contains: 'all done' }, at)(quiet)).toMatchObject({ ok: false });
    expect(await fileProbe({ path, pattern: /^- \[.*\] begun$/m }, at)(quiet)).toMatchObject({ ok: true });
    expect(await fileProbe({ path, withinMs: 60_000, time: /<(.*)>/ }, at)(quiet)).toMatchObject({ ok: false });
  });

  test('by a pattern that backtracks for ever does not stop this process', async () => {
    const path = join(folder, 'backtracks');
    writeFileSync(path, `${'a'.repeat(64)}!`);
    for (const spec of [{ pattern: /^(a+)+$/ }, { time: /^((a+)+)$/ }])
      await expect(fileProbe({ path, withinMs: 60_000, ...spec }, clock)(quiet)).rejects.toThrow('takes too long');
  });

  test('that has grown long tells its newest time, which is at its end', async () => {
    const path = join(folder, 'long');
    const line = (at: number) => `last: ${new Date(at).toISOString()}\n`;
    const nowMs = clock.now();
    for (const lines of [3000, 5000, 20_000]) {
      writeFileSync(path, line(nowMs - 3_600_000).repeat(lines) + line(nowMs));
      const probe = fileProbe({ path, withinMs: 60_000, time: /^last: (.*)$/m }, clock);
      expect(await probe(quiet)).toMatchObject({ ok: true });
    }
  });

  test('that is a pipe or a folder does not hold up the look', async () => {
    const pipe = join(folder, 'pipe');
    await new Promise((resolve) => spawn('mkfifo', [pipe]).once('close', resolve));
    expect(await fileProbe({ path: pipe, withinMs: 1000 }, at)(quiet).catch(String)).toMatchObject({ ok: false });
    expect(await fileProbe({ path: folder, withinMs: 1000 }, at)(quiet)).toMatchObject({ ok: false });
  });

  test.each([
    ['2026-01-01T00:00:00Z', Date.UTC(2026, 0, 1)],
    ['2026-01-01 00:00:00 UTC', Date.UTC(2026, 0, 1)],
    ['2026-01-01T02:00:00+02:00', Date.UTC(2026, 0, 1)],
    [1_767_225_600, Date.UTC(2026, 0, 1)],
    [1_767_225_600_000, Date.UTC(2026, 0, 1)],
    ['1767225600.5', Date.UTC(2026, 0, 1) + 500],
    ['yesterday', undefined],
    [-1, undefined],
    [Number.NaN, undefined],
    [null, undefined],
  ])('a time %s', (text, ms) => expect(timeOf(text)).toBe(ms));
});

test('the files in a folder are a queue', async () => {
  const queue = join(folder, 'queue');
  expect(await folderStats(queue)(quiet)).toMatchObject({ stats: {}, absent: true });
  mkdirSync(join(queue, 'done'), { recursive: true });
  for (const name of ['1', '2', '.tmp']) writeFileSync(join(queue, name), '');
  expect(await folderStats(queue)(quiet)).toEqual({ stats: { queueDepth: 2 } });
});

test('evidence tells no secrets that an agent says', () => {
  expect(oneLine('refused: postgres://me:hunter2@db/x, {"authorization": "Bearer abc", "api_key": "k"}')).toBe(
    'refused: ***@db/x, {"authorization": "Bearer ***", "api_key": "***"}',
  );
});

test('evidence is one line without control characters, and not long', () => {
  expect(oneLine('a\n\x1b[31mb\u202E\tc')).toBe('a [31mb c');
  expect(oneLine('x'.repeat(1000))).toHaveLength(300);
  expect(oneLine(`${'x'.repeat(298)}😀😀`).isWellFormed()).toBe(true);
});
