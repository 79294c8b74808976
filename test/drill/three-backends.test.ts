/** Drills of an agent on a folder, S3 and SFTP. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openBackend } from '../../src/backend/open.ts';
import type { Backend } from '../../src/backend/backend.ts';
import type { BackendAddress } from '../../src/operations/backends.ts';
import { newBucket } from '../services/bucket.ts';
import { s3Server, sftpServer } from '../services/real.ts';
import type { Running, S3Server } from '../services/servers.ts';
import { checkIn, drilledAgent, failures, type Drilled } from './support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { contentOf } from '../operations/support.ts';

const s3 = await s3Server('drills on a folder, S3 and SFTP');
const sftp = await sftpServer('drills on a folder, S3 and SFTP');

describe('an agent on a folder, S3 and SFTP', () => {
  const folder = temporaryFolder();
  let server: S3Server & Running & AsyncDisposable;
  let agent: Drilled;
  let addresses: BackendAddress[];
  const opened = async <T>(work: (backend: Backend) => Promise<T>): Promise<T[]> => {
    const results: T[] = [];
    const { clock, random } = agent.seams();
    for (const address of addresses) {
      await using backend = await openBackend(address, { clock, random });
      results.push(await work(backend));
    }
    return results;
  };

  beforeAll(async () => {
    server = await s3.startOwn(); // of its own, since it is stopped
    vi.stubEnv('AWS_ACCESS_KEY_ID', server.credentials.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', server.credentials.secretAccessKey);
    const bucket = await newBucket(server);
    const { host, port, user, keyFile, knownHostsFile, folder: place } = sftp.server;
    mkdirSync(join(folder, 'disk'));
    addresses = [
      { name: 'disk', url: pathToFileURL(join(folder, 'disk')).href },
      { name: 'cloud', url: `s3://${bucket.name}/ada?endpoint=${server.endpoint}` },
      {
        name: 'ship',
        url: `sftp://${user}@${host}:${port}${place}/drill-${process.pid}?key=${keyFile}&knownHosts=${knownHostsFile}`,
      },
    ];
    agent = await drilledAgent({ addresses });
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await agent[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    removeFolder(folder);
  });

  test('passes every scenario, and every backend holds what it held', { timeout: 240_000 }, async () => {
    const before = await opened(contentOf);
    const secret = { kind: 'root', root: agent.root } as const;
    const result = await agent.drill([], { secrets: { words: secret, shares: secret } });
    expect(failures(result)).toEqual({});
    expect(result).toMatchObject({ ok: true, notRun: [] });
    expect(result.scenarios).toHaveLength(14);
    expect(await opened(contentOf)).toEqual(before);
  });

  test(
    'with the network to one cut in the middle it ends, names it, and goes on with the others',
    { timeout: 240_000 },
    async () => {
      const cut = async (name: string) => {
        if (name === 'drill lost-backend:disk') await server.stop();
      };
      let cutting: Promise<void> | undefined;
      const progress = (event: { type: string; name?: string }) =>
        void (cutting ??= event.name === 'drill lost-backend:disk' ? cut(event.name) : undefined);
      const result = await agent.drill(['lost-host', 'lost-backend:disk', 'lost-all-but:ship'], {}, { progress });
      await cutting;
      expect(result.backends.map(({ name, ok }) => [name, ok])).toEqual([
        ['disk', true],
        ['cloud', false],
        ['ship', true],
      ]);
      expect(failures(result)).toEqual({ 'lost-backend:disk': ['backends'] });
      expect(checkIn(result, 'lost-backend:disk', 'backends').detail).toContain('cloud');
    },
  );
});
