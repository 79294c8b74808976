/** A bucket to work in, on a real server of the benchmark's own. */
import { newBucket } from '../services/bucket.ts';
import { cephPrograms, startCeph } from '../services/servers.ts';
import type { Bucket } from './tools.ts';

/**
 * restic 0.19 leaves a header of its uploads out of the signature, which Ceph has refused since it closed a hole (CVE-2026-54330). The server is on
 * loopback, for nobody else, and gone in minutes.
 */
const AS_RESTIC_SIGNS = 'rgw_sigv4_insecure = true';

/**
 * Starts an S3 server (Ceph's, from Debian packages, which are fetched once), makes a bucket, and stops the server when `use` is done with it. It
 * answers without Nagle's delay, or every program would wait 40 ms for most answers. A server that cannot be had is no error.
 */
export async function withBucket<T extends object>(
  log: (line: string) => void,
  use: (bucket: Bucket, server: string) => Promise<T>,
): Promise<T | { missing: string }> {
  const found = await server(log).catch((error: unknown) => ({
    missing: error instanceof Error ? error.message : String(error),
  }));
  if ('missing' in found) {
    log(`s3 is left out: ${found.missing}`);
    return { missing: found.missing };
  }
  try {
    const { name, client } = await newBucket(found);
    client.destroy();
    return await use({ endpoint: found.endpoint, name, credentials: found.credentials }, found.title);
  } finally {
    await found.stop();
  }
}

async function server(log: (line: string) => void) {
  if (process.env['HOLDFAST_TEST_SERVERS'] === 'none') throw new Error('HOLDFAST_TEST_SERVERS is none');
  const programs = await cephPrograms(log);
  return { ...(await startCeph(programs, AS_RESTIC_SIGNS)), title: programs.title };
}
