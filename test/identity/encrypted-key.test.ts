import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { hex } from '../../src/crypto/hash.ts';
import {
  formatEncryptedOpenSsh,
  isEncryptedAgentKey,
  openAgentKey,
  parseAgentKey,
  sshPublicLine,
} from '../../src/identity/agent-key.ts';
import { formatPem } from '../../src/identity/pem.ts';
import { everythingOf, failure, lacks, run, seededRandom } from '../crypto/support.ts';
import { mutations, orRefused, PASSPHRASE, pemBytes, sshFixture } from './ssh-fixtures.ts';

const random = seededRandom('encrypted key');
const KEY = parseAgentKey(sshFixture('key'));
const ENCRYPTED = ['key-ctr-1', 'key-ctr', 'key-ctr-24', 'key-pkcs8', 'key-pkcs8-sha512'];
const OTHERWISE: [name: string, problem: string, command: string][] = [
  ['key-cbc', '"aes256-cbc"', 'ssh-keygen -p -Z aes256-ctr'],
  ['key-gcm', '"aes256-gcm@openssh.com"', 'ssh-keygen -p -Z aes256-ctr'],
  ['key-chacha', '"chacha20-poly1305@openssh.com"', 'ssh-keygen -p -Z aes256-ctr'],
  ['key-pkcs8-scrypt', 'not PBKDF2', 'openssl pkey'],
  ['key-pkcs8-old', 'not PBES2', 'openssl pkey'],
];
const ROUNDS_END = 67;
const sameRounds = (a: Uint8Array, b: Uint8Array): boolean =>
  Buffer.from(a.subarray(0, ROUNDS_END)).equals(b.subarray(0, ROUNDS_END));
/** Nothing that is shown holds the key or the passphrase. */
const keepsQuiet = (shown: string): void => {
  const seed = Buffer.from(KEY.seed);
  for (const secret of [PASSPHRASE, seed.toString('hex'), seed.toString('base64').slice(0, 40)]) {
    expect(shown).not.toContain(secret);
  }
};

/** EncryptedPrivateKeyInfo with PBES2, PBKDF2 and AES-256-CBC (RFC 8018), of zeros. */
function encryptedPkcs8(iterations: Uint8Array): Buffer {
  const tlv = (tag: number, ...parts: Uint8Array[]): Buffer => {
    const content = Buffer.concat(parts);
    const { length } = content;
    const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
    return Buffer.from([tag, ...head, ...content]);
  };
  const oid = (hexadecimal: string) => tlv(0x06, Buffer.from(hexadecimal, 'hex'));
  const parameters = tlv(0x30, tlv(0x04, Buffer.alloc(8)), tlv(0x02, iterations));
  const derivation = tlv(0x30, oid('2a864886f70d01050c'), parameters);
  const cipher = tlv(0x30, oid('60864801650304012a'), tlv(0x04, Buffer.alloc(16)));
  const scheme = tlv(0x30, oid('2a864886f70d01050d'), tlv(0x30, derivation, cipher));
  return tlv(0x30, scheme, tlv(0x04, Buffer.alloc(64)));
}

