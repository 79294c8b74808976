/** For test files: the servers of this run, and servers of one's own. */
import { request } from 'node:http';
import { inject } from 'vitest';
import { startEmbeddedS3, S3_GAPS } from './embedded-s3.ts';
import { startEmbeddedSftp, SFTP_GAPS } from './embedded-sftp.ts';
import { startCeph, startSshd, type Programs, type Running, type S3Server, type SftpServer } from './servers.ts';

/** A server shared with other test files, and how to start one that may be killed. */
export interface Shared<Server, Gap, Options extends unknown[] = []> {
  server: Server;
  /** What it lacks: of a real one nothing. Tests that need it are skipped. */
  gaps: readonly Gap[];
  startOwn: (...options: Options) => Promise<Server & Running & AsyncDisposable>;
}

/**
 * Ceph's S3 gateway, for `suite` (it is printed at the end of the run), or what stands in where that cannot be had.
 * @throws instead when the environment says CI=true
 */
export async function s3Server(suite: string): Promise<Shared<S3Server, (typeof S3_GAPS)[number]>> {
  const { server, programs } = await ask<S3Server>('s3', suite);
  return {
    server,
    gaps: programs ? [] : S3_GAPS,
    startOwn: () => disposable(programs ? startCeph(programs) : startEmbeddedS3()),
  };
}

/** OpenSSH's SFTP server; as `s3Server`. Own ones take flags of `internal-sftp`. */
export async function sftpServer(suite: string): Promise<Shared<SftpServer, (typeof SFTP_GAPS)[number], string[]>> {
  const { server, programs } = await ask<SftpServer>('sftp', suite);
  return {
    server,
    gaps: programs ? [] : SFTP_GAPS,
    startOwn: (...flags) => disposable(programs ? startSshd(programs, flags) : startEmbeddedSftp(flags)),
  };
}

async function disposable<Server extends Running>(starting: Promise<Server>): Promise<Server & AsyncDisposable> {
  const server = await starting;
  return { ...server, [Symbol.asyncDispose]: () => server.stop() };
}

/** Without programs, the server is a stand-in. */
async function ask<Server>(kind: string, suite: string): Promise<{ programs?: Programs; server: Server }> {
  const text = await new Promise<string>((resolve, reject) => {
    const path = `/${kind}?suite=${encodeURIComponent(suite)}`;
    const asking = request({ host: '127.0.0.1', port: inject('testServers'), path }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.once('end', () => (response.statusCode === 200 ? resolve(text) : reject(new Error(text))));
    });
    asking.once('error', reject).end();
  });
  const { missing, server, programs } = JSON.parse(text) as { missing?: string; server?: Server; programs?: Programs };
  if (!server) throw new Error(`${suite} needs a real server: ${missing}`);
  return programs ? { server, programs } : { server };
}
