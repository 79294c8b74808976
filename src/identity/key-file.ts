/** The form of our own key files: comment lines, a line with name and version, then `name value` lines in one order. */
import { HoldfastError } from '../errors.ts';

/**
 * Reads the lines of a key file one after the other. Throws `unsupported_format` for another version of it, `damaged` for anything that is not in
 * its place; no message holds a value.
 * @param form `holdfast-… v1`: the first line that is no comment.
 * @param what how errors call the file, and `hint` what they advise.
 */
export function readKeyFile(text: string, form: string, what: string, hint: string) {
  const damaged = (problem: string) => new HoldfastError('damaged', `the ${what} is damaged: ${problem}`, { hint });
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  const version = lines.shift() ?? '';
  const [name] = form.split(' ');
  if (version !== form) {
    if (new RegExp(`^${name} v\\d{1,9}$`).test(version)) {
      throw new HoldfastError(
        'unsupported_format',
        `the ${what} is of the form "${version}", and this version reads "${form}"`,
        { hint: 'Use a newer version of holdfast.' },
      );
    }
    throw damaged(`it does not start with "${form}"`);
  }
  return {
    damaged,
    /** The value of the next line, which must have this name. */
    take(name: string): string {
      const [found, value, ...more] = (lines.shift() ?? '').split(' ');
      if (found !== name || value === undefined || more.length > 0)
        throw damaged(`expected the line "${name} …" in its place`);
      return value;
    },
    end(): void {
      if (lines.length > 0) throw damaged(`it has ${lines.length} lines too many`);
    },
  };
}
