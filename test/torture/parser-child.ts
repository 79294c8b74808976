/**
 * A process that gives mutated inputs to the parsers. It says of every one that it starts, and how it ended, and waits until that is written: whoever
 * started it knows which input hung it or brought it down.
 */
import { mkdirSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isHoldfastError } from '../../src/errors.ts';
import { Dice } from './dice.ts';
import { mutate } from './mutate.ts';
import { CHANNEL, type Job, type Told } from './parser-channel.ts';
import { makeInputs } from './parser-inputs.ts';

const tell = (told: Told): void => void writeSync(CHANNEL, `${JSON.stringify(told)}\n`);

const [seed = '', folder = ''] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const inputs = await makeInputs(folder);
const turns = inputs.flatMap((one) => Array.from({ length: one.weight ?? 4 }, () => one));

async function parseAll({ from, end }: Job): Promise<void> {
  for (let number = from; number < end; number++) {
    const dice = new Dice(`${seed}/input ${number}`);
    const parser = dice.pick(turns);
    const sample = Buffer.from(dice.pick(parser.samples));
    const input = mutate(sample, dice, Buffer.from(dice.pick(dice.pick(inputs).samples)), parser.isJson ?? false);
    // For whoever looks for the reason afterwards.
    writeFileSync(join(folder, 'input'), input);
    tell({ kind: 'starts', number, parser: parser.name });
    try {
      await parser.parse(input);
      tell({ kind: 'taken', number });
    } catch (error) {
      if (isHoldfastError(error) && error.code !== 'bug') tell({ kind: 'refused', number });
      else {
        const { stack = String(error), cause } = error as Error;
        const why = cause instanceof Error ? ` cause: ${cause.stack}` : '';
        tell({ kind: 'wrong', number, error: `${stack.slice(0, 2000)}${why.slice(0, 2000)}` });
        writeFileSync(join(folder, `input-${number}`), input);
      }
    }
  }
  tell({ kind: 'done' });
}

process.on('message', (job: Job) => void parseAll(job));
