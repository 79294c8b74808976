/** Storage whose listing lags behind what was written: an object can be read before it is listed. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { collect } from '../backend-helpers.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import { makeAgent } from './support.ts';

/** Stores of which those in `slow` list, from `freeze` to `thaw`, what they held at `freeze`. */
function lagging(slow: readonly string[]) {
  const shown = new Map<string, Set<string>>();
  const inner = new Map<string, Backend>();
  const stores = (name: string): FaultyBackend => {
    const memory = createMemory(name);
    inner.set(name, memory);
    const list: Backend['list'] = async function* (prefix, options) {
      for await (const object of memory.list(prefix, options))
        if (shown.get(name)?.has(object.key) ?? true) yield object;
    };
    return new FaultyBackend({ ...memory, list }, { name });
  };
  const freeze = async () => {
    for (const [name, memory] of inner) {
      if (slow.includes(name)) shown.set(name, new Set((await collect(memory.list(''))).map(({ key }) => key)));
    }
  };
  return { stores, freeze, thaw: () => shown.clear() };
}

test.each([
  ['every backend', ['a', 'b'], ['rolled_back']],
  ['one of two', ['b'], []],
])('backups go on in one chain, and nothing is lost, while the listing of %s lags', async (_, slow, told) => {
  const lag = lagging(slow);
  await using agent = await makeAgent({ stores: lag.stores });
  const backup = async (text: string) => {
    writeFileSync(join(agent.state, 'MEMORY.md'), text.repeat(1000));
    const { snapshot, backends, warnings } = await agent.backup();
    expect(backends.map(({ state }) => state)).toEqual(['committed', 'committed']);
    return { snapshot, warnings: warnings.map(({ code }) => code).filter((code) => code !== 'levelled') };
  };
  const first = await backup('first');
  await lag.freeze();
  const second = await backup('second');
  const third = await backup('third');
  // A backend that no longer shows what this host stored cannot be told from one that lost it: the snapshot is made, and it is said.
  expect(third.warnings).toEqual(told);
  expect([second, third].map(({ snapshot }) => snapshot.parent)).toEqual([first.snapshot.id, second.snapshot.id]);
  lag.thaw();
  const last = await backup('last');
  expect(last.warnings).toEqual([]);
  expect(last.snapshot).toMatchObject({ seq: first.snapshot.seq + 3, parent: third.snapshot.id });
  expect(await agent.verify('chunks')).toMatchObject({ damaged: [], complete: true });
  expect((await agent.sync()).backends.map(({ objects }) => objects)).toEqual([0, 0]);
  for (const [i, text] of ['first', 'second', 'third', 'last'].entries()) {
    const { id } = [first, second, third, last][i]?.snapshot ?? last.snapshot;
    const target = join(agent.folder, text);
    await agent.restore(target, { snapshot: id });
    expect(readFileSync(join(target, 'MEMORY.md'), 'utf8')).toBe(text.repeat(1000));
  }
});
