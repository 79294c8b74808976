/** YAML that people write: read strictly, and what is wrong told with its place. */
import { isNode, LineCounter, parseDocument, type Document, isScalar, visit } from 'yaml';
import type { z } from 'zod';
import { HoldfastError, messageOf } from './errors.ts';
import { CONFIG_MAX_BYTES } from './limits.ts';

export interface YamlRules<T> {
  schema: z.ZodType<T>;
  /** The keys that the schema knows at a path. */
  knownKeys: (path: readonly PropertyKey[]) => string[];
}

/** What is wrong with a file: `file:line:column`, both from 1, and why; `known` are the keys there could be in place of `unknown`. */
export interface YamlFault {
  place: string;
  what: string;
  unknown?: { key: string; known: string[] };
}

/**
 * A whole file, as it was read.
 * @param hint what to do about a file that is wrong, where no other key is meant
 * @throws `config_invalid` naming file and line
 */
export async function parseYamlFile<T>(
  bytes: Uint8Array,
  { hint, ...how }: { file: string; whole: string; hint: string; rules: () => Promise<YamlRules<T>> },
): Promise<T> {
  const invalid = (place: string, what: string, next = hint) =>
    new HoldfastError('config_invalid', `${place}: ${what}`, { hint: next });
  if (bytes.length > CONFIG_MAX_BYTES) throw invalid(how.file, `it is larger than ${CONFIG_MAX_BYTES} bytes`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw invalid(how.file, 'it is no UTF-8 text');
  }
  const read = await readYaml(text, how);
  if ('data' in read) return read.data;
  const { place, what, unknown } = read.fault;
  throw unknown ? invalid(place, what, `Known here: ${unknown.known.join(', ')}.`) : invalid(place, what);
}

/**
 * @param whole what the file is, for messages: `the config`
 * @param rules loaded only when the text is YAML at all
 */
export async function readYaml<T>(
  text: string,
  { file, whole, rules }: { file: string; whole: string; rules: () => Promise<YamlRules<T>> },
): Promise<{ data: T } | { fault: YamlFault }> {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false, stringKeys: true });
  const at = (offset: number | undefined) => placeOf(file, lineCounter, offset);
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem !== undefined) return { fault: { place: at(problem.pos[0]), what: problem.message } };
  // A schema passes over such a key: what stands under it would be as if it were not there.
  let dropped: number | undefined;
  visit(document, {
    Pair: (_, { key }) => {
      if (isScalar(key) && key.value === '__proto__') dropped = key.range?.[0] ?? 0;
    },
  });
  if (dropped !== undefined) return { fault: { place: at(dropped), what: '`__proto__` is no name' } };
  let value: unknown;
  try {
    value = document.toJS() ?? {};
  } catch (error) {
    return { fault: { place: file, what: messageOf(error) } };
  }
  const { schema, knownKeys } = await rules();
  const result = schema.safeParse(value);
  if (result.success) return { data: result.data };

  // A misspelt key shows as unknown and as missing: the first says more.
  const issues = result.error.issues.flatMap(ofMeantForm);
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0];
  const path = issue?.path ?? [];
  const where = path.join('.');
  if (issue?.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    const what = `unknown key \`${key}\`${where === '' ? '' : ` in \`${where}\``}`;
    return { fault: { place: at(offsetOf(document, [...path, key])), what, unknown: { key, known: knownKeys(path) } } };
  }
  const isMissing = issue?.code === 'invalid_type' && !document.hasIn(path);
  const why = issue?.code === 'invalid_key' ? issue.issues[0] : issue;
  const told = isMissing ? 'is missing' : `is not valid: ${why ? inWords(why) : ''}`;
  const what = `${where === '' ? whole : `\`${where}\``} ${told}`;
  return { fault: { place: at(offsetOf(document, path)), what } };
}

/** Of something that may have several forms, what is wrong with the only one that it could be. */
function ofMeantForm(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const meant = issue.errors.filter(
    (form) => !form.some(({ code, path }) => code === 'invalid_type' && path.length === 0),
  );
  const [only] = meant;
  if (!only || meant.length > 1) return [issue];
  return only.flatMap((inner) => ofMeantForm({ ...inner, path: [...issue.path, ...inner.path] }));
}

const TYPES: Readonly<Record<string, string>> = {
  ...{ string: 'text', number: 'a number', int: 'a whole number', boolean: 'true or false', array: 'a list' },
  ...{ object: 'a group of settings', record: 'a group of settings' },
};

/** What the schema says of it itself, and for the rest what must be there instead. */
function inWords(issue: z.core.$ZodIssue): string {
  if (!/^(Too (small|big)|Invalid (input|option|key|string))\b/.test(issue.message)) return issue.message;
  switch (issue.code) {
    case 'invalid_type':
      return `it must be ${TYPES[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      return `it must be ${issue.values.map(String).join(' or ')}`;
    case 'too_small': {
      const { origin, minimum, inclusive } = issue;
      if (origin === 'number' || origin === 'int')
        return `it must be ${inclusive ? `${minimum} or more` : `more than ${minimum}`}`;
      return minimum === 1 ? 'it must not be empty' : `it must have ${minimum} or more ${partsOf(origin)}`;
    }
    case 'too_big': {
      const { origin, maximum, inclusive } = issue;
      if (origin === 'number' || origin === 'int')
        return `it must be ${inclusive ? `${maximum} or less` : `below ${maximum}`}`;
      return `it must have ${maximum} ${partsOf(origin)} or fewer`;
    }
    case 'invalid_union':
      return 'it has none of the forms that it may have';
    default:
      return 'it has not the form that it must have';
  }
}

const partsOf = (origin: string): string => (origin === 'string' ? 'characters' : 'entries');

/** Where the key (or, failing that, the deepest part of its path) stands in the text. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number | undefined {
  for (let length = path.length; length > 0; length--) {
    const parent: unknown = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    if (typeof parent !== 'object' || parent === null || !('items' in parent) || !Array.isArray(parent.items)) continue;
    const last = path[length - 1];
    const item: unknown =
      typeof last === 'number' ? parent.items[last] : parent.items.find((pair) => keyOf(pair)?.value === last);
    const node = isNode(item) ? item : keyOf(item);
    if (node?.range) return node.range[0];
  }
  return undefined;
}

function keyOf(pair: unknown): { value: unknown; range?: readonly number[] } | undefined {
  const key: unknown = typeof pair === 'object' && pair !== null && 'key' in pair ? pair.key : undefined;
  return typeof key === 'object' && key !== null && 'value' in key ? key : undefined;
}

function placeOf(file: string, lineCounter: LineCounter, offset: number | undefined): string {
  if (offset === undefined) return file;
  const { line, col } = lineCounter.linePos(offset);
  return `${file}:${line}:${col}`;
}
