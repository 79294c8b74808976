/** A worker thread of threads.ts: does one task after the other. */
import { parentPort } from 'node:worker_threads';
import { systemRandom } from '../clock.ts';
import { HoldfastError, messageOf } from '../errors.ts';
import { memoryOf, perform, type Tasks } from './tasks.ts';
import type { Question, Reply } from './threads.ts';

const port = parentPort;
if (!port) throw new Error('this file is run as a worker thread');

port.on('message', ({ number, kind, ask }: Question) => {
  void (perform[kind] as (ask: unknown, random: typeof systemRandom) => Promise<Tasks[keyof Tasks]['answer']>)(
    ask,
    systemRandom,
  ).then(
    (answer) => {
      const reply: Reply = { number, answer };
      port.postMessage(reply, memoryOf(answer));
    },
    (error: unknown) => {
      const { code, hint } = error instanceof HoldfastError ? error : { code: 'bug' as const, hint: undefined };
      const reply: Reply = { number, failure: { code, message: messageOf(error), hint } };
      port.postMessage(reply);
    },
  );
});
