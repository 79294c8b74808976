/** What package-lock.json lets into the tree: pinned, permissive, and without programs that run when it is installed. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

interface Locked {
  version: string;
  integrity?: string;
  license?: string;
  dev?: true;
  hasInstallScript?: true;
}

const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, Locked> };
const all = Object.entries(packages).filter(([path]) => path !== '');
const nameOf = (path: string): string => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
const shipped = all.filter(([, { dev }]) => !dev);

const PERMISSIVE = ['MIT', 'ISC', 'Apache-2.0', 'BSD-3-Clause', '0BSD', 'BlueOak-1.0.0', 'Unlicense', 'CC0-1.0'];
/** Whose package.json has the licence in an older form, or in a file only: all MIT. */
const READ_BY_HAND = ['buildcheck', 'cpu-features', 'png-js', 'ssh2'];
/** Only of those who build the program, never shipped, and not linked to. */
const DEV_ONLY = ['MPL-2.0'];

const namesIn = (licence: string): string[] => licence.replace(/[()]/g, '').split(/ (?:OR|AND) /);

it('every package is pinned by its hash', () => {
  expect(all.length).toBeGreaterThan(100);
  expect(all.filter(([, { integrity }]) => !integrity?.startsWith('sha512-')).map(([path]) => path)).toEqual([]);
});

it('every licence is permissive', () => {
  const others = all.filter(([path, { license, dev }]) => {
    if (license === undefined) return !READ_BY_HAND.includes(nameOf(path));
    return !namesIn(license).every((name) => PERMISSIVE.includes(name) || (dev && DEV_ONLY.includes(name)));
  });
  expect(others.map(([path, { license }]) => `${path}: ${license}`)).toEqual([]);
});

it('no package runs a program when it is installed, but those that do without it', () => {
  const { allowScripts } = JSON.parse(read('package.json')) as { allowScripts: Record<string, boolean> };
  const scripted = all.filter(([, { hasInstallScript }]) => hasInstallScript).map(([path]) => nameOf(path));
  // koffi brings its binary along, ssh2 and cpu-features are not built; `node` is for development alone.
  expect(scripted.toSorted()).toEqual(['cpu-features', 'koffi', 'node', 'ssh2']);
  expect(Object.keys(allowScripts).toSorted()).toEqual(scripted.toSorted());
  expect(shipped.map(([path]) => nameOf(path)).filter((name) => allowScripts[name])).toEqual([]);
});

it('docs/dependencies.md says how many packages there are', () => {
  const text = read('docs/dependencies.md');
  const [, told, ofAll] = /installs at most (\d+) packages \(of (\d+) in the lock file\)/.exec(text) ?? [];
  expect([Number(told), Number(ofAll)]).toEqual([shipped.length, all.length]);
});
