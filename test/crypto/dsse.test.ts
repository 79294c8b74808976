import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pae, parseEnvelope, signEnvelope, signedBy, SIGNATURES_MAX } from '../../src/crypto/dsse.ts';
import { publicKeyOf, sign } from '../../src/crypto/ed25519.ts';
import { hex, unhex } from '../../src/crypto/hash.ts';
import { RECORD_MAX_BYTES } from '../../src/limits.ts';
import { failure, vectors } from './support.ts';

const official = vectors<{
  keys: Record<string, { seed: string; publicKey: string }>;
  vectors: { id: string; payloadType: string; payload: string; pae: string; signatures: Record<string, string> }[];
}>('dsse');

const TYPE = 'application/vnd.holdfast.test';
const signer = (fill: number) => {
  const seed = new Uint8Array(32).fill(fill);
  return { seed, publicKey: publicKeyOf(seed) };
};
const [alice, bob, eve] = [signer(1), signer(2), signer(3)];
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

describe('the DSSE specification', () => {
  it('gives this example of the pre-authentication encoding', () => {
    const encoded = pae('http://example.com/HelloWorld', Buffer.from('hello world'));
    expect(text(encoded)).toBe('DSSEv1 29 http://example.com/HelloWorld 11 hello world');
  });

  it('has six distinct signed messages in its test vectors', () => expect(official.vectors).toHaveLength(6));

  it.each(official.vectors)('test vector $id', ({ payloadType, payload, pae: encoded, signatures }) => {
    const body = Buffer.from(payload, 'base64');
    expect(hex(pae(payloadType, body))).toBe(encoded);
    const signers = Object.keys(signatures).map((name) => {
      const key = official.keys[name]!;
      return { seed: unhex(key.seed), publicKey: unhex(key.publicKey) };
    });
    const envelope = parseEnvelope(signEnvelope(payloadType, body, signers), payloadType);
    expect(envelope.signatures.map(({ sig }) => Buffer.from(sig).toString('base64'))).toEqual(
      Object.values(signatures),
    );
    for (const { publicKey } of signers) expect(signedBy(envelope, publicKey)).toBe(true);
  });
});

describe('an envelope', () => {
  const payload = Buffer.from('{"a":1}');
  const bytes = signEnvelope(TYPE, payload, [alice, bob]);

  it('has exactly this form', () => {
    const sig = (seed: Uint8Array) => Buffer.from(sign(pae(TYPE, payload), seed)).toString('base64');
    expect(text(bytes)).toBe(
      `{"payloadType":"${TYPE}","payload":"eyJhIjoxfQ==","signatures":[` +
        `{"keyid":"${hex(alice.publicKey)}","sig":"${sig(alice.seed)}"},` +
        `{"keyid":"${hex(bob.publicKey)}","sig":"${sig(bob.seed)}"}]}\n`,
    );
  });

  it('gives back the payload and who signed', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (body) => {
        const envelope = parseEnvelope(signEnvelope(TYPE, body, [alice, bob]), TYPE);
        expect(envelope.payload).toEqual(body);
        expect([alice, bob, eve].map(({ publicKey }) => signedBy(envelope, publicKey))).toEqual([true, true, false]);
      }),
      { numRuns: 20 },
    );
  });

  it('is not signed by someone whose key id merely stands in it', () => {
    const forged = text(bytes).replace(hex(alice.publicKey), hex(eve.publicKey));
    const envelope = parseEnvelope(Buffer.from(forged), TYPE);
    expect(signedBy(envelope, eve.publicKey)).toBe(false);
    expect(signedBy(envelope, alice.publicKey)).toBe(false);
    expect(signedBy(envelope, bob.publicKey)).toBe(true);
  });

  it('is not signed once payload or type is another', () => {
    const envelope = parseEnvelope(bytes, TYPE);
    expect(signedBy({ ...envelope, payload: Buffer.from('{"a":2}') }, alice.publicKey)).toBe(false);
    expect(signedBy({ ...envelope, payloadType: `${TYPE}2` }, alice.publicKey)).toBe(false);
  });

  it('of another type is refused, with both types named', async () => {
    const error = await failure(() => parseEnvelope(bytes, 'application/other'), 'damaged');
    expect(error.message).toContain(TYPE);
    expect(error.message).toContain('application/other');
  });

  it('of any other spelling is refused', async () => {
    const good = text(bytes);
    const one = text(signEnvelope(TYPE, payload, [alice]));
    const many = Array.from({ length: SIGNATURES_MAX + 1 }, () => alice);
    const spellings: Record<string, string | Uint8Array> = {
      'no newline': good.trimEnd(),
      'another newline': `${good}\n`,
      'white space': good.replace('","payload"', '", "payload"'),
      'another order': good.replace(/^\{("payloadType":"[^"]*"),("payload":"[^"]*")/, '{$2,$1'),
      'a name twice': good.replace('{', '{"payloadType":"x",'),
      'an unknown name': good.replace('{', '{"extra":1,'),
      'an unknown name in a signature': good.replace('{"keyid"', '{"cert":"","keyid"'),
      'escaped letters': good.replace('application', '\\u0061pplication'),
      'unpadded base64': good.replace('fQ==', 'fQ'),
      'base64 of no canonical form': good.replace('fQ==', 'fR=='),
      'an upper-case key id': good.replace(hex(alice.publicKey), hex(alice.publicKey).toUpperCase()),
      'a key id that is none': good.replace(hex(alice.publicKey), 'alice'),
      'a signature that is cut': one.replace(/("sig":")..../, '$1'),
      'no signature': one.replace(/\[.*\]/, '[]'),
      'too many signatures': signEnvelope(TYPE, payload, many),
      'a number for the payload': good.replace('"eyJhIjoxfQ=="', '1'),
      'a list': `[${good.trimEnd()}]\n`,
      null: 'null\n',
      nothing: '',
      'bytes that are no UTF-8': Uint8Array.of(0xff, 0xfe),
    };
    for (const [name, spelling] of Object.entries(spellings)) {
      const changed = typeof spelling === 'string' ? Buffer.from(spelling) : spelling;
      expect(Buffer.compare(changed, bytes), name).not.toBe(0);
      await failure(() => parseEnvelope(changed, TYPE), 'damaged');
    }
  });

  it('cut short anywhere, or with any byte changed, is refused or no longer signed', async () => {
    for (let i = 0; i < bytes.length; i++) {
      await failure(() => parseEnvelope(bytes.subarray(0, i), TYPE), 'damaged');
      const changed = Uint8Array.from(bytes);
      changed[i]! ^= 1;
      let signed: boolean;
      try {
        const envelope = parseEnvelope(changed, TYPE);
        signed = signedBy(envelope, alice.publicKey) && signedBy(envelope, bob.publicKey);
      } catch {
        signed = false;
      }
      expect(signed, `byte ${i}`).toBe(false);
    }
  });

  it('larger than a record may be is refused', async () => {
    await failure(() => parseEnvelope(new Uint8Array(RECORD_MAX_BYTES + 1), TYPE), 'damaged');
  });
});
