import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deviceId, formatAgentKey, parseAgentKey } from '../../src/identity/agent-key.ts';
import { everythingOf, failure, seededRandom } from '../crypto/support.ts';
import { orRefused, sshFixture } from './ssh-fixtures.ts';

const random = seededRandom('device');
const KEY = parseAgentKey(sshFixture('key'));

interface Device {
  version: number;
  deviceId: string;
  publicKeyPem: string;
  privateKeyPem: string;
  createdAtMs: number;
}

/** As OpenClaw makes one. */
function openClawDevice(): Device {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(12);
  return {
    version: 1,
    deviceId: createHash('sha256').update(raw).digest('hex'),
    publicKeyPem: publicKey.export({ format: 'pem', type: 'spki' }).toString(),
    privateKeyPem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    createdAtMs: 1_770_000_000_000,
  };
}

describe('a device.json', () => {
  it('of OpenClaw is read, however it is laid out', () => {
    const device = openClawDevice();
    for (const text of [JSON.stringify(device), `${JSON.stringify(device, null, 2)}\n`]) {
      const key = parseAgentKey(text);
      expect(deviceId(key.publicKey)).toBe(device.deviceId);
      expect(formatAgentKey(key, 'pkcs8', '', random)).toBe(device.privateKeyPem);
    }
  });

  it('is written as OpenClaw writes it', () => {
    const device = openClawDevice();
    const key = parseAgentKey(JSON.stringify(device));
    const text = formatAgentKey(key, 'device', '', random, device.createdAtMs);
    expect(text).toBe(`${JSON.stringify(device, null, 2)}\n`);
    const { privateKeyPem, publicKeyPem } = JSON.parse(text) as Device;
    expect(createPublicKey(createPrivateKey(privateKeyPem)).equals(createPublicKey(publicKeyPem))).toBe(true);
  });

  it('whose parts are not of one key is refused, with the part', async () => {
    const [device, other] = [openClawDevice(), openClawDevice()];
    for (const [field, told] of [
      ['deviceId', 'deviceId'],
      ['publicKeyPem', 'public key'],
      ['privateKeyPem', 'public key'],
    ] as const) {
      const error = await failure(
        () => parseAgentKey(JSON.stringify({ ...device, [field]: other[field] })),
        'wrong_key',
      );
      expect(error.message).toContain(`the ${told} in`);
      expect(everythingOf(error)).not.toContain(device.privateKeyPem.split('\n')[1]);
    }
    await failure(
      () => parseAgentKey(JSON.stringify({ ...device, deviceId: device.deviceId.toUpperCase() })),
      'wrong_key',
    );
  });

  it('of another version, or that is none, is refused', async () => {
    const device = openClawDevice();
    await failure(() => parseAgentKey(JSON.stringify({ ...device, version: 2 })), 'unsupported_format');
    for (const field of ['version', 'deviceId', 'publicKeyPem', 'privateKeyPem'] as const) {
      for (const value of [undefined, null, [], {}, 'x']) {
        await failure(() => parseAgentKey(JSON.stringify({ ...device, [field]: value })), 'wrong_key');
      }
    }
    const encrypted = { ...device, privateKeyPem: sshFixture('key-pkcs8') };
    for (const text of ['{', '{}', '{"version":1}', JSON.stringify(encrypted)]) {
      await failure(() => parseAgentKey(text), 'wrong_key');
    }
  });

  it('with letters changed is refused or still the same key, and no part of it is told', async () => {
    const text = formatAgentKey(KEY, 'device', '', random);
    const pem = (JSON.parse(text) as Device).privateKeyPem.split('\n')[1] ?? '';
    await fc.assert(
      fc.asyncProperty(fc.nat(text.length - 1), fc.nat(3), fc.string({ maxLength: 3 }), async (at, left, put) => {
        const changed = text.slice(0, at) + put + text.slice(at + left);
        const key = await orRefused(
          () => parseAgentKey(changed),
          (shown) => {
            for (let i = 0; i + 12 <= pem.length; i += 4) expect(shown).not.toContain(pem.slice(i, i + 12));
          },
        );
        if (key !== undefined) expect(key).toEqual(KEY);
      }),
      { numRuns: 500 },
    );
  });
});
