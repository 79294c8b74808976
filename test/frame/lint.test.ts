/** The linter reports a violation of each rule of the house, and it reads every file. */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

interface Report {
  number_of_files: number;
  diagnostics: { code: string; message: string; filename: string }[];
}

/** What the linter prints, run as `npm run lint` does but for the flags that are added. */
function oxlint(cwd: string, ...more: string[]): string {
  const scripts = (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: { lint: string } })
    .scripts;
  const [command, ...flags] = scripts.lint.split(' ');
  expect(command).toBe('oxlint');
  const bin = join(ROOT, 'node_modules/oxlint/bin/oxlint');
  const { stdout, stderr } = spawnSync(process.execPath, [bin, ...flags, ...more], {
    cwd,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  if (stderr !== '') throw new Error(`the linter did not run: ${stderr}${stdout.slice(0, 2000)}`);
  return stdout;
}

/** The table of the architecture, stated apart from the one that the linter uses. */
const ARROWS = 'cli -> drill, fleet -> operations -> repository, state, identity -> backend, crypto -> policy';
const LAYERS = ARROWS.split(' -> ').map((layer) => layer.split(', '));
const FOLDERS = LAYERS.flat();
const layerOf = (folder: string): number => LAYERS.findIndex((layer) => layer.includes(folder));

/** [file, source, rule, part of the message]; without a rule, nothing may be reported. */
type Case = [file: string, source: string, rule?: string, message?: string];

const pairs: Case[] = FOLDERS.flatMap((from) =>
  FOLDERS.map((to): Case => {
    const file = `src/${from}/imports-${to}.ts`;
    const source = `export * from '../${to}/${to}.ts';`;
    const allowed = from === to || layerOf(from) < layerOf(to);
    return allowed ? [file, source] : [file, source, 'house(imports)', `src/${from}/ may not import src/${to}/`];
  }),
);

const imports: Case[] = [
  ['src/leaf.ts', "export * from './backend/backend.ts';", 'house(imports)', 'leaves'],
  ['src/other-leaf.ts', "export * from './errors.ts';"],
  ['src/index.ts', "export * from './operations/operations.ts';"],
  [
    'src/new/file.ts',
    "export * from '../backend/backend.ts';",
    'house(imports)',
    'src/new/ is not in the import table',
  ],
  [
    'src/operations/deep.ts',
    "export * from '../repository/pack.ts';",
    'house(imports)',
    'only src/repository/repository.ts',
  ],
  [
    'src/cli/commands/deep.ts',
    "export * from '../../repository/pack.ts';",
    'house(imports)',
    'only src/repository/repository.ts',
  ],
  ['src/repository/own.ts', "export * from './pack.ts';"],
  [
    'src/state/type.ts',
    "import type { A } from '../identity/a.ts';\nexport type B = A;",
    'house(imports)',
    'src/state/ may not',
  ],
  ['src/state/typeof.ts', "export type B = import('../identity/a.ts').A;", 'house(imports)', 'src/state/ may not'],
  [
    'src/state/dynamic.ts',
    "export const load = () => import('../identity/a.ts');",
    'house(imports)',
    'src/state/ may not',
  ],
  [
    'src/state/computed.ts',
    'export const load = (name: string) => import(name);',
    'house(imports)',
    'names its module literally',
  ],
  ['src/state/outside.ts', "export * from '../../test/x.ts';", 'house(imports)', 'nothing beside itself'],
  ['src/state/oclif.ts', "export * from '@oclif/core';", 'house(imports)', 'only src/cli/'],
  ['src/cli/oclif.ts', "export * from '@oclif/core';"],
  ['src/state/process.ts', "export * from 'node:process';", 'house(imports)', 'only src/cli/'],
  ['src/state/crypto.ts', "export * from 'node:crypto';", 'house(imports)', 'only src/crypto/'],
  ['src/state/crypto-bare.ts', "export const c = () => import('crypto');", 'house(imports)', 'only src/crypto/'],
  ['src/identity/noble.ts', "export * from '@noble/ed25519';", 'house(imports)', 'only src/crypto/'],
  ['src/identity/bip39.ts', "export * from '@scure/bip39';", 'house(imports)', 'only src/crypto/'],
  ['src/identity/age.ts', "export * from 'age-encryption';", 'house(imports)', 'only src/crypto/'],
  ['src/crypto/age.ts', "export * from 'age-encryption';"],
  ['src/state/timers.ts', "export * from 'node:timers/promises';", 'house(imports)', 'clock.ts'],
  ['test/free.ts', "export * from 'node:crypto';\nexport * from '../src/repository/packs/pack.ts';"],
];

const statements: Case[] = (
  [
    ['date-now', 'Date.now()', 'Date.now'],
    ['date-global', 'globalThis.Date.now()', 'Date.now'],
    ['date-computed', "Date['now']()", 'Date.now'],
    ['date-destructured', '(() => { const { now } = Date; return now; })()', 'Date.now'],
    ['new-date', 'new Date()', 'Date()'],
    ['random', 'Math.random()', 'Math.random'],
    ['performance', 'performance.now()', 'performance.now'],
    ['web-crypto', 'crypto.randomUUID()', 'crypto.randomUUID'],
    ['timeout', 'setTimeout(() => {}, 1)', 'setTimeout()'],
    ['interval', 'globalThis.setInterval(() => {}, 1)', 'setInterval()'],
    ['hrtime', 'process.hrtime()', 'process.hrtime'],
    ['env', 'process.env', 'process.env'],
    ['env-destructured', '(() => { const { env } = process; return env; })()', 'process.env'],
    ['exit', 'process.exit(1)', 'process.exit'],
    ['stdout', "process.stdout.write('x')", 'process.stdout'],
    ['console', "console.log('x')", 'console.log'],
  ] as const
).map(([name, expression, message]) => [
  `src/state/${name}.ts`,
  `export const x: unknown = ${expression};`,
  'house(seams)',
  message,
]);

const allowed: Case[] = [
  ['src/clock.ts', 'export const now = Date.now();\nexport const wait = (f: () => void) => setTimeout(f, 1);'],
  ['src/state/date-of.ts', 'export const d = new Date(0).toISOString();\nexport const p = process.platform;'],
  ['src/cli/env.ts', 'export const e = process.env;\nexport const out = process.stdout;'],
  ['src/cli/date.ts', 'export const d: number = Date.now();', 'house(seams)', 'Date.now'],
];

const language: Case[] = [
  [
    'src/state/floating.ts',
    'async function f() {}\nexport function g() {\n  f();\n}',
    'typescript(no-floating-promises)',
  ],
  [
    'src/state/misused.ts',
    'export const f = (a: () => Promise<boolean>) => { if (a()) return 1; return 2; };',
    'typescript(no-misused-promises)',
  ],
  ['src/state/thenable.ts', 'export const f = async (a: number) => { await a; };', 'typescript(await-thenable)'],
  ['src/state/any.ts', 'export const a: any = 1;', 'typescript(no-explicit-any)'],
  ['src/state/ignore.ts', '// @ts-ignore\nexport const a: number = 1;', 'typescript(ban-ts-comment)'],
  [
    'src/state/type-import.ts',
    "import { A } from '../errors.ts';\nexport const f = (a: A) => a;",
    'typescript(consistent-type-imports)',
  ],
  [
    'src/state/switch.ts',
    "export function f(a: 'x' | 'y'): number {\n  switch (a) {\n    case 'x':\n      return 1;\n  }\n  return 2;\n}",
    'typescript(switch-exhaustiveness-check)',
  ],
  ['src/state/equal.ts', 'export const f = (a: unknown) => a == 1;', 'eslint(eqeqeq)'],
  [
    'src/state/protocol.ts',
    "import { readFileSync } from 'fs';\nexport const r = readFileSync;",
    'unicorn(prefer-node-protocol)',
  ],
];

const planted: Case[] = [...pairs, ...imports, ...statements, ...allowed, ...language];

describe('planted in a copy of the tree', () => {
  let copy: string;
  let report: Report;
  beforeAll(() => {
    copy = realpathSync(mkdtempSync(join(tmpdir(), 'holdfast-lint-')));
    for (const name of ['.oxlintrc.json', 'lint', 'tsconfig.json', 'package.json']) {
      cpSync(join(ROOT, name), join(copy, name), { recursive: true });
    }
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    for (const [file, source] of planted) {
      mkdirSync(dirname(join(copy, file)), { recursive: true });
      writeFileSync(join(copy, file), `${source}\n`);
    }
    report = JSON.parse(oxlint(copy, '-f', 'json')) as Report;
  });
  afterAll(() => rmSync(copy, { recursive: true, force: true }));

  it('each file is planted once and read', () => {
    expect(new Set(planted.map(([file]) => file)).size).toBe(planted.length);
    expect(report.number_of_files).toBeGreaterThanOrEqual(planted.length);
  });

  it.each(planted)('%s', (file, _source, rule, message = '') => {
    const reported = report.diagnostics.filter(({ filename }) => filename === file);
    const house = reported.filter(({ code }) => code.startsWith('house'));
    if (rule === undefined) expect(house).toEqual([]);
    else
      expect(reported).toContainEqual(
        expect.objectContaining({ code: rule, message: expect.stringContaining(message) }),
      );
  });
});

it('the real tree: the linter reads every source and test', () => {
  const files = ['src', 'test'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => `${folder}/${name}`),
  );
  expect(files.length).toBeGreaterThan(40);
  const read = new Set(oxlint(ROOT, '--debug=files').split('\n'));
  expect(files.filter((file) => !read.has(file))).toEqual([]);
});
