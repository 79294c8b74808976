import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { ageRecipientOf, newAgeIdentity, openAge, sealAge } from '../../../src/crypto/age.ts';
import { sha256Hex } from '../../../src/crypto/hash.ts';
import type { ChunkId } from '../../../src/entry.ts';
import type { PackId } from '../../../src/repository/records/object-name.ts';
import { openIndex, sealIndex } from '../../../src/repository/packs/index-object.ts';
import { indexLine, type IndexedPack } from '../../../src/repository/packs/pack-index.ts';
import { failure, seededRandom } from '../../crypto/support.ts';

const random = seededRandom('index');
const reader = await newAgeIdentity(random);
const writer = await newAgeIdentity(random);
const recipients = [await ageRecipientOf(reader), await ageRecipientOf(writer)];
const repository = 'ab'.repeat(16);
const chunkIdKey = new Uint8Array(32).fill(9);
const context = { repository, chunkIdKey, identities: [reader] };

const hexOf = (text: string) => sha256Hex(Buffer.from(text));
const packs: IndexedPack[] = Array.from({ length: 3 }, (_, n) => ({
  id: hexOf(`pack ${n}`) as PackId,
  kind: n === 2 ? 'manifest' : 'data',
  storedBytes: 5000,
  payloadOffset: 366,
  frames: [{ offset: 0, length: 4000, tarBytes: 9000 }],
  chunks: [{ id: hexOf(`chunk ${n}`) as ChunkId, frame: 0, offset: 512, length: 1000 }],
}));
const sealed = await sealIndex(packs, { repository, chunkIdKey, recipients, random });
const open = (bytes: Uint8Array, over: Partial<typeof context> = {}) =>
  openIndex(bytes, sha256Hex(bytes), { ...context, ...over });

/** An index whose text somebody who knows the (public) recipients changed, under its right name. */
async function rewritten(edit: (text: string) => string): Promise<Uint8Array> {
  const text = zstdDecompressSync(await openAge(sealed, [reader])).toString();
  return (await sealAge(zstdCompressSync(Buffer.from(edit(text))), recipients, random)).bytes;
}

describe('an index object', () => {
  test('comes back as it was, for those who restore and those who write', async () => {
    expect(await open(sealed)).toEqual(packs);
    expect(await open(sealed, { identities: [writer] })).toEqual(packs);
  });

  test('may be empty', async () => {
    expect(await open(await sealIndex([], { repository, chunkIdKey, recipients, random }))).toEqual([]);
  });

  test('opens for nobody else', async () => {
    await failure(async () => open(sealed, { identities: [await newAgeIdentity(random)] }), 'wrong_key');
  });

  test('is refused under another name', async () => {
    await failure(() => openIndex(sealed, hexOf('other'), context), 'damaged');
  });

  test('is refused with any bit turned', async () => {
    const id = sha256Hex(sealed);
    for (let at = 0; at < sealed.length; at += 17) {
      const changed = sealed.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      await failure(() => openIndex(changed, id, context), 'damaged');
    }
  });

  test.each([0, 1, 100, 300, sealed.length - 1])(
    'is refused cut short to %i bytes, also under the name of these',
    async (length) => {
      const cut = sealed.slice(0, length);
      await failure(() => openIndex(cut, sha256Hex(sealed), context), 'damaged');
      await failure(() => open(cut), 'damaged');
    },
  );

  test('of another repository is refused', async () => {
    await failure(() => open(sealed, { repository: 'cd'.repeat(16) }), 'forged');
    await failure(() => open(sealed, { chunkIdKey: new Uint8Array(32).fill(8) }), 'forged');
  });

  test('of a newer version is refused as such', async () => {
    const error = await failure(
      async () => open(await rewritten((text) => text.replace('"version":1', '"version":2'))),
      'unsupported_format',
    );
    expect(error.message).toContain('version 2');
  });

  test.each([
    ['a pack changed', (text: string) => text.replace('"size":5000', '"size":5001')],
    [
      'a pack added',
      (text: string) =>
        text.replace('\n', `\n${indexLine({ ...(packs[0] as IndexedPack), id: hexOf('x') as PackId })}\n`),
    ],
    ['a pack removed', (text: string) => text.split('\n').toSpliced(1, 1).join('\n')],
    [
      'two packs exchanged',
      (text: string) => {
        const [head, a, b, ...rest] = text.split('\n');
        return [head, b, a, ...rest].join('\n');
      },
    ],
    [
      'another MAC',
      (text: string) => text.replace(/"mac":"./, (found) => `${found.slice(0, -1)}${found.endsWith('0') ? '1' : '0'}`),
    ],
    ['no MAC', (text: string) => text.split('\n').slice(0, -2).join('\n') + '\n'],
    ['an end cut off at a line', (text: string) => `${text.split('\n').slice(0, 2).join('\n')}\n`],
    ['something after the MAC', (text: string) => `${text}\n`],
    ['a MAC without its line feed', (text: string) => text.slice(0, -1)],
  ])('with %s is refused: only who holds the secret can write one', async (_, edit) => {
    await failure(async () => open(await rewritten(edit)), 'forged');
  });

  test.each([
    ['nothing', ''],
    ['a line feed', '\n'],
    ['a line that is no head', 'x\n'],
    ['a head without a version', '{"repository":"x"}\n{}\n'],
  ])('that holds %s is refused', async (_, text) => {
    await failure(async () => open(await rewritten(() => text)), 'damaged');
  });

  test('that is not compressed is refused', async () => {
    const { bytes } = await sealAge(Buffer.from('{"version":1}\n'), recipients, random);
    await failure(() => open(bytes), 'damaged');
  });

  test('that decompresses beyond its limit is refused', async () => {
    const { bytes } = await sealAge(zstdCompressSync(new Uint8Array(256 * 2 ** 20 + 1)), recipients, random);
    await failure(() => open(bytes), 'damaged');
  });

  test('of more lines than fit into memory is refused before it is taken apart', async () => {
    const head = Buffer.from(`${JSON.stringify({ version: 1, repository })}\n`);
    const plain = Buffer.concat([head, Buffer.alloc(200 * 2 ** 20, '\n')]);
    const { bytes } = await sealAge(zstdCompressSync(plain), recipients, random);
    await failure(() => open(bytes), 'forged');
  });
});
