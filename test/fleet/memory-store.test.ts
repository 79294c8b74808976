import { memoryStateStore } from '../../src/fleet/memory-store.ts';
import { stateStoreSuite } from './store-suite.ts';

stateStoreSuite('a store in memory', async (clock) => {
  const store = memoryStateStore(clock);
  return { one: store, other: store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
});
