/** Values in the section `fleet`, and what is wrong with them. */
import type { z } from 'zod';
import { HoldfastError } from '../../errors.ts';
import { parseDuration } from '../../units.ts';
import type { configSchema } from '../config-schema.ts';
import { at } from '../operating-config.ts';
import { nearest } from '../suggest.ts';

export type RawFleet = NonNullable<z.output<typeof configSchema>['fleet']>;

/** Above 0: an agent that is never left alone, or may take no time at all, is a mistake. @throws `config_invalid` */
export function durationAt(file: string, place: string, text: string): number {
  const ms = spanAt(file, place, text);
  if (ms > 0) return ms;
  throw invalid(file, `\`${place}\` must be longer than nothing`);
}

/** The same, where no time at all is a choice, too. */
export function spanAt(file: string, place: string, text: string): number {
  return at(file, place, () => parseDuration(text, 'config_invalid'));
}

/** Of a percentage: 0 to 1. */
export const shareOf = (text: string): number => Number.parseFloat(text) / 100;

export function invalid(
  file: string,
  what: string,
  hint = 'Correct the config file and run the command again.',
): HoldfastError {
  return new HoldfastError('config_invalid', `${file}: ${what}`, { hint });
}

/** A name that stands for nothing. @param what it should be one of, for a person */
export function unknownName(
  file: string,
  place: string,
  name: string,
  known: readonly string[],
  what: string,
): HoldfastError {
  const meant = nearest(name, [...known]);
  const hint = meant === undefined ? undefined : `Did you mean \`${meant}\`?`;
  return invalid(file, `\`${place}\` names ${JSON.stringify(name)}, which is no ${what}`, hint);
}
