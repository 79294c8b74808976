// Makes what the package ships from src/: dist/ (the library, module by module), dist/program/ (the command line in few files),
// holdfast.schema.json, holdfast-drill.schema.json, oclif.manifest.json. Run as `npm run build`.
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Plugin } from '@oclif/core';
import { rolldown } from 'rolldown';

const root = fileURLToPath(new URL('..', import.meta.url));
process.chdir(root);

rmSync('dist', { recursive: true, force: true });
const tsc = fileURLToPath(new URL('bin/tsc', import.meta.resolve('typescript/package.json')));
const run = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { stdio: ['ignore', 2, 2] });
if (run.status !== 0) process.exit(run.status ?? 1);

await bundleProgram();
// Read at run time, beside the module that reads them: once for the library, once for the program.
for (const place of ['dist/state', 'dist/program'])
  cpSync('src/state/profiles', `${place}/profiles`, { recursive: true });
for (const place of ['dist/drill', 'dist/program'])
  cpSync('src/drill/scenarios', `${place}/scenarios`, { recursive: true });

const { configJsonSchema } = await import('../dist/cli/config-schema.js');
writeJson('holdfast.schema.json', configJsonSchema());
const { drillJsonSchema } = await import('../dist/cli/drill/result-schema.js');
writeJson('holdfast-drill.schema.json', drillJsonSchema());

// The manifest lets the published program show help and find commands without loading every one of them.
const { loadCommands, COMMANDS } = await import('../dist/program/commands.js');
await loadCommands();
const plugin = new Plugin({ root, type: 'core', ignoreManifest: true, errorOnManifestCreate: true });
await plugin.load();
if (Object.keys(plugin.manifest.commands).length !== Object.keys(COMMANDS).length)
  throw new Error('a command is missing');
writeJson('oclif.manifest.json', plugin.manifest);

/**
 * One file for what every command needs and one for each command, with the packages they use: finding and reading some two hundred
 * modules takes as long as the rest of a short command.
 */
async function bundleProgram() {
  const program = {
    main: 'dist/cli/main.js',
    commands: 'dist/cli/commands/index.js',
    // A thread starts with a file of its own.
    'sqlite-thread': 'dist/state/sqlite-thread.js',
    'pack-thread': 'dist/repository/packs/pack-thread.js',
  };
  // koffi is a native addon, and ssh2 looks for parts of its own that may be. pdfkit reads the metrics of its fonts from files beside its own. oclif asks for the other two, if they are there,
  // to run plugins written in TypeScript.
  const external = [/^node:(?!http$|process$)/, 'koffi', 'pdfkit', 'ssh2', 'typescript', 'ts-node'];
  const bundle = await rolldown({
    input: program,
    platform: 'node',
    external,
    // Packages that come as modules too: only what is used of them is taken. (Of the AWS SDK, that halves the time to load it.)
    resolve: { mainFields: ['module', 'main'] },
    plugins: [plainBuiltins('node:http', 'node:process')],
    onLog: refuseUnresolved,
  });
  const { output } = await bundle.write({ dir: 'dist/program', format: 'esm', chunkFileNames: '[name]-[hash].js' });
  await bundle.close();
  const packages = new Set(
    output.flatMap(({ moduleIds = [] }) =>
      moduleIds.flatMap((id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id)?.[0] ?? []),
    ),
  );
  writeFileSync(
    'dist/program/LICENSES.txt',
    [...packages]
      .map(notice)
      .toSorted((a, b) => (a < b ? -1 : 1))
      .join('\n'),
  );
}

/**
 * Modules of Node's that are costly to import: an `import` reads every property they have, and with them comes what nobody asked for (of `http` the
 * whole of `fetch` and WebSocket: 45 ms). Asked for like this they are what they are.
 */
function plainBuiltins(...modules) {
  const PREFIX = '\0plain:';
  const exportsOf = (name) =>
    Object.entries(Object.getOwnPropertyDescriptors(process.getBuiltinModule(name)))
      .filter(([key, { value }]) => value !== undefined && /^[a-z]\w*$/i.test(key) && key !== 'default')
      .map(([key]) => `export const ${key} = it.${key};`);
  return {
    name: 'plain-builtins',
    resolveId(id, _importer, { kind }) {
      if (!modules.includes(id)) return undefined;
      return kind === 'require-call' ? { id, external: true } : { id: PREFIX + id, moduleSideEffects: false };
    },
    load(id) {
      if (!id.startsWith(PREFIX)) return undefined;
      const name = id.slice(PREFIX.length);
      return [`const it = process.getBuiltinModule('${name}');`, 'export default it;', ...exportsOf(name)].join('\n');
    },
  };
}

/** What cannot be found now would be looked for on the user's machine. Other remarks are about the packages' own code. */
function refuseUnresolved(_level, log) {
  if (log.code === 'UNRESOLVED_IMPORT') throw new Error(log.message);
}

/** Name, version and licence of a package that is part of the program's files. */
function notice(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const files = readdirSync(folder).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file));
  const texts = files.map((file) => readFileSync(join(folder, file), 'utf8').trim());
  return [`${name} ${version} (${license})`, '', ...texts, ''].join('\n');
}

function writeJson(path, value) {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}
