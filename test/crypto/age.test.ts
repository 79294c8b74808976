import { bech32 } from '@scure/base';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  ageIdentityFromSeed,
  ageRecipientOf,
  blocksFor,
  checkAgeRecipient,
  newAgeIdentity,
  openAge,
  openAgeHeader,
  parseAgeIdentityFile,
  sealAge,
} from '../../src/crypto/age.ts';
import { BLOCK_PLAIN_BYTES, BLOCK_STORED_BYTES, sealStream, storedSizeOf } from '../../src/crypto/age-stream.ts';
import { everythingOf, failure, seededRandom } from './support.ts';

const SIZES = [0, 1, 65_535, 65_536, 65_537, 131_072, 196_608, 200_000];
const random = seededRandom('age');
const plaintextOf = (size: number) => seededRandom(`plaintext ${size}`).bytes(size);

let identity: string;
let recipient: string;
let stranger: string;
beforeAll(async () => {
  identity = await newAgeIdentity(random);
  recipient = await ageRecipientOf(identity);
  stranger = await newAgeIdentity(random);
});

describe('a sealed file', () => {
  it.each(SIZES)('of %i bytes opens to what went in', async (size) => {
    const plaintext = plaintextOf(size);
    const { bytes, payloadOffset } = await sealAge(plaintext, [recipient], random);
    expect(bytes.length).toBe(payloadOffset + storedSizeOf(size));
    expect(Buffer.compare(await openAge(bytes, [identity]), plaintext)).toBe(0);
    expect(Buffer.from(bytes.subarray(0, 22)).toString()).toBe('age-encryption.org/v1\n');
  });

  it('is the same whatever the parts it is given in', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(70_000), { maxLength: 6 }), async (lengths) => {
        const parts = lengths.map((length, i) => seededRandom(`part ${i}`).bytes(length));
        const { bytes } = await sealAge(parts, [recipient], random);
        expect(Buffer.compare(await openAge(bytes, [identity]), Buffer.concat(parts))).toBe(0);
      }),
      { numRuns: 40 },
    );
  });

  it('opens with the identity of each of its recipients, whichever is tried first', async () => {
    const { bytes } = await sealAge(plaintextOf(10), [recipient, await ageRecipientOf(stranger)], random);
    for (const identities of [[identity], [stranger], [stranger, identity]]) {
      expect(await openAge(bytes, identities)).toEqual(plaintextOf(10));
    }
  });

  it('differs from every other file of the same plaintext', async () => {
    const [a, b] = [
      await sealAge(plaintextOf(100), [recipient], random),
      await sealAge(plaintextOf(100), [recipient], random),
    ];
    expect(Buffer.compare(a.bytes.subarray(a.payloadOffset), b.bytes.subarray(b.payloadOffset))).not.toBe(0);
  });

  it('does not open with another identity, nor with none', async () => {
    const { bytes } = await sealAge(plaintextOf(10), [recipient], random);
    await failure(() => openAge(bytes, [stranger]), 'wrong_key');
    await failure(() => openAge(bytes, []), 'wrong_key');
  });

  it('is read back before it is returned: what does not compare is a bug, not a file', async () => {
    let pass = 0;
    const parts = [plaintextOf(70_000)];
    const flipped = plaintextOf(70_000);
    flipped[69_999]! ^= 1;
    // Memory that changes between encrypting and comparing.
    Object.defineProperty(parts, Symbol.iterator, {
      value: function* () {
        yield pass++ === 0 ? flipped : plaintextOf(70_000);
      },
    });
    await failure(() => sealStream(new Uint8Array(32), parts, new Uint8Array(storedSizeOf(70_000))), 'bug');
    expect(pass).toBe(2);
    await failure(() => sealStream(new Uint8Array(32), [plaintextOf(9)], new Uint8Array(storedSizeOf(10))), 'bug');
  });
});

describe('post-quantum keys', () => {
  it('seal and open, and do not open what is sealed to others', async () => {
    const hybrid = ageIdentityFromSeed(random.bytes(32), 'hybrid');
    const other = ageIdentityFromSeed(random.bytes(32), 'hybrid');
    const hybridRecipient = await ageRecipientOf(hybrid);
    expect(hybrid).toMatch(/^AGE-SECRET-KEY-PQ-1[A-Z0-9]+$/);
    expect(hybridRecipient).toMatch(/^age1pq1[a-z0-9]{1900,}$/);
    checkAgeRecipient(hybridRecipient);
    const { bytes } = await sealAge(plaintextOf(65_537), [hybridRecipient], random);
    expect(await openAge(bytes, [hybrid])).toEqual(plaintextOf(65_537));
    await failure(() => openAge(bytes, [other, identity]), 'wrong_key');
  });
});

