import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { hex } from '../../src/crypto/hash.ts';
import { isHoldfastError } from '../../src/errors.ts';
import {
  fingerprint,
  formatOpenSsh,
  parseAgentKey,
  sshPublicLine,
  type SigningKey,
} from '../../src/identity/agent-key.ts';
import { everythingOf, failure, lacks, run, seededRandom } from '../crypto/support.ts';

const random = seededRandom('agent key');
const newKey = (): SigningKey => {
  const seed = random.bytes(32);
  return { seed, publicKey: publicKeyOf(seed) };
};
const pem = (label: string, der: Uint8Array) => {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
};
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');
const pkcs8Of = (seed: Uint8Array) => pem('PRIVATE KEY', Buffer.concat([PKCS8, seed]));

describe('an agent key', () => {
  it('is read from OpenSSH, PKCS#8 and hexadecimal forms alike', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.string({ maxLength: 60 }), (seed, comment) => {
        const key = { seed, publicKey: publicKeyOf(seed) };
        const forms = [
          formatOpenSsh(key, comment, random),
          pkcs8Of(seed),
          hex(seed),
          `${hex(seed).toUpperCase()}\n`,
          hex(seed) + hex(key.publicKey),
          formatOpenSsh(key, comment, random).replaceAll('\n', '\r\n'),
        ];
        for (const form of forms) expect(parseAgentKey(form)).toEqual(key);
      }),
      { numRuns: 30 },
    );
  });

  it('is read from what OpenSSL writes', () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const { d, x } = privateKey.export({ format: 'jwk' });
    const key = parseAgentKey(privateKey.export({ format: 'pem', type: 'pkcs8' }).toString());
    expect([key.seed, key.publicKey].map((bytes) => Buffer.from(bytes).toString('base64url'))).toEqual([d, x]);
  });

  it('is read from the examples of RFC 8410, section 10.3, also with attributes and public key', async () => {
    const publicKey = '19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1';
    const plain = 'MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC';
    const full =
      'MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhCoB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=';
    for (const text of [plain, full]) {
      expect(hex(parseAgentKey(pem('PRIVATE KEY', Buffer.from(text, 'base64'))).publicKey)).toBe(publicKey);
    }
    const other = Buffer.from(full, 'base64');
    other[other.length - 1]! ^= 1;
    await failure(() => parseAgentKey(pem('PRIVATE KEY', other)), 'wrong_key');
  });

  it('whose public part is another one is refused', async () => {
    const [a, b] = [newKey(), newKey()];
    const mixed = { seed: a.seed, publicKey: b.publicKey };
    for (const text of [hex(a.seed) + hex(b.publicKey), formatOpenSsh(mixed, '', random)]) {
      const error = await failure(() => parseAgentKey(text), 'wrong_key');
      expect(error.message).toContain('public key');
    }
  });

  it('of another kind is refused', async () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
    const x25519 = generateKeyPairSync('x25519').privateKey;
    const ed448 = generateKeyPairSync('ed448').privateKey;
    for (const key of [rsa, x25519, ed448]) {
      await failure(() => parseAgentKey(key.export({ format: 'pem', type: 'pkcs8' }).toString()), 'wrong_key');
    }
    await failure(() => parseAgentKey(rsa.export({ format: 'pem', type: 'pkcs1' }).toString()), 'wrong_key');
  });

  it('that is a public one is refused', async () => {
    const key = newKey();
    const spki = pem('PUBLIC KEY', Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), key.publicKey]));
    for (const text of [sshPublicLine(key.publicKey, 'me@host'), spki]) {
      expect((await failure(() => parseAgentKey(text), 'usage')).message).toContain('public key');
    }
  });

  it('in OpenSSH form is refused with any of its copies of the public key, or a check number, changed', async () => {
    const key = newKey();
    const text = formatOpenSsh(key, 'me', random);
    const file = Buffer.from(text.split('\n').slice(1, -2).join(''), 'base64');
    const copies: number[] = [];
    for (let at = file.indexOf(key.publicKey); at >= 0; at = file.indexOf(key.publicKey, at + 1)) copies.push(at);
    expect(copies).toHaveLength(3);
    const checkNumber = file.indexOf('ssh-ed25519', copies[0]) - 8;
    for (const at of [...copies, checkNumber]) {
      const changed = Buffer.from(file);
      changed[at]! ^= 1;
      await failure(() => parseAgentKey(pem('OPENSSH PRIVATE KEY', changed)), 'wrong_key');
    }
    expect(parseAgentKey(pem('OPENSSH PRIVATE KEY', file))).toEqual(key);
  });

  it('cut short anywhere is refused, and not shown', async () => {
    const key = newKey();
    for (const text of [formatOpenSsh(key, 'me', random), pkcs8Of(key.seed), hex(key.seed)]) {
      const secretLines = text.split('\n').filter((line) => line.length > 20 && !line.startsWith('-'));
      for (let length = 0; length < text.trimEnd().length; length++) {
        const shown = everythingOf(await failure(() => parseAgentKey(text.slice(0, length)), 'wrong_key', 'usage'));
        for (const line of secretLines) expect(shown).not.toContain(line);
      }
    }
  });

  it('in OpenSSH form with any letter changed is refused or still the same key', () => {
    const key = newKey();
    const text = formatOpenSsh(key, 'me', random);
    const found = new Set<string>();
    for (let i = 0; i < text.length; i++) {
      try {
        found.add(hex(parseAgentKey(text.slice(0, i) + (text[i] === 'A' ? 'B' : 'A') + text.slice(i + 1)).seed));
      } catch (error) {
        if (!isHoldfastError(error, 'wrong_key', 'usage')) throw error;
      }
    }
    expect([...found]).toEqual([hex(key.seed)]); // a letter of the comment
  });

  it('that is none at all is refused', async () => {
    for (const text of ['', 'hello', hex(newKey().seed).slice(1), `${hex(newKey().seed)}00`]) {
      await failure(() => parseAgentKey(text), 'wrong_key');
    }
  });
});

