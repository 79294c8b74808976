/** How the sources treat secrets: compared in constant time, overwritten after use. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { equalBytes, wipe, withSecret } from '../../src/crypto/hash.ts';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));

/** A comparison that ends at the first difference, of what its name says is secret or proves the knowledge of a secret. */
const COMPARISON =
  /(?<![\w.])[\w.]*(?:mac|seed|secret|passphrase|token|authTag|fileKey|privateKey|chunkIdKey|root)(?:\(\))?\s*(?:[!=]==(?!\s*(?:undefined|null|true|false|['"`\d]))|\.(?:equals|compare)\()/gi;
/** What is looked at is no secret: which folder is the root, whether an option is on, and the same passphrase typed twice on one terminal. */
const ALLOWED = [
  /ROOT\b/,
  /this\.#root/,
  /\broot (?:[!=]==) root\b/,
  /passphrase === \(await askUnseen/,
  /lastRoot\?\.root/,
];

function findings(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => !/^\s*(?:\*|\/\/|\/\*)/.test(line) && line.search(COMPARISON) >= 0)
    .filter((line) => !ALLOWED.some((allowed) => allowed.test(line)));
}

test('no secret and no MAC is compared by a comparison that ends at the first difference', () => {
  expect(findings('if (mac !== expected) throw')).toHaveLength(1);
  expect(findings('return this.secret.equals(other)')).toHaveLength(1);
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const found = files.flatMap((name) =>
    findings(readFileSync(join(SRC, name), 'utf8')).map((line) => `${name}: ${line.trim()}`),
  );
  expect(found).toEqual([]);
});

test('timingSafeEqual is called in one place, and where the layers do not reach it', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const callers = files.filter((name) => readFileSync(join(SRC, name), 'utf8').includes('timingSafeEqual('));
  expect(callers.toSorted()).toEqual(['backend/known-hosts.ts', 'crypto/hash.ts']);
  expect([equalBytes(Buffer.from('a'), Buffer.from('a')), equalBytes(Buffer.from('a'), Buffer.from('ab'))]).toEqual([
    true,
    false,
  ]);
});

test('a secret is overwritten after its use, also when that fails', () => {
  const [one, other] = [Buffer.from('secret'), Buffer.from('secret')];
  expect(withSecret(one, (secret) => secret.length)).toBe(6);
  expect(() =>
    withSecret(other, () => {
      throw new Error('no');
    }),
  ).toThrow('no');
  const third = Buffer.from('secret');
  wipe(third, undefined);
  for (const secret of [one, other, third]) expect([...secret]).toEqual([0, 0, 0, 0, 0, 0]);
});
