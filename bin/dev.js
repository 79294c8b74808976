#!/usr/bin/env node
// For development: runs the TypeScript sources in src/ as they are (Node strips the types).
import { fileURLToPath } from 'node:url';
import { preflight } from './preflight.js';

const root = fileURLToPath(new URL('..', import.meta.url));
preflight(`${root}/.cache/compiled`);
const { main } = await import('../src/cli/main.ts');
await main({ root, commands: 'src/cli/commands/index.ts', manifest: false });
