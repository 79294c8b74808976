/**
 * For vitest's `globalSetup`: one server of each kind for all test files of a run, started when the first asks for it (real.ts) and taken down at
 * the end, when it is printed which suite ran against what. Where a real one cannot be had, an embedded one stands in; under CI=true none does.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestProject } from 'vitest/node';
import { S3_GAPS, startEmbeddedS3 } from './embedded-s3.ts';
import { SFTP_GAPS, startEmbeddedSftp } from './embedded-sftp.ts';
import { cephPrograms, sshdPrograms, startCeph, startSshd, type Programs, type Running } from './servers.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The port on loopback at which test files ask for servers. */
    testServers: number;
  }
}

/** `missing`: why there is no real one. */
type Answer = { programs: Programs; server: Running } | { missing: string; server?: Running };

const KINDS = {
  s3: { programs: cephPrograms, start: startCeph, standIn: startEmbeddedS3, gaps: S3_GAPS },
  sftp: { programs: sshdPrograms, start: startSshd, standIn: startEmbeddedSftp, gaps: SFTP_GAPS },
};

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const asked = new Map<string, Promise<Answer>>();
  const running: Running[] = [];
  const report = new Set<string>();

  async function answer(kind: string, suite: string): Promise<Answer> {
    if (!(kind === 's3' || kind === 'sftp')) throw new Error(`no such server: ${kind}`);
    let found = asked.get(kind);
    if (!found) asked.set(kind, (found = start(kind)));
    const answer = await found;
    report.add(`${suite}: ${title(kind, answer)}`);
    return answer;
  }

  async function start(kind: keyof typeof KINDS): Promise<Answer> {
    const answer = await find(kind);
    if (answer.server) running.push(answer.server);
    return answer;
  }

  async function find(kind: keyof typeof KINDS): Promise<Answer> {
    try {
      if (process.env['HOLDFAST_TEST_SERVERS'] === 'none') throw new Error('HOLDFAST_TEST_SERVERS is none');
      const programs = await KINDS[kind].programs((line) => console.log(line));
      return { programs, server: await KINDS[kind].start(programs) };
    } catch (error) {
      const missing = error instanceof Error ? error.message : String(error);
      return process.env['CI'] === 'true' ? { missing } : { missing, server: await KINDS[kind].standIn() };
    }
  }

  const control = createServer((request: IncomingMessage, response: ServerResponse) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://control');
    answer(pathname.slice(1), searchParams.get('suite') ?? '').then(
      (found) => response.end(JSON.stringify(found)),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  await new Promise<void>((resolve) => void control.listen(0, '127.0.0.1', resolve));
  project.provide('testServers', (control.address() as AddressInfo).port);

  return async () => {
    control.closeAllConnections();
    control.close();
    await Promise.all(running.map((server) => server.stop()));
    if (report.size > 0)
      console.log(
        `\nServers that suites ran against:\n${[...report]
          .sort()
          .map((line) => `  ${line}\n`)
          .join('')}`,
      );
  };
}

function title(kind: keyof typeof KINDS, answer: Answer): string {
  if ('programs' in answer) return answer.programs.title;
  if (!answer.server) return `FAILED, ${answer.missing}`;
  return `embedded stand-in (lacks ${KINDS[kind].gaps.join(', ')}), because: ${answer.missing}`;
}
