/**
 * Loaded into the program with `--import`: a share of its fsyncs fail with EIO, which ones depends on the seed. ($TORTURE_SYNC is `<seed> <share>`.)
 * Not by libfiu: koffi syncs the standard output when the program ends, and where that fails too it never ends.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { Dice } from './dice.ts';

const [seed = '', share = '0'] = (process.env['TORTURE_SYNC'] ?? '').split(' ');
const dice = new Dice(seed);
const mayFail = (): void => {
  if (dice.chance(Number(share)))
    throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO', errno: -5, syscall: 'fsync' });
};

const handle = await fs.promises.open('/dev/null');
const prototype = Object.getPrototypeOf(handle) as fs.promises.FileHandle;
await handle.close();
for (const name of ['sync', 'datasync'] as const) {
  const real = prototype[name];
  prototype[name] = async function failing(this: fs.promises.FileHandle) {
    mayFail();
    return real.call(this);
  };
}
for (const name of ['fsyncSync', 'fdatasyncSync'] as const) {
  const real = fs[name];
  fs[name] = (fd) => {
    mayFail();
    real(fd);
  };
}
syncBuiltinESMExports();
