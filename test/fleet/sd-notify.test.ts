import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadSender, sendsItself, serviceManager } from '../../src/fleet/sd-notify.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';

const hasPython = spawnSync('python3', ['-c', '']).status === 0;

/** A service manager that prints what it is told, a JSON document a datagram. */
const LISTENER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind("\\0" + name[1:] if name.startswith("@") else name)
print("ready", flush=True)
while True: print(json.dumps(s.recv(4096).decode()), flush=True)
`;

async function listening(socket: string) {
  const child = spawn('python3', ['-c', LISTENER, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe('ready');
  return {
    next: async () => JSON.parse(String((await lines.next()).value)) as string,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await once(child, 'close');
    },
  };
}

describe.skipIf(!hasPython || process.platform !== 'linux')('messages arrive at a real datagram socket', () => {
  test.each(['path', 'abstract'])('by its %s name, each whole', async (kind) => {
    const folder = temporaryFolder();
    try {
      const socket = kind === 'path' ? join(folder, 'notify') : `@holdfast-test-${process.pid}`;
      await using listener = await listening(socket);
      const manager = serviceManager({ NOTIFY_SOCKET: socket, PATH: process.env['PATH'] }, 1);
      await manager?.notify('READY=1', 'STATUS=12 of 12 agents\nhealthy');
      expect(await listener.next()).toBe('READY=1\nSTATUS=12 of 12 agents healthy');
      await manager?.notify('WATCHDOG=1');
      expect(await listener.next()).toBe('WATCHDOG=1');
    } finally {
      removeFolder(folder);
    }
  });
});

test('where nobody listens nothing fails', async () => {
  const manager = serviceManager({ NOTIFY_SOCKET: '/nowhere/at/all', PATH: process.env['PATH'] }, 1);
  await expect(manager?.notify('READY=1')).resolves.toBeUndefined();
  await expect(serviceManager({ NOTIFY_SOCKET: `/${'x'.repeat(200)}` }, 1)?.notify('READY=1')).resolves.toBeUndefined();
});

test('without a service manager there is none; the watchdog is ours only where it is meant for us', () => {
  expect(serviceManager({}, 1)).toBeUndefined();
  expect(serviceManager({ NOTIFY_SOCKET: 'relative' }, 1)).toBeUndefined();
  const of = (env: Record<string, string>) => serviceManager({ NOTIFY_SOCKET: '/x', ...env }, 7)?.watchdogMs;
  expect(of({})).toBeUndefined();
  expect(of({ WATCHDOG_USEC: '60000000' })).toBe(60_000);
  expect(of({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' })).toBe(60_000);
  expect(of({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '8' })).toBeUndefined();
});

test('without koffi there is no sender of our own', () => {
  const missing = () => {
    throw new Error('not installed');
  };
  expect(loadSender(missing)).toBeUndefined();
  expect(sendsItself()).toBe(loadSender(() => createRequire(import.meta.url)('koffi') as unknown) !== undefined);
});
