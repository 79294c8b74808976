import { expect, test } from 'vitest';
import { drain } from '../src/drain.ts';

const later = () => new Promise<void>((resolve) => setImmediate(resolve));

test('everything is done once, what is added meanwhile too, and no more at a time than was asked', async () => {
  const done: number[] = [];
  let atWork = 0;
  let most = 0;
  const queue = [1, 2, 3, 4, 5];
  await drain(queue, 2, async (item) => {
    most = Math.max(most, ++atWork);
    await later();
    if (item === 2) queue.push(6);
    done.push(item);
    atWork--;
  });
  expect(done.sort()).toEqual([1, 2, 3, 4, 5, 6]);
  expect(most).toBe(2);
});

test('after an error nothing is begun, and nobody is left at work', async () => {
  let atWork = 0;
  const begun: number[] = [];
  const failing = drain([1, 2, 3, 4, 5, 6], 2, async (item) => {
    begun.push(item);
    atWork++;
    await later();
    if (item !== 1) await later();
    atWork--;
    if (item === 1) throw new Error('one');
  });
  await expect(failing).rejects.toThrow('one');
  expect(atWork).toBe(0);
  expect(begun.length).toBeLessThan(4);
});
