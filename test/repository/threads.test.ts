import { afterAll, describe, expect, test } from 'vitest';
import { systemRandom } from '../../src/clock.ts';
import { ageRecipientOf, newAgeIdentity, openAge } from '../../src/crypto/age.ts';
import { chunkIdFunction } from '../../src/crypto/chunk-id.ts';
import { sha256Hex } from '../../src/crypto/hash.ts';
import { isHoldfastError } from '../../src/errors.ts';
import { openFrame } from '../../src/repository/tasks.ts';
import { Threads } from '../../src/repository/threads.ts';
import { expectSame } from '../backend-helpers.ts';
import { failure, seededRandom } from '../crypto/support.ts';

const identity = await newAgeIdentity(systemRandom);
const recipient = await ageRecipientOf(identity);
const data = seededRandom('threads').bytes(300_000);
const chunkIdKey = seededRandom('key').bytes(32);

const threaded = new Threads(systemRandom, 2);
const here = new Threads(seededRandom('here'));
afterAll(() => threaded[Symbol.asyncDispose]());

/** More tasks than are done in this thread, so that the last are done in others. */
async function warmUp(): Promise<void> {
  for (let i = 0; i < 6; i++) await threaded.run('compress', { tar: data.slice() });
}

describe.each([
  ['in other threads', threaded],
  ['in this thread', here],
])('%s', (_, threads) => {
  test('a frame is compressed, sealed and opened again', async () => {
    await warmUp();
    const packed = await threads.run('compress', { tar: data.slice() });
    expectSame(openFrame(packed, data.length), data);
    const sealed = await threads.run('seal', { frames: [packed], recipients: [recipient] });
    expect(sealed.id).toBe(sha256Hex(sealed.bytes));
    expectSame(await openAge(sealed.bytes, [identity]), packed);
    const frames = [{ frame: 3, offset: 0, length: packed.length, tarBytes: data.length }];
    const idOf = chunkIdFunction(chunkIdKey);
    const chunk = (offset: number, length: number) => ({
      id: idOf(data.subarray(offset, offset + length)),
      frame: 3,
      offset,
      length,
    });
    const wrong = { ...chunk(0, 10), offset: 1 };
    const ask = {
      key: 'packs/x',
      id: sealed.id,
      bytes: sealed.bytes,
      identities: [identity],
      frames,
      chunkIdKey,
      keep: true,
    };
    const opened = await threads.run('open', { ...ask, chunks: [chunk(100, 5000), wrong] });
    expectSame(opened.frames.get(3) ?? new Uint8Array(), data);
    expect(opened.wrong).toEqual([wrong.id]);
    expect((await threads.run('open', { ...ask, chunks: [], keep: false })).frames.size).toBe(0);
  });

  test('an error arrives as what it is', async () => {
    await warmUp();
    const ask = {
      key: 'packs/x',
      id: 'not this',
      bytes: data.slice(),
      identities: [identity],
      frames: [],
      chunks: [],
      chunkIdKey,
      keep: true,
    };
    const error = await failure(() => threads.run('open', ask), 'damaged');
    expect(error.message).toContain('packs/x');
  });
});

test('many tasks at once all get their own answer', async () => {
  const inputs = Array.from({ length: 40 }, (_, i) => new Uint8Array(100_000 + i).fill(i));
  const answers = await Promise.all(inputs.map((tar) => threaded.run('compress', { tar: tar.slice() })));
  for (const [i, packed] of answers.entries())
    expectSame(openFrame(packed, 100_000 + i), inputs[i] ?? new Uint8Array());
});

test('memory that is handed over is moved, not copied', async () => {
  await warmUp();
  const bytes = data.slice();
  await threaded.run('seal', { frames: [bytes], recipients: [recipient] }, [bytes]);
  expect(bytes.length).toBe(0);
});

test('threads that end before they answer fail their tasks instead of leaving them open', async () => {
  const threads = new Threads(systemRandom, 1);
  for (let i = 0; i < 5; i++) await threads.run('compress', { tar: data.slice() });
  const pending = Promise.allSettled(Array.from({ length: 200 }, () => threads.run('compress', { tar: data.slice() })));
  await threads[Symbol.asyncDispose]();
  const failed = (await pending).flatMap((end) => (end.status === 'rejected' ? [end.reason as unknown] : []));
  expect(failed.length).toBeGreaterThan(0);
  for (const error of failed) expect(isHoldfastError(error, 'bug')).toBe(true);
});
