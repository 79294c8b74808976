/** The thread of `pack-opener.ts`. */
import { parentPort, workerData } from 'node:worker_threads';
import { chunkIdFunction } from '../../crypto/chunk-id.ts';
import { HoldfastError, messageOf } from '../../errors.ts';
import { owned } from '../../memory.ts';
import { openPack, type OpenedFrame } from './open-pack.ts';
import type { ThreadKeys, ThreadReply, ThreadRequest } from './pack-opener.ts';

const { identities, chunkIdKey } = workerData as ThreadKeys;
const keys = { identities, idOf: chunkIdFunction(chunkIdKey) };
const opened = new Map<number, AsyncIterator<OpenedFrame>>();

parentPort?.on('message', (request: ThreadRequest) => {
  void answer(request).then(({ reply, transfer }) => parentPort?.postMessage(reply, transfer));
});

async function answer(request: ThreadRequest): Promise<{ reply: ThreadReply; transfer: ArrayBuffer[] }> {
  const { number } = request;
  try {
    if ('bytes' in request) {
      const pack = await openPack(request.bytes, request.pack, keys);
      opened.set(number, pack[Symbol.asyncIterator]());
      return { reply: { number, opened: true }, transfer: [] };
    }
    const { nextOf } = request;
    const step = await opened.get(nextOf)?.next();
    if (!step || step.done) {
      opened.delete(nextOf);
      return { reply: { number, next: undefined }, transfer: [] };
    }
    const { frame, wrong } = step.value;
    const tar = step.value.tar && owned(step.value.tar);
    const transfer = tar ? [tar.buffer] : [];
    return { reply: { number, next: { frame, tar, wrong: [...wrong] } }, transfer };
  } catch (error) {
    const { code, message, hint } =
      error instanceof HoldfastError ? error : new HoldfastError('bug', messageOf(error), { cause: error });
    return { reply: { number, error: { code, message, hint } }, transfer: [] };
  }
}
