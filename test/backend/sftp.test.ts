/** The SFTP backend on a server (services/real.ts). What connections do to it is in sftp-faults.test.ts. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { systemClock, systemRandom, type Clock } from '../../src/clock.ts';
import type { HoldfastError } from '../../src/errors.ts';
import { openSftp, type SftpBackend } from '../../src/backend/sftp.ts';
import type { SftpLocation } from '../../src/backend/sftp-session.ts';
import { expectSame, keysAndSizes, patterned, rejects } from '../backend-helpers.ts';
import { backendSuite, ON_SERVER } from '../backend-suite.ts';
import { sftpServer } from '../services/real.ts';
import type { SftpServer } from '../services/servers.ts';

const HOUR_MS = 3_600_000;
const sftp = await sftpServer('SFTP backend');

describe('an SFTP backend', () => {
  const { server } = sftp;
  let temporary: string;
  let opened: SftpBackend[] = [];
  let folders = 0;

  beforeAll(async () => {
    temporary = await fs.mkdtemp(join(tmpdir(), 'holdfast-sftp-'));
  });
  afterEach(async () => {
    for (const backend of opened) await backend[Symbol.asyncDispose]();
    opened = [];
  });
  afterAll(() => fs.rm(temporary, { recursive: true }));

  function locationOn(at: SftpServer, more: Partial<SftpLocation> = {}): SftpLocation {
    const { host, port, user, keyFile, knownHostsFile } = at;
    const path = join(at.folder, `own-${++folders}`);
    return { host, port, user, path, keyFiles: [keyFile], knownHostsFiles: [knownHostsFile], ...more };
  }

  async function open(
    location: SftpLocation = locationOn(server),
    { create = true, clock = systemClock }: { create?: boolean; clock?: Clock } = {},
  ): Promise<SftpBackend> {
    const backend = await openSftp(location, { name: 'ship', clock, random: systemRandom, create });
    opened.push(backend);
    return backend;
  }
  const refused = async (location: SftpLocation, message: string | RegExp): Promise<HoldfastError> => {
    const error = (await rejects(open(location), 'backend_unavailable')) as HoldfastError;
    expect(error.message).toMatch(message);
    return error;
  };
  const fingerprintOf = (file: string): string =>
    /SHA256:\S+/.exec(execFileSync('ssh-keygen', ['-l', '-f', file], { encoding: 'utf8' }))?.[0] ?? '?';
  const newKey = (name: string, ...more: string[]): string => {
    const file = join(temporary, name);
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file, ...more]);
    return file;
  };
  const namesBelow = async (path: string) => (await fs.readdir(path, { recursive: true })).sort();

  backendSuite(
    'sftp',
    async () => {
      const location = locationOn(server);
      const reopen = (create = false) =>
        openSftp(location, { name: 'ship', clock: systemClock, random: systemRandom, create });
      const backend = await reopen(true);
      return {
        backend,
        finishesLate: true,
        reopen: () => reopen(),
        loseStorage: () => fs.rename(location.path, `${location.path}.lost`),
        async cleanup() {
          await backend[Symbol.asyncDispose]();
          await fs.rm(location.path, { recursive: true, force: true });
        },
      };
    },
    ON_SERVER,
  );

  describe('logging in', () => {
    test('to a host that is not known is refused, and its fingerprint is shown', async () => {
      const error = await refused(locationOn(server, { knownHostsFiles: ['/no/such/file'] }), 'is not known');
      const [, , key = ''] = (await fs.readFile(server.knownHostsFile, 'utf8')).split(' ');
      expect(key).toMatch(/^AAAA/);
      expect(error.message).toContain(fingerprintOf(server.knownHostsFile));
      expect(error.hint).toContain(`ssh-keyscan -p ${server.port} 127.0.0.1`);
      expect(error.retryable).toBe(false);
    });

    test('to a host with another key than the known one is refused, and both fingerprints are shown', async () => {
      const other = newKey('other-host');
      const knownHosts = join(temporary, 'changed');
      await fs.writeFile(knownHosts, `[127.0.0.1]:${server.port} ${await fs.readFile(`${other}.pub`, 'utf8')}`);
      const error = await refused(locationOn(server, { knownHostsFiles: [knownHosts] }), 'has CHANGED');
      expect(error.message).toContain(fingerprintOf(server.knownHostsFile));
      expect(error.message).toContain(fingerprintOf(other));
      expect(error.hint).toContain('in the middle');
      expect(error.retryable).toBe(false);
    });

    test('to a host whose key is known of another type only is refused', async () => {
      const file = join(temporary, 'rsa');
      execFileSync('ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', file]);
      const knownHosts = join(temporary, 'other-type');
      await fs.writeFile(knownHosts, `[127.0.0.1]:${server.port} ${await fs.readFile(`${file}.pub`, 'utf8')}`);
      const error = await refused(locationOn(server, { knownHostsFiles: [knownHosts] }), 'none of the host keys');
      expect(error.retryable).toBe(false);
    });

    test('to a host whose key is revoked is refused', async () => {
      const knownHosts = join(temporary, 'revoked');
      const known = await fs.readFile(server.knownHostsFile, 'utf8');
      await fs.writeFile(knownHosts, `${known}@revoked * ${known.split(' ').slice(1).join(' ')}`);
      await refused(locationOn(server, { knownHostsFiles: [knownHosts] }), 'is revoked');
    });

    test('to a host whose name is hashed in known_hosts', async () => {
      const knownHosts = join(temporary, 'hashed');
      await fs.copyFile(server.knownHostsFile, knownHosts);
      execFileSync('ssh-keygen', ['-H', '-f', knownHosts], { stdio: 'ignore' });
      expect(await fs.readFile(knownHosts, 'utf8')).toMatch(/^\|1\|/);
      await open(locationOn(server, { knownHostsFiles: ['/no/such/file', knownHosts] }));
    });

    test('with a key that is not let in says so', async () => {
      const error = await refused(locationOn(server, { keyFiles: [newKey('stranger')] }), 'with none of the keys');
      expect(error.message).toContain(server.user);
      expect(error.hint).toContain('authorized_keys');
      expect(error.retryable).toBe(false);
    });

    test('with several keys tries each', async () => {
      await open(locationOn(server, { keyFiles: ['/no/such/key', newKey('second'), server.keyFile] }));
    });

    test('with no key at all says where it looked', async () => {
      const error = await refused(locationOn(server, { keyFiles: ['/no/such/key'] }), 'no SSH key');
      expect(error.hint).toContain('/no/such/key');
    });

    test('with a key under a passphrase says to give it to an agent, and tries the others', async () => {
      const keyFile = join(temporary, 'encrypted');
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', 'hunter2', '-f', keyFile]);
      const error = await refused(locationOn(server, { keyFiles: [keyFile] }), `${keyFile} is under a passphrase`);
      expect(error.hint).toContain('ssh-add');
      expect(error.retryable).toBe(false);
      const stranger = newKey('other-stranger');
      await refused(locationOn(server, { keyFiles: [keyFile, stranger] }), `none of the keys; ${keyFile} is under`);
      await open(locationOn(server, { keyFiles: [keyFile, server.keyFile] }));
    });

    test('with a file that is no key names it', async () => {
      const keyFile = join(temporary, 'no-key');
      await fs.writeFile(keyFile, 'secret-hunter2');
      const error = await refused(locationOn(server, { keyFiles: [keyFile] }), `${keyFile} is no private key`);
      expect(error.message).not.toContain('hunter2');
      expect(error.retryable).toBe(false);
    });

    test('by an agent', async () => {
      const agentSocket = join(temporary, 'agent');
      const agent = spawn('ssh-agent', ['-D', '-a', agentSocket], { stdio: 'ignore' });
      try {
        const isThere = () => fs.stat(agentSocket).then(Boolean, () => false);
        while (!(await isThere())) await new Promise((resolve) => setImmediate(resolve));
        const byAgent = { keyFiles: [], agentSocket };
        const error = await refused(locationOn(server, byAgent), 'with none of the keys');
        expect(error.retryable).toBe(false);
        const key = join(temporary, 'for-agent');
        await fs.copyFile(server.keyFile, key);
        await fs.chmod(key, 0o600);
        execFileSync('ssh-add', ['-q', key], { env: { ...process.env, SSH_AUTH_SOCK: agentSocket }, stdio: 'ignore' });
        await (await open(locationOn(server, byAgent))).put('a', patterned(3, 1));
      } finally {
        agent.kill();
        await once(agent, 'exit');
      }
    });

    test('by an agent that is not there fails', async () => {
      await refused(locationOn(server, { keyFiles: [], agentSocket: '/no/such/agent' }), /agent|none of the keys/);
    });

    test('where nobody listens is worth another try', async () => {
      const error = await refused(locationOn(server, { port: 1 }), 'ECONNREFUSED');
      expect(error.retryable).toBe(true);
    });
  });

  describe('its folder', () => {
    test('that is not there is refused, and made only when told to', async () => {
      const location = locationOn(server);
      const error = (await rejects(open(location, { create: false }), 'backend_unavailable')) as HoldfastError;
      expect(error.message).toContain(`${location.path} is not there`);
      await open(location);
      expect((await fs.stat(location.path)).mode & 0o777).toBe(0o700);
      await open(location, { create: false });
    });

    test('can be relative to where the server puts the user', async () => {
      const backend = await open(locationOn(server, { path: 'relative/place' }));
      await backend.put('a', patterned(3, 1));
      expect(await keysAndSizes(backend, '')).toEqual([['a', 3]]);
      expect(await namesBelow(join(server.folder, 'relative/place'))).toEqual(['a', 'tmp']);
    });

    test('that is a file is refused', async () => {
      const location = locationOn(server);
      await fs.writeFile(location.path, '');
      await rejects(open(location, { create: false }), 'backend_unavailable');
      await rejects(open(location, { create: true }), 'backend_unavailable');
    });

    test('keeps objects as files that only their owner can read, and nothing else', async () => {
      const location = locationOn(server);
      const backend = await open(location);
      await backend.put('packs/ab/one', patterned(100, 1), { ifAbsent: true });
      expect(await namesBelow(location.path)).toEqual(['packs', 'packs/ab', 'packs/ab/one', 'tmp']);
      const { mode } = await fs.stat(join(location.path, 'packs/ab/one'));
      expect(mode & 0o777).toBe(0o600);
    });

    test('is cleared of files that a put left a day ago', async () => {
      const location = locationOn(server);
      await (await open(location)).put('a', patterned(3, 1));
      await fs.writeFile(join(location.path, 'tmp/left'), 'x');
      await open(location);
      expect(await namesBelow(location.path)).toEqual(['a', 'tmp', 'tmp/left']);
      const clock = { ...systemClock, now: () => systemClock.now() + 25 * HOUR_MS };
      await fs.chmod(join(location.path, 'tmp'), 0o777);
      await open(location, { clock });
      expect(await namesBelow(location.path)).toEqual(['a', 'tmp']);
    });

    test('of which somebody took a part away is made whole again', async () => {
      const location = locationOn(server);
      const backend = await open(location);
      await backend.put('packs/ab/one', patterned(3, 1));
      for (const gone of ['packs', 'tmp']) {
        await fs.rm(join(location.path, gone), { recursive: true });
        expect(await backend.put(`packs/ab/without-${gone}`, patterned(3, 1), { ifAbsent: true })).toBe('created');
        await backend.put(`packs/ab/without-${gone}`, patterned(4, 1));
      }
    });

    test('that may not be written leaves nothing half done, and says to look at owner and mode', async () => {
      const location = locationOn(server);
      const backend = await open(location);
      await backend.put('packs/ab/one', patterned(10, 1));
      const closed = join(location.path, 'packs/ab');
      await fs.chmod(closed, 0o555);
      try {
        // The file in tmp/ is written; giving it its name fails.
        for (const ifAbsent of [true, false]) {
          const put = backend.put('packs/ab/two', patterned(10, 2), { ifAbsent });
          const error = (await rejects(put, 'backend_unavailable')) as HoldfastError;
          expect(error.hint).toContain('owner and mode');
          expect(error.retryable).toBe(false);
        }
        await rejects(backend.put('packs/ab/one', patterned(20, 2)), 'backend_unavailable');
        await rejects(backend.delete('packs/ab/one'), 'backend_unavailable');
        expect(await namesBelow(location.path)).toEqual(['packs', 'packs/ab', 'packs/ab/one', 'tmp']);
        expectSame(await backend.get('packs/ab/one'), patterned(10, 1));
      } finally {
        await fs.chmod(closed, 0o755);
      }
    });

    const mount = (place: string) => {
      try {
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=777', 'tmpfs', place], { stdio: 'ignore' });
        return true;
      } catch {
        return false;
      }
    };
    test('on a disk that is full refuses, leaves nothing, and stores again when there is room', async (context) => {
      const place = join(server.folder, 'small-disk');
      await fs.mkdir(place);
      if (!mount(place)) return context.skip('no small disk can be mounted here');
      try {
        const backend = await open(locationOn(server, { path: join(place, 'own') }));
        await backend.put('packs/ab/one', patterned(500_000, 1), { ifAbsent: true });
        for (const ifAbsent of [true, false]) {
          const put = backend.put('packs/ab/two', patterned(900_000, 2), { ifAbsent });
          const error = (await rejects(put, 'backend_unavailable')) as HoldfastError;
          expect(error.hint).toContain('disk is full');
        }
        await rejects(backend.put('packs/ab/one', patterned(900_000, 2)), 'backend_unavailable');
        expect(await namesBelow(place)).toEqual(['own', 'own/packs', 'own/packs/ab', 'own/packs/ab/one', 'own/tmp']);
        expectSame(await backend.get('packs/ab/one'), patterned(500_000, 1));
        await backend.delete('packs/ab/one');
        await backend.put('packs/ab/two', patterned(900_000, 2), { ifAbsent: true });
      } finally {
        execFileSync('umount', ['-l', place]);
      }
    });
  });

  describe('a server', () => {
    test('of OpenSSH offers all that is asked for', async () => {
      expect(await (await open()).capabilities()).toEqual({ hardLinks: true, fsync: true, atomicReplace: true });
    });

    test('without any extension stores and replaces all the same, and does not replace what is there', async () => {
      await using plain = await sftp.startOwn('-P', 'hardlink,posix-rename,fsync');
      const location = locationOn(plain);
      const backend = await open(location);
      expect(await backend.capabilities()).toEqual({ hardLinks: false, fsync: false, atomicReplace: false });
      expect(await backend.put('packs/ab/one', patterned(10, 1), { ifAbsent: true })).toBe('created');
      expect(await backend.put('packs/ab/one', patterned(10, 2), { ifAbsent: true })).toBe('exists');
      expect(await backend.put('packs/ab/one', patterned(10, 3))).toBe('created');
      expectSame(await backend.get('packs/ab/one'), patterned(10, 3));
      const bodies = Array.from({ length: 8 }, (_, i) => patterned(50 + i, i));
      const outcomes = await Promise.all(bodies.map((bytes) => backend.put('race', bytes, { ifAbsent: true })));
      expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1);
      expectSame(await backend.get('race'), bodies[outcomes.indexOf('created')]);
      expect(await namesBelow(join(location.path, 'tmp'))).toEqual([]);
    });

    test.each([true, false])(
      'whose rename fails keeps what was there, and nothing half (absent: %s)',
      async (ifAbsent) => {
        const location = locationOn(server);
        const backend = await open(location);
        await backend.put('packs/ab/one', patterned(500_000, 1));
        const folder = join(location.path, 'packs/ab');
        await fs.chmod(folder, 0o555); // the temporary file can be written, and not put in its place
        const key = ifAbsent ? 'packs/ab/two' : 'packs/ab/one';
        const error = (await rejects(
          backend.put(key, patterned(9, 2), { ifAbsent }),
          'backend_unavailable',
        )) as HoldfastError;
        expect(error.message).toContain(key);
        expect(error.retryable).toBe(false);
        await fs.chmod(folder, 0o755);
        expect(await namesBelow(location.path)).toEqual(['packs', 'packs/ab', 'packs/ab/one', 'tmp']);
        expectSame(await backend.get('packs/ab/one'), patterned(500_000, 1));
        expect(await backend.put(key, patterned(9, 2), { ifAbsent })).toBe('created');
      },
    );

    test('that lets nobody write gives what is there', async () => {
      const location = locationOn(server);
      await (await open(location)).put('a', patterned(10, 1));
      await fs.chmod(location.path, 0o755);
      await using reader = await sftp.startOwn('-R');
      const backend = await open({ ...locationOn(reader), path: location.path }, { create: false });
      expectSame(await backend.get('a'), patterned(10, 1));
      const error = (await rejects(backend.put('b', patterned(10, 1)), 'backend_unavailable')) as HoldfastError;
      expect(error.retryable).toBe(false);
      await rejects(backend.delete('a'), 'backend_unavailable');
    });
  });
});
