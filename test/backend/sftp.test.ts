import { systemClock, systemRandom } from '../../src/clock.ts';
import { openSftp } from '../../src/backend/sftp.ts';
import { backendSuite } from '../backend-suite.ts';
import { mkdirSync, chownSync, renameSync } from 'node:fs';

const state = '/tmp/svc/sshst';
let n = 0;
backendSuite('sftp', async () => {
  const path = `${state}/data/r${process.pid}-${n++}`;
  const location = { host: '127.0.0.1', port: 2222, user: 'nobody', path, keyFiles: [`${state}/client`], knownHostsFiles: ['/tmp/svc/known_hosts'] };
  const open = (create = false) => openSftp(location, { name: 'ship', clock: systemClock, random: systemRandom, create });
  const backend = await open(true);
  return { backend, finishesLate: true, reopen: () => open(), loseStorage: async () => renameSync(path, `${path}.lost`), cleanup: () => backend[Symbol.asyncDispose]() };
});
