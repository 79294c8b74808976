// Makes what the package ships from src/: dist/, holdfast.schema.json, oclif.manifest.json. Run as `npm run build`.
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Plugin } from '@oclif/core';

const root = fileURLToPath(new URL('..', import.meta.url));
process.chdir(root);

rmSync('dist', { recursive: true, force: true });
const tsc = fileURLToPath(new URL('bin/tsc', import.meta.resolve('typescript/package.json')));
const run = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { stdio: ['ignore', 2, 2] });
if (run.status !== 0) process.exit(run.status ?? 1);

const { configJsonSchema } = await import('../dist/cli/config-schema.js');
writeJson('holdfast.schema.json', configJsonSchema());

// The manifest lets the published program show help and find commands without loading every one of them.
const { loadCommands, COMMANDS } = await import('../dist/cli/commands/index.js');
await loadCommands();
const plugin = new Plugin({ root, type: 'core', ignoreManifest: true, errorOnManifestCreate: true });
await plugin.load();
if (Object.keys(plugin.manifest.commands).length !== Object.keys(COMMANDS).length)
  throw new Error('a command is missing');
writeJson('oclif.manifest.json', plugin.manifest);

function writeJson(path, value) {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}
