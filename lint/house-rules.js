// The house's own lint rules, as an oxlint plugin (see .oxlintrc.json): which folder of src/ may import which, and where
// the world may be touched. The tables stand here once; test/frame/lint.test.ts plants a violation of each.
import { dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** Imports go one way: a folder imports from the layers before its own, never from its siblings, and from src/*.ts. */
export const LAYERS = [
  ['policy'],
  ['backend', 'crypto'],
  ['repository', 'state', 'identity'],
  ['operations'],
  ['drill', 'fleet'],
  ['cli'],
];
/** Folders of which others may import one file only. */
export const FACADES = { repository: 'repository/repository.ts' };

/** Packages that belong to one folder: [pattern, folder, files elsewhere that may import them too]. */
export const PACKAGES = [
  [/^(node:)?crypto$/, 'crypto', ['clock.ts', 'backend/s3.ts', 'backend/known-hosts.ts']],
  [/^(@noble\/|@scure\/bip39|age-encryption|bcrypt-pbkdf)/, 'crypto', []],
  [/^(@zxcvbn-ts\/|pdfkit|qr$)/, 'identity', []],
  [/^(@aws-sdk\/|@smithy\/|ssh2$)/, 'backend', []],
  [/^prom-client$/, 'fleet', []],
  [/^@oclif\//, 'cli', []],
  [/^(node:)?(process|tty)(\/|$)/, 'cli', []],
  [/^(node:)?(timers|perf_hooks)(\/|$)/, '', ['clock.ts']],
];

/** Members of globals that belong to one place: [object, members (all when absent), place]. */
export const GLOBALS = [
  ['Date', ['now'], 'clock.ts'],
  ['Math', ['random'], 'clock.ts'],
  ['performance', undefined, 'clock.ts'],
  ['crypto', undefined, 'clock.ts'],
  ['process', ['hrtime'], 'clock.ts'],
  ['process', ['env', 'exit', 'exitCode', 'stdout', 'stderr', 'stdin', 'argv', 'on', 'once', 'abort'], 'cli'],
  ['process', ['kill'], 'operations/hooks.ts'],
  ['console', undefined, 'cli'],
];
/** Functions that are called by their bare name. */
const TIMERS = new Set(['setTimeout', 'setInterval', 'Date']);

/** The folder of src/ that a file belongs to: '' for src/*.ts, undefined outside src/. */
function folderOf(file) {
  const path = relative(SRC, file);
  if (path.startsWith('..')) return undefined;
  return path.includes('/') ? path.slice(0, path.indexOf('/')) : '';
}

function layerOf(folder) {
  return LAYERS.findIndex((layer) => layer.includes(folder));
}

/** Why `file` may not import `specifier`, or undefined when it may. */
function objection(file, specifier) {
  const from = folderOf(file);
  if (from === undefined) return undefined;
  const name = relative(SRC, file);
  if (!specifier.startsWith('.')) {
    const owned = PACKAGES.find(([pattern, folder, others]) => {
      return pattern.test(specifier) && folder !== from && !others.includes(name);
    });
    if (owned === undefined) return undefined;
    const [, folder, others] = owned;
    return `only ${folder === '' ? '' : `src/${folder}/ `}${others.join(' ')} may import ${specifier}`;
  }
  const target = resolve(dirname(file), specifier);
  const to = folderOf(target);
  if (to === undefined) return 'src/ imports nothing beside itself';
  if (to === from || to === '' || name === 'index.ts') return undefined;
  if (from === '') return 'the files of src/ itself are leaves: they import none of its folders';
  if (layerOf(from) < 0 || layerOf(to) < 0) return `src/${layerOf(from) < 0 ? from : to}/ is not in the import table`;
  if (layerOf(to) >= layerOf(from)) return `src/${from}/ may not import src/${to}/ (imports go one way)`;
  const facade = FACADES[to];
  if (facade && relative(SRC, target) !== facade) return `outside src/${to}/ only src/${facade} is imported`;
  return undefined;
}

const imports = {
  create(context) {
    const check = (node, source) => {
      if (source === null || source === undefined) return;
      const why =
        typeof source.value === 'string'
          ? objection(context.filename, source.value)
          : 'an import names its module literally';
      if (why && folderOf(context.filename) !== undefined) context.report({ node, message: why });
    };
    return {
      ImportDeclaration: (node) => check(node, node.source),
      ExportNamedDeclaration: (node) => check(node, node.source),
      ExportAllDeclaration: (node) => check(node, node.source),
      ImportExpression: (node) => check(node, node.source),
      TSImportType: (node) => check(node, node.source ?? node.argument?.literal ?? node.argument),
    };
  },
};

function memberName(node) {
  return node.computed ? node.property.value : node.property.name;
}

/** The global that an expression names, as `Date` or as `globalThis.Date`. */
function globalName(node) {
  if (node?.type === 'Identifier') return node.name;
  const outer = node?.type === 'MemberExpression' ? globalName(node.object) : undefined;
  return outer === 'globalThis' || outer === 'global' ? memberName(node) : undefined;
}

const seams = {
  create(context) {
    const folder = folderOf(context.filename);
    const name = relative(SRC, context.filename);
    const belongs = (place) => folder === undefined || place === folder || place === name;
    const report = (node, what, place) => context.report({ node, message: `${what} is used in src/${place} only` });
    const checkMember = (node, object, member) => {
      for (const [global, members, place] of GLOBALS) {
        if (object === global && !belongs(place) && (members === undefined || members.includes(member))) {
          report(node, `${global}.${String(member)}`, place);
        }
      }
    };
    const checkCall = (node) => {
      const called = globalName(node.callee);
      if (!TIMERS.has(called) || belongs('clock.ts')) return;
      if (node.type === 'NewExpression' && node.arguments.length > 0) return; // `new Date(ms)` only formats
      report(node, `${called}()`, 'clock.ts');
    };
    return {
      MemberExpression: (node) => checkMember(node, globalName(node.object), memberName(node)),
      VariableDeclarator: (node) => {
        if (node.id.type !== 'ObjectPattern') return;
        for (const property of node.id.properties) checkMember(property, globalName(node.init), property.key?.name);
      },
      CallExpression: checkCall,
      NewExpression: checkCall,
    };
  },
};

export default { meta: { name: 'house' }, rules: { imports, seams } };
