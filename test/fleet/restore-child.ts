/** A process that restores the state of an agent, and is killed (by itself) right after it has moved a folder aside for the n-th time. */
import fs, { existsSync, readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { commandRunner } from '../../src/fleet/actions.ts';
import { restoreState, type RestoreStateOptions } from '../../src/fleet/restore-state.ts';
import { noProgress } from '../../src/progress.ts';
import { health } from './healths.ts';

const [text = '', nth = ''] = process.argv.slice(2);
const options = JSON.parse(text) as Pick<RestoreStateOptions, 'backends' | 'root' | 'secret' | 'stop' | 'start'>;
let left = Number(nth);
const { renameSync } = fs;
fs.renameSync = (from, to) => {
  renameSync(from, to);
  if (String(to).includes('.aside-') && --left === 0) process.kill(process.pid, 'SIGKILL');
};
syncBuiltinESMExports();
const memory = join(options.root, 'MEMORY.md');
await restoreState(
  {
    ...options,
    ...{ agent: 'ada', withinMs: 0, most: 3, env: { HOLDFAST_AGENT: 'ada' } },
    run: commandRunner({ folder: '/', env: { PATH: process.env['PATH'] }, timeoutMs: 60_000 }, systemClock),
    look: async () => {
      const isWell = existsSync(memory) && readFileSync(memory, 'utf8').startsWith('good');
      return health('ada', { live: isWell ? 'ok' : 'down' }, 0);
    },
  },
  { clock: systemClock, random: systemRandom, progress: noProgress, signal: new AbortController().signal },
);
