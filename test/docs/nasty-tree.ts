/** A tree with everything that a backup must bring back and that scripts get wrong. */
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { run } from '../crypto/support.ts';

/** Bytes that look random and depend on the seed only (xorshift32), so that content-defined cuts fall in them. */
export function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

const under = (root: string, name: string | Buffer) => Buffer.concat([Buffer.from(`${root}/`), Buffer.from(name)]);

/** Names that are no UTF-8, one of them with a line feed at its end. */
export const RAW_FOLDER = Buffer.from([0xff, 0xfe]);
export const RAW_FILE = Buffer.from([0x66, 0xe9, 0x0a]);

/**
 * Fills the folder `root`, which exists. Times are set, to the nanosecond, for every entry.
 * @param bigBytes of the file of several chunks
 */
export function makeNastyTree(root: string, bigBytes: number): void {
  const file = (name: string | Buffer, content: string | Uint8Array, mode = 0o644) => {
    writeFileSync(under(root, name), content);
    chmodSync(under(root, name), mode);
  };
  const folder = (name: string | Buffer, mode = 0o755) => {
    mkdirSync(under(root, name));
    chmodSync(under(root, name), mode);
  };
  const raw = (...parts: (string | Buffer)[]) => Buffer.concat(parts.map((part) => Buffer.from(part)));

  folder('memory');
  file('memory/big.bin', noise(bigBytes, 7));
  file('memory/log.jsonl', `${'{"event":"tick"}\n'.repeat(500)}`, 0o600);
  file('memory/empty', '');
  file('memory/run.sh', '#!/bin/sh\n', 0o755);
  file('memory/setuid', 'x', 0o4750);
  // Nobody but root could read a file without any permission.
  file('memory/unreadable', 'hard to read', process.getuid?.() === 0 ? 0o000 : 0o400);
  folder('memory/deep');
  folder('memory/deep/er');
  file('memory/deep/er/file', 'down here\n');
  folder('empty folder');
  folder('shared', 0o1777);
  folder('read only', 0o555);
  folder('names');
  for (const name of [
    'line\nfeed',
    'line feed at the end\n',
    'quote \' and " and ` and $(touch gone) and $HOME',
    '-rf',
    '--',
    ' leading and trailing ',
    'back\\slash \\n \\0101',
    'glob*?[a]',
    'tab\tand\x01\x7f',
    'größe 名前 🦊',
    '\ufeffmark first',
    '.hidden',
    '{braces},;|&<>!#%',
    'n'.repeat(255),
  ]) {
    file(`names/${name}`, `this is ${JSON.stringify(name)}\n`);
  }
  folder('-folder\n', 0o700);
  file('-folder\n/inside', 'inside\n');
  folder(RAW_FOLDER);
  file(raw(RAW_FOLDER, '/', RAW_FILE), 'neither name is text\n');
  file(raw(RAW_FOLDER, '/text'), 'a text in a folder that is none\n');
  file(raw('caf', Buffer.from([0xe9])), 'Latin-1\n', 0o640);
  symlinkSync('memory/log.jsonl', under(root, 'link to file'));
  symlinkSync('memory', under(root, 'link to folder'));
  symlinkSync('/nowhere/at all', under(root, 'dangling'));
  symlinkSync('-n', under(root, '-link'));
  symlinkSync("a\n'target'\n", under(root, 'odd target'));
  symlinkSync(raw(Buffer.from([0x80]), '\n\n'), under(root, raw('raw link ', Buffer.from([0xff]))));
  // Prefixes of each other, where the order of paths is delicate.
  folder('a');
  file('a/b', 'below a\n');
  file('a.b', 'beside a\n');
  file('a-b', 'beside a\n');
  touch(root, 1_700_000_000);
}

/**
 * Gives every entry below `root`, and the root, another time with nanoseconds from `startSeconds` on; one is before 1970, one far ahead.
 */
export function touch(root: string, startSeconds: number): void {
  const all = run('find', [root, '-depth', '-print0']).toString('latin1').split('\0').slice(0, -1);
  const special: Record<string, string> = {
    empty: '-1.500000000',
    'run.sh': '0.000000001',
    'a.b': '4102444800.999999999',
  };
  const args = all.toSorted().flatMap((path, i) => {
    const nanoseconds = String((i * 123_456_789) % 1_000_000_000).padStart(9, '0');
    const time = special[path.slice(path.lastIndexOf('/') + 1)] ?? `${startSeconds + i * 61}.${nanoseconds}`;
    return [`@${time}`, '--', path];
  });
  run('xargs', ['-0', '-n', '3', 'touch', '-h', '-d'], Buffer.from(args.map((arg) => `${arg}\0`).join(''), 'latin1'));
}
