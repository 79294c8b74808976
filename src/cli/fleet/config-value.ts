/** Values in the section `fleet`, and what is wrong with them. */
import { HoldfastError, isHoldfastError } from '../../errors.ts';
import { parseDuration } from '../../units.ts';

/** Above 0: an agent that is never left alone, or may take no time at all, is a mistake. */
export function durationAt(file: string, place: string, text: string): number {
  try {
    const ms = parseDuration(text, 'config_invalid');
    if (ms > 0) return ms;
  } catch (error) {
    if (!isHoldfastError(error, 'config_invalid')) throw error;
    throw invalid(file, `\`${place}\` is not valid: ${error.message}`, error.hint);
  }
  throw invalid(file, `\`${place}\` must be longer than nothing`);
}

export function invalid(
  file: string,
  what: string,
  hint = 'Correct the config file and run the command again.',
): HoldfastError {
  return new HoldfastError('config_invalid', `${file}: ${what}`, { hint });
}