describe.skipIf(lacks('ssh-keygen', '-?'))('ssh-keygen', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-ssh-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  let files = 0;
  const fileOf = (text: string) => {
    const path = join(folder, `key${files++}`);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };

  it('reads the key files that holdfast writes, with any comment, and prints the same public key and fingerprint', () => {
    for (const comment of ['agent@host', '', 'with spaces', 'Zoë', 'x'.repeat(37)]) {
      const key = newKey();
      const path = fileOf(formatOpenSsh(key, comment, random));
      const line = run('ssh-keygen', ['-y', '-f', path]).toString().trim();
      expect(line.split(' ').slice(0, 2)).toEqual(sshPublicLine(key.publicKey, '').split(' '));
      const listed = run('ssh-keygen', ['-l', '-f', fileOf(`${sshPublicLine(key.publicKey, comment)}\n`)]).toString();
      expect(listed).toContain(` ${fingerprint(key.publicKey)} `);
    }
  });

  it('writes key files that holdfast reads', () => {
    const path = join(folder, 'made');
    run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'a comment', '-f', path]);
    const key = parseAgentKey(readFileSync(path, 'utf8'));
    expect(`${sshPublicLine(key.publicKey, 'a comment')}\n`).toBe(readFileSync(`${path}.pub`, 'utf8'));
    expect(createPrivateKey(pkcs8Of(key.seed)).asymmetricKeyType).toBe('ed25519');
  });

  it('writes keys of other kinds that holdfast refuses', async () => {
    run('ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', join(folder, 'ecdsa')]);
    const other = await failure(() => parseAgentKey(readFileSync(join(folder, 'ecdsa'), 'utf8')), 'wrong_key');
    expect(other.message).toContain('ecdsa-sha2-nistp256');
  });
});

describe('a public key line', () => {
  it('stays one line whatever the comment', () => {
    expect(sshPublicLine(newKey().publicKey, 'a\nssh-ed25519 AAAA evil\r\0')).not.toMatch(/[\n\r\0]/);
  });
});