describe('a small file', () => {
  it('is refused with any one bit of it changed', async () => {
    const { bytes } = await sealAge(plaintextOf(20), [recipient], random);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = bytes.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      await failure(() => openAge(changed, [identity]), 'damaged', 'wrong_key');
    }
  });

  it('is refused cut short at every length, and with bytes after its end', async () => {
    const { bytes } = await sealAge(plaintextOf(20), [recipient], random);
    for (let length = 0; length < bytes.length; length++) {
      await failure(() => openAge(bytes.subarray(0, length), [identity]), 'damaged');
    }
    for (let more = 1; more < 40; more++) {
      await failure(() => openAge(Buffer.concat([bytes, new Uint8Array(more)]), [identity]), 'damaged');
    }
  });

  it('that is none at all is refused', async () => {
    for (const text of [
      '',
      'hello',
      '-----BEGIN AGE ENCRYPTED FILE-----\n',
      'age-encryption.org/v2\n-> X25519 A\nB\n--- C\n',
    ]) {
      await failure(() => openAge(Buffer.from(text), [identity]), 'damaged');
    }
    await failure(() => openAge(new Uint8Array(1_000_000).fill(0x0a), [identity]), 'damaged');
  });
});

describe('a file of several blocks', () => {
  const size = 3 * BLOCK_PLAIN_BYTES + 100;

  it('is refused with a block dropped, exchanged, repeated or cut off', async () => {
    const { bytes, payloadOffset } = await sealAge(plaintextOf(size), [recipient], random);
    const head = bytes.subarray(0, payloadOffset);
    const [a, b, c, last] = [0, 1, 2, 3].map((i) =>
      bytes.subarray(payloadOffset + i * BLOCK_STORED_BYTES, payloadOffset + (i + 1) * BLOCK_STORED_BYTES),
    ) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
    expect(await openAge(Buffer.concat([head, a, b, c, last]), [identity])).toEqual(plaintextOf(size));
    for (const blocks of [
      [a, b, c],
      [a, b],
      [a],
      [],
      [b, c, last],
      [a, c, b, last],
      [a, a, b, c, last],
      [a, b, c, last, last],
    ]) {
      await failure(() => openAge(Buffer.concat([head, ...blocks]), [identity]), 'damaged');
    }
  });
});

