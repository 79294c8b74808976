/**
 * Loaded into the program with `--import`: a share of some of its calls of the file system fail, which ones depends on the seed. ($TORTURE_CALLS is
 * `<seed> <share> <code> <call>,…`.) For what libfiu cannot do: `write`, with which libuv wakes its threads, and `fsync`, without which koffi does not
 * let the program end.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { Dice } from './dice.ts';

const [seed = '', share = '0', code = 'EIO', calls = ''] = (process.env['TORTURE_CALLS'] ?? '').split(' ');
const dice = new Dice(seed);

type Call = (this: unknown, ...values: unknown[]) => unknown;

/** Puts the failing call in place of the real one, wherever it is: in the module, or in what opens files. */
function failing(holder: Record<string, Call>, name: string, isAsync: boolean): void {
  const real = holder[name];
  if (!real) return;
  holder[name] = function call(...values) {
    if (!dice.chance(Number(share))) return real.apply(this, values);
    const error = Object.assign(new Error(`${code}: as planned, ${name}`), { code, errno: -5, syscall: name });
    if (isAsync) return Promise.reject(error);
    throw error;
  };
}

const handle = await fs.promises.open('/dev/null');
const handles = Object.getPrototypeOf(handle) as Record<string, Call>;
await handle.close();
for (const name of calls.split(',')) {
  failing(handles, name, true);
  if (!(name in handles)) failing(fs.promises as unknown as Record<string, Call>, name, true);
  failing(fs as unknown as Record<string, Call>, `${name}Sync`, false);
}
failing(fs as unknown as Record<string, Call>, calls.includes('sync') ? 'fsyncSync' : '', false);
syncBuiltinESMExports();
