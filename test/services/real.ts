/** For test files: the servers of this run, and servers of one's own. */
import { request } from 'node:http';
import { inject } from 'vitest';
import { startCeph, startSshd, type Programs, type Running, type S3Server, type SftpServer } from './servers.ts';

/** A server shared with other test files, and how to start one that may be killed. */
export interface Shared<Server, Options extends unknown[] = []> {
  server: Server;
  startOwn: (...options: Options) => Promise<Server & Running & AsyncDisposable>;
}

/**
 * Ceph's S3 gateway, for `suite` (it is printed at the end of the run). Undefined where it cannot be had: then tests are skipped, and the report says so.
 * @throws instead when the environment says CI=true
 */
export async function s3Server(suite: string): Promise<Shared<S3Server> | undefined> {
  const found = await ask<S3Server>('s3', suite);
  return found && { server: found.server, startOwn: () => disposable(startCeph(found.programs)) };
}

/** OpenSSH's SFTP server; as `s3Server`. Own ones take flags of `internal-sftp`. */
export async function sftpServer(suite: string): Promise<Shared<SftpServer, string[]> | undefined> {
  const found = await ask<SftpServer>('sftp', suite);
  return found && { server: found.server, startOwn: (...flags) => disposable(startSshd(found.programs, flags)) };
}

async function disposable<Server extends Running>(starting: Promise<Server>): Promise<Server & AsyncDisposable> {
  const server = await starting;
  return { ...server, [Symbol.asyncDispose]: () => server.stop() };
}

async function ask<Server>(kind: string, suite: string): Promise<{ programs: Programs; server: Server } | undefined> {
  const text = await new Promise<string>((resolve, reject) => {
    const path = `/${kind}?suite=${encodeURIComponent(suite)}`;
    const asking = request({ host: '127.0.0.1', port: inject('testServers'), path }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.once('end', () => (response.statusCode === 200 ? resolve(text) : reject(new Error(text))));
    });
    asking.once('error', reject).end();
  });
  const answer = JSON.parse(text) as { programs: Programs; server: Server } | { missing: string };
  if (!('missing' in answer)) return answer;
  if (process.env['CI'] === 'true') throw new Error(`${suite} needs a real server: ${answer.missing}`);
  return undefined;
}
