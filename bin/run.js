#!/usr/bin/env node
// The published program: runs what `npm run build` makes in dist/program/.
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { preflight } from './preflight.js';

const { XDG_CACHE_HOME: given = '' } = process.env;
preflight(join(isAbsolute(given) ? given : join(homedir(), '.cache'), 'holdfast', 'compiled'));
const { main } = await import('../dist/program/main.js');
await main({
  root: fileURLToPath(new URL('..', import.meta.url)),
  commands: 'dist/program/commands.js',
  manifest: true,
});
