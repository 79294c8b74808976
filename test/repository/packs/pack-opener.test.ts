/** Packs that are opened in a thread give what they give in this one, and fail as they do here. */
import { afterAll, expect, test } from 'vitest';
import { ageRecipientOf, newAgeIdentity, sealAge } from '../../../src/crypto/age.ts';
import { chunkIdFunction } from '../../../src/crypto/chunk-id.ts';
import { sha256Hex } from '../../../src/crypto/hash.ts';
import type { ChunkId } from '../../../src/entry.ts';
import type { PackId } from '../../../src/repository/records/object-name.ts';
import { openPack, type OpenedPack, type PackToOpen } from '../../../src/repository/packs/open-pack.ts';
import { PackOpener } from '../../../src/repository/packs/pack-opener.ts';
import { FrameBuffers, PackBuilder } from '../../../src/repository/packs/pack.ts';
import { failure, seededRandom } from '../../crypto/support.ts';

const random = seededRandom('opener');
const chunkIdKey = new Uint8Array(32).fill(3);
const idOf = chunkIdFunction(chunkIdKey);
const identities = [await newAgeIdentity(random)];
const recipient = await ageRecipientOf(identities[0] ?? '');

async function makePack(chunks: number): Promise<{ bytes: Uint8Array; pack: PackToOpen }> {
  const builder = new PackBuilder('data', new FrameBuffers());
  for (let i = 0; i < chunks; i++) {
    const bytes = random.bytes(200_000);
    builder.add(idOf(bytes), bytes);
  }
  const { frames, table, chunks: placed } = await builder.finish();
  const { bytes } = await sealAge(frames, [recipient], random);
  const numbered = table.map((entry, frame) => ({ frame, ...entry }));
  return { bytes, pack: { id: sha256Hex(bytes) as PackId, fileKey: undefined, frames: numbered, chunks: placed } };
}

async function collected(opening: Promise<OpenedPack>) {
  const found: { frame: number; hash: string | undefined; wrong: ChunkId[] }[] = [];
  for await (const { frame, tar, wrong } of await opening)
    found.push({ frame, hash: tar && sha256Hex(tar), wrong: [...wrong] });
  return found;
}

const opener = new PackOpener({ identities, chunkIdKey });
afterAll(() => opener[Symbol.asyncDispose]());

test('several packs at once give their frames, with the chunks that are not what their ids promise, as in this thread', async () => {
  const made = await Promise.all([1, 12, 25].map((chunks) => makePack(chunks)));
  const expected: Awaited<ReturnType<typeof collected>>[] = [];
  const [first] = made[0]?.pack.chunks ?? [];
  for (const [i, { pack, bytes }] of made.entries()) {
    // An index may say anything of what lies where: another chunk's id, and a place where there is nothing.
    const forged = pack.chunks.map((chunk, at) =>
      i > 0 && at === i
        ? { ...chunk, id: first?.id as ChunkId }
        : i > 1 && at === 7
          ? { ...chunk, offset: 2 ** 21 }
          : chunk,
    );
    made[i] = { bytes, pack: { ...pack, chunks: forged } };
    expected.push(await collected(openPack(bytes.slice(), made[i].pack, { identities, idOf })));
  }
  const found = await Promise.all(made.map(({ bytes, pack }) => collected(opener.open(bytes.slice(), pack))));
  expect(found).toEqual(expected);
  expect(found.map((frames) => frames.flatMap(({ wrong }) => wrong).length)).toEqual([0, 1, 2]);
  expect(found.flat().every(({ hash }) => hash !== undefined)).toBe(true);
});

test('a frame that does not decompress is told, and those after it are given', async () => {
  const { bytes, pack } = await makePack(12);
  const cut = pack.frames.map((frame) => (frame.frame === 0 ? { ...frame, length: frame.length - 9 } : frame));
  const found = await collected(opener.open(bytes, { ...pack, frames: cut }));
  expect(found.map(({ hash }) => hash !== undefined)).toEqual(pack.frames.map(({ frame }) => frame > 0));
  expect(found.length).toBeGreaterThan(1);
});

test('what is damaged, another pack, or sealed to others fails as it does in this thread', async () => {
  const { bytes, pack } = await makePack(3);
  const harmed = bytes.slice();
  harmed[9000] = (harmed[9000] ?? 0) ^ 1;
  await failure(() => opener.open(harmed.slice(), pack), 'damaged');
  const { message } = await failure(() => opener.open(harmed, { ...pack, id: sha256Hex(harmed) as PackId }), 'damaged');
  expect(message).toMatch('does not authenticate');
  await using stranger = new PackOpener({ identities: [await newAgeIdentity(random)], chunkIdKey });
  await failure(() => stranger.open(bytes, pack), 'wrong_key');
});

test('when the thread has ended nobody waits for it', async () => {
  const { bytes, pack } = await makePack(1);
  const ended = new PackOpener({ identities, chunkIdKey });
  const asked = failure(() => ended.open(bytes.slice(), pack), 'bug');
  await ended[Symbol.asyncDispose]();
  await asked;
  await failure(() => ended.open(bytes, pack), 'bug');
});