describe('an encrypted agent key', () => {
  it.each(ENCRYPTED)('%s is opened by its passphrase', async (name) => {
    expect(isEncryptedAgentKey(sshFixture(name))).toBe(true);
    expect(await openAgentKey(sshFixture(name), PASSPHRASE)).toEqual(KEY);
  });

  it('is opened by a passphrase beyond ASCII', async () => {
    expect(await openAgentKey(sshFixture('key-ctr-utf8'), 'Grüße aus Köln')).toEqual(KEY);
  });

  it.each(['key-ctr-1', 'key-pkcs8'])('%s is not opened by another passphrase, and says so', async (name) => {
    for (const passphrase of [`${PASSPHRASE} `, 'x'.repeat(2000), '']) {
      const error = await failure(() => openAgentKey(sshFixture(name), passphrase), 'wrong_key');
      expect(error.message).toContain('passphrase');
      keepsQuiet(everythingOf(error));
    }
  });

  it.each(ENCRYPTED)('%s is refused without a passphrase, with what to do', async (name) => {
    const error = await failure(() => parseAgentKey(sshFixture(name)), 'missing_key');
    expect(error.message).toContain('encrypted');
    expect(error.hint).toContain(name.startsWith('key-pkcs8') ? 'openssl pkey' : 'ssh-keygen -p');
  });

  it.each(OTHERWISE)('%s, encrypted in another way, is refused by name', async (name, problem, command) => {
    const error = await failure(() => openAgentKey(sshFixture(name), PASSPHRASE), 'usage');
    expect(error.message).toContain(problem);
    expect(error.hint).toContain(command);
    if (command.startsWith('ssh-keygen')) {
      expect(isEncryptedAgentKey(sshFixture(name))).toBe(false); // nobody is asked for a passphrase in vain
      expect((await failure(() => parseAgentKey(sshFixture(name)), 'usage')).message).toContain(problem);
    }
  });

  it('that would take forever to open is refused at once', async () => {
    const openSsh = pemBytes(sshFixture('key-ctr'));
    const roundsAt = openSsh.indexOf(Buffer.from('0000001800000010', 'hex')) + 4 + 4 + 16;
    for (const rounds of [513, 0x7fffffff, 0xffffffff]) {
      openSsh.writeUInt32BE(rounds, roundsAt);
      const text = formatPem('OPENSSH PRIVATE KEY', openSsh, 70);
      const error = await failure(() => openAgentKey(text, PASSPHRASE), 'usage');
      expect(error.message).toContain(`${rounds} rounds`);
    }
    for (const iterations of ['00989681', '7fffffff', 'ffffffffffff', 'ff'.repeat(100)]) {
      const text = formatPem('ENCRYPTED PRIVATE KEY', encryptedPkcs8(Buffer.from(iterations, 'hex')), 64);
      const error = await failure(() => openAgentKey(text, PASSPHRASE), 'usage');
      expect(error.message).toContain('10,000,000 iterations');
    }
  });

  it('without rounds or salt is refused', async () => {
    const openSsh = pemBytes(sshFixture('key-ctr'));
    openSsh.writeUInt32BE(0, openSsh.indexOf(Buffer.from('0000001800000010', 'hex')) + 4 + 4 + 16);
    await failure(() => openAgentKey(formatPem('OPENSSH PRIVATE KEY', openSsh, 70), PASSPHRASE), 'wrong_key');
  });

  it.each([
    ['key', 'OPENSSH PRIVATE KEY', 500],
    ['key-ctr-1', 'OPENSSH PRIVATE KEY', 100],
    ['key-pkcs8', 'ENCRYPTED PRIVATE KEY', 300],
  ])('%s with bytes changed is refused or a key, and nothing else, in no time', async (name, label, numRuns) => {
    const bytes = pemBytes(sshFixture(name));
    await fc.assert(
      fc.asyncProperty(mutations(bytes), async (changed) => {
        const text = formatPem(label, changed, 70);
        // Numbers of rounds are tested above: those that are allowed take seconds.
        if (label.startsWith('OPENSSH') && name !== 'key' && !sameRounds(changed, bytes)) {
          await orRefused(() => parseAgentKey(text), keepsQuiet);
          return;
        }
        const key = await orRefused(() => openAgentKey(text, PASSPHRASE), keepsQuiet);
        // PKCS#8 has neither a check of its own nor the public key.
        if (key !== undefined && name !== 'key-pkcs8') expect(hex(key.seed)).toBe(hex(KEY.seed));
      }),
      { numRuns },
    );
  });
});

describe.skipIf(lacks('ssh-keygen', '-?'))('ssh-keygen', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-locked-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('opens the encrypted key files that holdfast writes, with their passphrase only', async () => {
    const path = join(folder, 'written');
    writeFileSync(path, await formatEncryptedOpenSsh(KEY, 'Zoë\nx', PASSPHRASE, random), { mode: 0o600 });
    const line = run('ssh-keygen', ['-y', '-P', PASSPHRASE, '-f', path]).toString().trim();
    expect(line).toBe(sshPublicLine(KEY.publicKey, 'Zoë x'));
    expect(() => run('ssh-keygen', ['-y', '-P', 'another', '-f', path])).toThrow('incorrect passphrase');
    expect(await openAgentKey(readFileSync(path, 'utf8'), PASSPHRASE)).toEqual(KEY);
  });

  it('encrypts key files that holdfast opens', async () => {
    const path = join(folder, 'locked');
    writeFileSync(path, sshFixture('key'), { mode: 0o600 });
    run('ssh-keygen', ['-q', '-p', '-P', '', '-N', PASSPHRASE, '-f', path]);
    expect(await openAgentKey(readFileSync(path, 'utf8'), PASSPHRASE)).toEqual(KEY);
  });
});

describe('an encrypted export', () => {
  it('takes 24 rounds, a fresh salt, and no empty passphrase', async () => {
    const texts = await Promise.all([1, 2].map(() => formatEncryptedOpenSsh(KEY, '', PASSPHRASE, random)));
    const [a, b] = texts.map((text) => pemBytes(text));
    expect(a?.includes(Buffer.from('aes256-ctr'))).toBe(true);
    expect(a?.readUInt32BE(63)).toBe(24);
    expect(a?.subarray(47, 63)).not.toEqual(b?.subarray(47, 63));
    // without a comment, the padding is longer than a block of an unencrypted file
    expect(await openAgentKey(texts[0] ?? '', PASSPHRASE)).toEqual(KEY);
    await failure(() => formatEncryptedOpenSsh(KEY, '', '', random), 'usage');
  });
});
