import { createMemory } from '../../src/backend/memory.ts';
import { backendSuite } from '../backend-suite.ts';
import { FaultyBackend } from '../faulty-backend.ts';

backendSuite('memory', async () => {
  const backend = createMemory('memory');
  return { backend, cleanup: async () => backend[Symbol.asyncDispose]() };
});

backendSuite('a faulty backend without a fault planned', async () => {
  const backend = new FaultyBackend(createMemory('memory'));
  return { backend, cleanup: () => backend[Symbol.asyncDispose]() };
});
