import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { hex, unhex } from '../../src/crypto/hash.ts';
import {
  deviceId,
  didKey,
  fingerprint,
  looksLikePublicKey,
  parseAgentKey,
  parsePublicKey,
  sshPublicLine,
} from '../../src/identity/agent-key.ts';
import { formatSpki } from '../../src/identity/public-key.ts';
import { failure } from '../crypto/support.ts';
import { orRefused, sshFixture } from './ssh-fixtures.ts';

const { publicKey } = parseAgentKey(sshFixture('key'));

describe('a public key', () => {
  it('has the did:key of the test vectors of the did:key method', () => {
    const dids = [0, 1].map((last) => didKey(publicKeyOf(unhex('00'.repeat(31) + `0${last}`))));
    expect(dids).toEqual([
      'did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp',
      'did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG',
    ]);
  });

  it('has the SHA-256 of its bytes as device id', () => {
    // sha256sum of the 32 bytes
    expect(deviceId(publicKeyOf(new Uint8Array(32)))).toBe(
      '139e3940e64b5491722088d9a0d741628fc826e09475d341a780acde3c4b8070',
    );
  });

  it('is read from each of its forms', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (seed) => {
        const key = publicKeyOf(seed);
        const short = [
          hex(key),
          hex(key).toUpperCase(),
          didKey(key),
          sshPublicLine(key, ''),
          sshPublicLine(key, 'a b'),
        ];
        for (const form of [...short, formatSpki(key), formatSpki(key).replaceAll('\n', '\r\n')]) {
          expect(parsePublicKey(form)).toEqual(key);
          expect(parsePublicKey(` ${form}\n`)).toEqual(key);
        }
        expect(short.every(looksLikePublicKey)).toBe(true);
      }),
      { numRuns: 20 },
    );
    expect(parsePublicKey(sshFixture('key.pub'))).toEqual(publicKey);
  });

  it('is told from the name of a file', () => {
    for (const name of ['key.pub', '/keys/ssh-ed25519', 'did', 'a'.repeat(64) + '.pub']) {
      expect(looksLikePublicKey(name), name).toBe(false);
    }
  });

  it('of another kind, or none, is refused', async () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
    const line = sshPublicLine(publicKey, '');
    const refused = [
      ...['', 'hello', hex(publicKey).slice(2), fingerprint(publicKey), `${line}\n${line}`],
      ...[didKey(publicKey).slice(0, -1), `${didKey(publicKey)}1`, 'did:key:z0OIl', 'did:web:example.org'],
      'did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme', // secp256k1
      ...[line.slice(0, -4), line.replace('ssh-ed25519', 'ssh-rsa'), 'ssh-ed25519 AAAA'],
      rsa.export({ format: 'pem', type: 'spki' }).toString(),
      `did:key:z${'2'.repeat(60_000)}`,
    ];
    for (const text of refused) await failure(() => parsePublicKey(text), 'wrong_key');
    const error = await failure(() => parsePublicKey(sshFixture('key')), 'usage');
    expect(error.message).toContain('private key');
  });

  it('in any text is a key or refused', async () => {
    const near = fc.oneof(
      fc.string(),
      fc.string().map((text) => `did:key:z${text}`),
      fc.base64String().map((text) => `ssh-ed25519 ${text}`),
      fc.base64String().map((text) => `-----BEGIN PUBLIC KEY-----\n${text}\n-----END PUBLIC KEY-----`),
    );
    await fc.assert(
      fc.asyncProperty(near, async (text) => {
        const key = await orRefused(
          () => parsePublicKey(text),
          () => undefined,
        );
        if (key !== undefined) expect(key).toHaveLength(32);
      }),
    );
  });
});
