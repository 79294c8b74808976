/**
 * A program for tests: a local user without privileges who exchanges things for links, and back, as fast as he can, until his standard input ends; then
 * he prints how often. Started by root he becomes `nobody`. Arguments: where the links lead, then the paths that he exchanges.
 */
import { chmodSync, renameSync, symlinkSync, unlinkSync } from 'node:fs';

const NOBODY = 65_534;
process.setgroups?.([]);
process.setgid?.(NOBODY);
process.setuid?.(NOBODY);

const [outside = '', ...paths] = process.argv.slice(2);
let exchanges = 0;

function attempt(action: () => void): boolean {
  try {
    action();
    return true;
  } catch {
    return false;
  }
}

function exchange(path: string): void {
  if (!attempt(() => renameSync(path, `${path}.aside`))) return;
  if (attempt(() => symlinkSync(outside, path))) {
    exchanges++;
    for (let spin = 0; spin < 20; spin++) attempt(() => chmodSync(`${path}.aside`, 0o777));
    attempt(() => unlinkSync(path));
  }
  attempt(() => renameSync(`${path}.aside`, path));
}

process.stdin.on('end', () => {
  console.log(exchanges);
  process.exit();
});
process.stdin.resume();
console.log('ready');
const turn = () => {
  for (const path of paths) exchange(path);
  setImmediate(turn);
};
turn();
