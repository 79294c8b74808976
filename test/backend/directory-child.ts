/**
 * A process of its own for the tests of the directory backend: puts one object, under the circumstances that its arguments give, and
 * prints how it went as JSON. Run as `node directory-child.ts FOLDER KEY BYTES [dieAtCall=N] [unprivileged] [ifAbsent]`.
 *
 * With `dieAtCall` it kills itself, by a real SIGKILL, right before its N-th call to the file system that changes or syncs something.
 */
import { promises } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { HoldfastError } from '../../src/errors.ts';
import { openDirectory } from '../../src/backend/directory.ts';

const [folder = '', key = '', length = '', ...options] = process.argv.slice(2);
const dieAtCall = Number(
  options.find((option) => option.startsWith('dieAtCall='))?.slice('dieAtCall='.length) ?? Infinity,
);

// As an ordinary user, whom modes bind; root is bound by none.
if (options.includes('unprivileged') && process.getuid?.() === 0) {
  process.setgroups?.([]);
  process.setgid?.(65534);
  process.setuid?.(65534);
}

let calls = 0;
function dying<A extends unknown[], R>(call: (...args: A) => R): (this: unknown, ...args: A) => R {
  return function (...args) {
    if (++calls === dieAtCall) process.kill(process.pid, 'SIGKILL');
    return call.apply(this, args);
  };
}
const probe = await promises.open(folder, 'r');
const handle: Pick<typeof probe, 'sync' | 'write'> = Object.getPrototypeOf(probe);
await probe.close();
handle.sync = dying(handle.sync);
handle.write = dying(handle.write) as typeof handle.write;
promises.open = dying(promises.open);
promises.mkdir = dying(promises.mkdir) as typeof promises.mkdir;
promises.link = dying(promises.link);
promises.rename = dying(promises.rename);
promises.unlink = dying(promises.unlink);
syncBuiltinESMExports();

try {
  await using backend = await openDirectory(folder, { name: 'disk', clock: systemClock, random: systemRandom });
  const outcome = await backend.put(key, new Uint8Array(Number(length)).fill(7), {
    ifAbsent: options.includes('ifAbsent'),
  });
  console.log(JSON.stringify({ outcome, calls }));
} catch (error) {
  if (!(error instanceof HoldfastError)) throw error;
  console.log(JSON.stringify({ code: error.code, message: error.message, hint: error.hint }));
}
