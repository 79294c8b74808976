// What has to happen before any module of holdfast is loaded. Plain JavaScript that also parses on much older Nodes.
import module from 'node:module';
import { availableParallelism } from 'node:os';

/** Ends the process with one sentence where Node is too old; caches compiled code below `cacheFolder`. */
export function preflight(cacheFolder) {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 22 || (major === 22 && minor < 18)) {
    process.stderr.write(`Error: holdfast needs Node 22.18 or newer, and this is ${process.versions.node}.\n`);
    process.exit(1);
  }
  // Never Node's default below the shared /tmp: code that is cached is code that runs.
  module.enableCompileCache(cacheFolder);

  // libuv's threads compress and decompress, besides reading and writing files; it starts four of them, however many cores there are.
  process.env.UV_THREADPOOL_SIZE ??= String(Math.max(4, availableParallelism() + 2));

  // node:sqlite still announces itself as experimental; every other warning stays.
  const emitWarning = process.emitWarning;
  process.emitWarning = function (warning, ...rest) {
    const type = typeof rest[0] === 'object' ? rest[0]?.type : rest[0];
    if (type === 'ExperimentalWarning' && String(warning).startsWith('SQLite')) return;
    emitWarning.call(process, warning, ...rest);
  };
}
