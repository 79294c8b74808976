/** What the webhook is told of the fleet, against a server on this host. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import type { Told } from '../../src/fleet/guarded-run.ts';
import { tellBy } from '../../src/fleet/tell.ts';
import { seededRandom } from '../crypto/support.ts';
import { FakeClock } from '../fake-clock.ts';

const seams = { clock: new FakeClock(), random: seededRandom('tell') };

test('the webhook has the members of a run, with an exit code only where there was one', async () => {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('end', () => {
      bodies.push(body);
      response.end();
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  try {
    const tell = tellBy({ webhook: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook` }, seams);
    expect(await tell({ kind: 'watchdog', agent: 'a', message: 'a is out' })).toEqual([]);
    expect(await tell({ kind: 'dead_letter', agent: 'a', message: 'in vain', exitCode: 4 })).toEqual([]);
    const common = { agent: 'a', outcome: 'failed', snapshot: null, warnings: [], seconds: 0 };
    const time = new Date(seams.clock.now()).toISOString();
    expect(bodies.map((body) => JSON.parse(body) as unknown)).toEqual([
      { ...common, event: 'watchdog', error: { code: 'watchdog', message: 'a is out' }, time },
      { ...common, event: 'dead_letter', exitCode: 4, error: { code: 'dead_letter', message: 'in vain' }, time },
    ]);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test('without a webhook that is a warning, but for a breaker that opened', async () => {
  const tell = tellBy({}, seams);
  const told = async (kind: Told['kind']) => (await tell({ kind, agent: 'a', message: 'm' })).map(({ code }) => code);
  expect(await told('escalated')).toEqual(['nobody_told']);
  expect(await told('breaker_opened')).toEqual([]);
});
