/** A breaker whose state outlives the process: one small file for each backend. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { CLOSED, decodeBreaker, encodeBreaker, type BreakerState, type BreakerStore } from '../../policy/breaker.ts';

/** The next call is made, whatever came of those before. */
export function forgetBreaker(path: string): void {
  fileBreakerStore(path).write(CLOSED);
}

/**
 * Several processes may share the file; a state that one of them overwrites costs a call in vain and no more. Where it cannot be written, the state
 * lasts as long as the process.
 */
export function fileBreakerStore(path: string): BreakerStore {
  let own: BreakerState | undefined;
  return {
    read: () => {
      try {
        return decodeBreaker(readFileSync(path, 'utf8'));
      } catch {
        return own;
      }
    },
    write: (state) => {
      own = state;
      try {
        if (encodeBreaker(state) === encodeBreaker(CLOSED)) {
          rmSync(path, { force: true });
          return;
        }
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
        writeFileSync(`${path}.${process.pid}.new`, encodeBreaker(state), { mode: 0o600 });
        renameSync(`${path}.${process.pid}.new`, path);
      } catch {
        // remembered in `own`
      }
    },
  };
}
