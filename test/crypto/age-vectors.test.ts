/**
 * The age test vectors of CCTV (C2SP), each fed to `openAge`. Out of scope are files in ASCII armor and files encrypted
 * with a passphrase: holdfast neither writes nor reads them.
 */
import { inflateSync } from 'node:zlib';
import * as cctv from 'cctv-age';
import { describe, expect, it } from 'vitest';
import { openAge } from '../../src/crypto/age.ts';
import { sha256Hex } from '../../src/crypto/hash.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { failure } from './support.ts';

const KEYS: ReadonlySet<string> = new Set([
  'expect',
  'compressed',
  'payload',
  'identity',
  'passphrase',
  'armored',
  'file key',
  'comment',
]);
const CODES: Readonly<Record<string, ErrorCode>> = {
  'no match': 'wrong_key',
  'HMAC failure': 'damaged',
  'header failure': 'damaged',
  'payload failure': 'damaged',
};

interface Vector {
  name: string;
  expected: string;
  payload: string | undefined;
  identities: string[];
  scope: 'in' | 'armor' | 'passphrase';
  file: Uint8Array;
}

function parse(name: string, bytes: Uint8Array): Vector {
  const raw = Buffer.from(bytes);
  const end = raw.indexOf('\n\n');
  const fields = raw
    .subarray(0, end)
    .toString()
    .split('\n')
    .map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)] as const);
  for (const [key] of fields) if (!KEYS.has(key)) throw new Error(`vector ${name} has the unknown key ${key}`);
  const valuesOf = (wanted: string) => fields.filter(([key]) => key === wanted).map(([, value]) => value);
  const body = raw.subarray(end + 2);
  const [compressed] = valuesOf('compressed');
  if (compressed !== undefined && compressed !== 'zlib')
    throw new Error(`vector ${name} is compressed with ${compressed}`);
  return {
    name,
    expected: valuesOf('expect')[0] ?? '',
    payload: valuesOf('payload')[0],
    identities: valuesOf('identity'),
    scope: valuesOf('armored').length > 0 ? 'armor' : valuesOf('passphrase').length > 0 ? 'passphrase' : 'in',
    file: compressed === undefined ? body : inflateSync(body),
  };
}

const all = Object.entries(cctv)
  .filter(([, bytes]) => bytes instanceof Uint8Array)
  .map(([name, bytes]) => parse(name, bytes));
const inScope = all.filter(({ scope }) => scope === 'in');

describe('the age test vectors', () => {
  it('are all there', () => {
    const count = (scope: Vector['scope']) => all.filter((vector) => vector.scope === scope).length;
    expect({ all: all.length, in: count('in'), armor: count('armor'), passphrase: count('passphrase') }).toEqual({
      all: 143,
      in: 85,
      armor: 33,
      passphrase: 25,
    });
  });

  it('out of scope are these', () => {
    const names = (scope: Vector['scope']) => all.filter((vector) => vector.scope === scope).map(({ name }) => name);
    expect(names('armor').every((name) => name.startsWith('armor_'))).toBe(true);
    expect(names('passphrase').every((name) => name.startsWith('scrypt'))).toBe(true);
    expect(inScope.filter(({ name }) => /^(armor_|scrypt)/.test(name))).toEqual([]);
  });

  it.each(inScope.filter(({ expected }) => expected === 'success'))(
    '$name opens',
    async ({ file, identities, payload }) => {
      expect(sha256Hex(await openAge(file, identities))).toBe(payload);
    },
  );

  it.each(inScope.filter(({ expected }) => expected !== 'success'))(
    '$name: $expected',
    async ({ file, identities, expected }) => {
      const code = CODES[expected];
      if (code === undefined) throw new Error(`no code for ${expected}`);
      await failure(() => openAge(file, identities), code);
    },
  );

  it('in armor are refused as damage, not misread', async () => {
    for (const { file, identities } of all.filter(({ scope }) => scope === 'armor')) {
      await failure(() => openAge(file, identities), 'damaged');
    }
  });
});
