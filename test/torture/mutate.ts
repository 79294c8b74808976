/** What is done to the bytes that a parser is given: what bad disks and bad people do. */
import type { Dice } from './dice.ts';

export type Mutation = (bytes: Buffer, dice: Dice, other: Buffer) => Buffer;

const splice = (bytes: Buffer, from: number, count: number, put: Uint8Array) =>
  Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + count)]);
const text = (...parts: string[]) => Buffer.from(parts.join(''), 'latin1');
const at = (bytes: Buffer, dice: Dice) => dice.below(bytes.length + 1);

const NUMBERS = ['-1', '0', '1e308', '-0', '4294967296', '9007199254740993', '1e-7', '1'.repeat(400), 'NaN', 'null'];
const LENGTHS = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff];
const INVALID_UTF8 = [text('\xff'), text('\xc0\x80'), text('\xed\xa0\x80'), text('\xf4\x90\x80\x80'), text('\xe2\x82')];
const STRANGE = [
  '\0',
  '\ufeff',
  '\u202e',
  '\u2028',
  '\x1b[2J',
  '__proto__',
  '../../../etc/passwd',
  'constructor',
  '\r',
  '*',
];

export const MUTATIONS: Readonly<Record<string, Mutation>> = {
  flip(bytes, dice) {
    const changed = Buffer.from(bytes);
    for (let n = 1 + dice.below(3); n > 0 && changed.length > 0; n--) {
      const place = dice.below(changed.length);
      changed[place] = (changed[place] ?? 0) ^ (1 << dice.below(8));
    }
    return changed;
  },
  truncate: (bytes, dice) => bytes.subarray(0, at(bytes, dice)),
  empty: () => Buffer.alloc(0),
  'cut out': (bytes, dice) => splice(bytes, at(bytes, dice), 1 + dice.below(64), Buffer.alloc(0)),
  noise: (bytes, dice) => splice(bytes, at(bytes, dice), dice.below(16), dice.bytes(1 + dice.below(16))),
  duplicate(bytes, dice) {
    const from = at(bytes, dice);
    return splice(bytes, from, 0, bytes.subarray(from, from + 1 + dice.below(200)));
  },
  'half of another': (bytes, dice, other) =>
    Buffer.concat([bytes.subarray(0, at(bytes, dice)), other.subarray(at(other, dice))]),
  'a line twice, or elsewhere, or not at all'(bytes, dice) {
    const lines = bytes.toString('latin1').split('\n');
    const [line = ''] = lines.splice(dice.below(lines.length), 1);
    for (let n = dice.below(3); n > 0; n--) lines.splice(dice.below(lines.length + 1), 0, line);
    return text(lines.join('\n'));
  },
  'another number'(bytes, dice) {
    const source = bytes.toString('latin1');
    const numbers = [...source.matchAll(/\d+/g)];
    if (numbers.length === 0) return bytes;
    const { index, 0: digits } = dice.pick(numbers);
    return splice(bytes, index, digits.length, text(dice.pick(NUMBERS)));
  },
  'another length'(bytes, dice) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(dice.pick(LENGTHS));
    return splice(bytes, at(bytes, dice), 4, length);
  },
  'invalid UTF-8': (bytes, dice) => splice(bytes, at(bytes, dice), 0, dice.pick(INVALID_UTF8)),
  'strange text': (bytes, dice) => splice(bytes, at(bytes, dice), 0, Buffer.from(dice.pick(STRANGE))),
  'a long line': (bytes, dice) =>
    splice(
      bytes,
      at(bytes, dice),
      0,
      Buffer.alloc(10 ** (3 + dice.below(4)), dice.pick(['a', ' ', '9', '*', '"', '\\'])),
    ),
  'many lines': (bytes, dice) =>
    splice(
      bytes,
      at(bytes, dice),
      0,
      Buffer.alloc(10 ** (2 + dice.below(5)), dice.pick(['\n', 'a\n', '\r\n', ',\n', '- \n'])),
    ),
  'deep nesting'(bytes, dice) {
    const depth = 10 ** (2 + dice.below(4));
    const [open, close] = dice.pick([
      ['[', ']'],
      ['{"a":', '}'],
      ['{a: ', '}'],
    ] as const);
    return splice(
      bytes,
      at(bytes, dice),
      0,
      text(open.repeat(depth), '1', dice.chance(0.7) ? close.repeat(depth) : ''),
    );
  },
};

/** A member of a JSON object is given another value, or one that nobody knows is added: what is well formed gets further than what is not. */
export function mutateJson(bytes: Buffer, dice: Dice): Buffer {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    return bytes;
  }
  const holders: Record<string, unknown>[] = [];
  const collect = (one: unknown): void => {
    if (typeof one !== 'object' || one === null) return;
    holders.push(one as Record<string, unknown>);
    for (const inner of Object.values(one)) collect(inner);
  };
  collect(value);
  if (holders.length === 0) return bytes;
  const holder = dice.pick(holders);
  const names = Object.keys(holder);
  const name =
    names.length > 0 && dice.chance(0.8) ? dice.pick(names) : dice.pick(['x', 'critical', 'version', '0', '__proto__']);
  if (dice.chance(0.2)) delete holder[name];
  const hole = '\u0001hole\u0001';
  if (name in holder || dice.chance(0.5)) holder[name] = hole;
  const depth = 10 ** (1 + dice.below(5));
  const values = [
    ...['null', 'true', '[]', '{}', '""', '-1', '0.5', '1e400', '1e308', '9007199254740993', '"\\ud800"', '"\\u0000"'],
    ...[`${'['.repeat(depth)}${']'.repeat(depth)}`, `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`],
    ...[JSON.stringify('x'.repeat(10 ** dice.below(7))), `[${'0,'.repeat(10 ** dice.below(6))}0]`],
    ...[
      '"9999-12-31T23:59:59.999Z"',
      '"0000-01-01T00:00:00.000Z"',
      '"../../x"',
      '{"version":2}',
      '["special-files","unheard-of"]',
    ],
    ...[JSON.stringify(dice.bytes(32).toString('hex')), JSON.stringify('f'.repeat(64)), '4294967295', '4294967296'],
  ];
  const put = dice.pick(values);
  // Not by way of an object: some of the values are none that JSON.stringify writes.
  return Buffer.from(JSON.stringify(value).replace(JSON.stringify(hole), () => put));
}

/** One of the mutations, or a few, one on the other. */
export function mutate(bytes: Buffer, dice: Dice, other: Buffer, isJson: boolean): Buffer {
  if (isJson && dice.chance(0.5)) return mutateJson(bytes, dice);
  let changed = bytes;
  do changed = (MUTATIONS[dice.pick(Object.keys(MUTATIONS))] as Mutation)(changed, dice, other);
  while (dice.chance(0.2));
  return changed;
}