describe('reading parts of a file', () => {
  it('gives the bytes that opening the whole gives, from the blocks that cover them alone', async () => {
    const files = await Promise.all(
      SIZES.map(async (size) => ({ size, ...(await sealAge(plaintextOf(size), [recipient], random)) })),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...files),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.nat(140_000),
        async (file, at, long) => {
          const offset = Math.floor(at * file.size);
          const length = Math.min(long, file.size - offset);
          const need = blocksFor({ offset, length }, file.payloadOffset, file.bytes.length);
          const payload = await openAgeHeader(file.bytes.subarray(0, file.payloadOffset), [identity]);
          expect(payload.payloadOffset).toBe(file.payloadOffset);
          const fetched = file.bytes.slice(need.range.offset, need.range.offset + need.range.length);
          expect(fetched.length).toBe(need.range.length);
          const opened = payload.open(fetched, need.firstBlock, file.bytes.length);
          const wanted = plaintextOf(file.size).subarray(offset, offset + length);
          expect(Buffer.compare(opened.subarray(need.skip, need.skip + length), wanted)).toBe(0);
          expect(need.range.length).toBeLessThanOrEqual(length + 2 * BLOCK_STORED_BYTES);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('notices a file that was cut or grew, blocks of another place, and blocks cut inside', async () => {
    const size = 3 * BLOCK_PLAIN_BYTES;
    const { bytes, payloadOffset } = await sealAge(plaintextOf(size), [recipient], random);
    const payload = await openAgeHeader(bytes.subarray(0, payloadOffset), [identity]);
    const block = (i: number) =>
      bytes.subarray(payloadOffset + i * BLOCK_STORED_BYTES, payloadOffset + (i + 1) * BLOCK_STORED_BYTES);
    expect(payload.open(block(1), 1, bytes.length)).toEqual(
      plaintextOf(size).slice(BLOCK_PLAIN_BYTES, 2 * BLOCK_PLAIN_BYTES),
    );
    // The size says that block 1 is the last one, or that block 2 is not.
    await failure(() => payload.open(block(1), 1, bytes.length - BLOCK_STORED_BYTES), 'damaged');
    await failure(() => payload.open(block(2), 2, bytes.length + BLOCK_STORED_BYTES), 'damaged');
    await failure(() => payload.open(block(1), 0, bytes.length), 'damaged');
    await failure(() => payload.open(block(1).subarray(1), 1, bytes.length), 'damaged');
    await failure(() => payload.open(block(1).subarray(0, 100), 1, bytes.length), 'damaged');
    await failure(() => payload.open(Buffer.concat([block(0), block(1).subarray(0, 5)]), 0, bytes.length), 'damaged');
    await failure(() => payload.open(Buffer.concat([block(2), block(2)]), 2, bytes.length), 'damaged');
    await failure(() => payload.open(block(1), 9, bytes.length), 'damaged');
    await failure(() => payload.open(block(1), -1, bytes.length), 'bug');
  });

  it('refuses a stretch or a size that the file cannot have', async () => {
    const { bytes, payloadOffset } = await sealAge(plaintextOf(1000), [recipient], random);
    for (const range of [
      { offset: 0, length: 1001 },
      { offset: 1001, length: 0 },
      { offset: -1, length: 2 },
      { offset: 5, length: -1 },
    ]) {
      await failure(() => blocksFor(range, payloadOffset, bytes.length), 'damaged');
    }
    for (const fileSize of [0, payloadOffset, payloadOffset + 15, payloadOffset + BLOCK_STORED_BYTES + 16]) {
      await failure(() => blocksFor({ offset: 0, length: 0 }, payloadOffset, fileSize), 'damaged');
    }
    await failure(() => openAgeHeader(bytes.subarray(0, payloadOffset - 1), [identity]), 'damaged');
  });
});

describe('keys', () => {
  it('that are malformed are refused without being shown', async () => {
    const broken = [
      identity.slice(0, -1),
      `${identity}A`,
      identity.toLowerCase(),
      identity.replace(/.$/, (c) => (c === 'Q' ? 'P' : 'Q')),
      bech32.encodeFromBytes('AGE-SECRET-KEY-', random.bytes(31)).toUpperCase(),
      bech32.encodeFromBytes('AGE-PLUGIN-X-', random.bytes(32)).toUpperCase(),
      'not a key at all',
      '',
    ];
    const { bytes } = await sealAge(plaintextOf(1), [recipient], random);
    for (const text of broken) {
      for (const use of [
        () => openAge(bytes, [text]),
        () => ageRecipientOf(text),
        () => parseAgeIdentityFile(`# x\n${text || 'x'}\n`),
      ]) {
        const error = await failure(use, 'wrong_key');
        expect(everythingOf(error)).not.toContain(text || identity);
      }
    }
  });

  it('given where a recipient belongs are refused without being shown', async () => {
    const error = await failure(() => sealAge(plaintextOf(1), [identity], random), 'usage');
    expect(error.message).toContain('identity');
    expect(everythingOf(error)).not.toContain(identity.slice(20));
  });

  it('that are no recipients are refused', async () => {
    const lowOrder = bech32.encodeFromBytes('age', new Uint8Array(32));
    const broken = [
      recipient.slice(0, -1),
      recipient.toUpperCase(),
      'age1',
      '',
      `${recipient} `,
      bech32.encodeFromBytes('bc', random.bytes(32)),
    ];
    for (const text of broken) await failure(() => checkAgeRecipient(text), 'usage');
    checkAgeRecipient(recipient);
    await failure(() => sealAge(plaintextOf(1), [lowOrder], random), 'usage');
    await failure(() => sealAge(plaintextOf(1), [], random), 'bug');
  });

  it('are read from key files, comments and empty lines aside', async () => {
    const text = `# created: 2026-01-01T00:00:00Z\r\n# public key: ${recipient}\r\n${identity}\r\n\n  ${stranger}  \n`;
    expect(parseAgeIdentityFile(text)).toEqual([identity, stranger]);
    await failure(() => parseAgeIdentityFile('# only a comment\n\n'), 'missing_key');
    expect((await failure(() => parseAgeIdentityFile(`${identity}\n\nAGE-SECRET\n`), 'wrong_key')).message).toContain(
      'line 3',
    );
    const { bytes } = await sealAge(plaintextOf(1), [recipient], random);
    const encrypted = await failure(() => parseAgeIdentityFile(Buffer.from(bytes).toString('latin1')), 'wrong_key');
    expect(encrypted.message).toContain('encrypted');
  });
});
