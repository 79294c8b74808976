/** Working off a queue, several at once. */

/**
 * What `work` makes of each item, in the order of the items, `lanes` at a time. Throws as `drain`.
 */
export async function inLanes<T, R>(items: readonly T[], lanes: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  await drain([...items.entries()], lanes, async ([i, item]) => {
    results[i] = await work(item);
  });
  return results;
}

/**
 * Does `work` for each item, `lanes` at a time; work may add to the queue. After an error nothing more is begun.
 * @throws the first error, once none is working any more.
 */
export async function drain<T>(queue: T[], lanes: number, work: (item: T) => Promise<void>): Promise<void> {
  const lane = async (): Promise<void> => {
    try {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
    } catch (error) {
      queue.length = 0;
      throw error;
    }
  };
  for (const end of await Promise.allSettled(Array.from({ length: lanes }, lane)))
    if (end.status === 'rejected') throw end.reason;
}
