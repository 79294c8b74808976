import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // The program is built, as users have it; servers are started when a test asks for them.
    globalSetup: ['test/build.ts', 'test/services/setup.ts'],
    // For the programs and threads that tests start from sources: without it each strips the types of all that it imports anew.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL('.cache/compiled', import.meta.url)) },
    // More than there are cores: much of the time is spent in waiting for programs that the tests start.
    maxWorkers: '150%',
    // A test never waits for real time, but the machine may be slow: generous, so that only a hang fails.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
