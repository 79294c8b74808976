import { spawnSync } from 'node:child_process';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkPassphrase, MIN_GUESSES_LOG10 } from '../../src/identity/passphrase.ts';
import { everythingOf, failure, seededRandom } from '../crypto/support.ts';

const onStorage = { minGuessesLog10: MIN_GUESSES_LOG10.onStorage };

/** Passphrases of random words, the same in every run. */
function wordPhrases(words: number, separator: string): string[] {
  const numbers = new Uint16Array(seededRandom(`${words}`).bytes(2 * 20 * words).buffer);
  return Array.from({ length: 20 }, (_, i) =>
    Array.from({ length: words }, (__, w) => wordlist[numbers[i * words + w]! % wordlist.length]).join(separator),
  );
}

describe('a passphrase', () => {
  it.each([
    ['', 'too short'],
    ['password', 'most used passwords'],
    ['P4$$w0rd2', 'many people use'],
    ['qwertzuiop', 'keys|many people|most used'],
    ['aaaaaaaaaaaaaaaaaaaa', 'repeats'],
    ['abcdefghijklmnop', 'sequence'],
    ['19.03.1984', 'date'],
    ['holdfast vault', 'this program'],
    ['Tr0ub4dor&3', 'too short'],
    ['holdfast-holdfast-holdfast', 'repeats'],
  ])('%j is refused, saying why', async (passphrase, why) => {
    const error = await failure(() => checkPassphrase(passphrase), 'usage');
    expect(error.message).toMatch(new RegExp(why));
    expect(error.hint).toContain('six words at random');
  });

  it.each([' ', '-', '', '.'])('of six random words joined by %j is strong enough for storage', async (separator) => {
    for (const phrase of wordPhrases(6, separator)) await checkPassphrase(phrase, onStorage);
  });

  it('of three random words is too weak to be kept, whatever stands between them', async () => {
    for (const separator of [' ', '-', '']) {
      for (const phrase of wordPhrases(3, separator)) await failure(() => checkPassphrase(phrase), 'usage');
    }
  });

  it('of four random words may be kept, but not on storage', async () => {
    const phrase = 'correct horse battery staple';
    await checkPassphrase(phrase);
    await failure(() => checkPassphrase(phrase, onStorage), 'usage');
  });

  it('of a password manager is strong enough for storage', () => checkPassphrase('k3hs8dj2lqwm9x7c2v5b', onStorage));

  it('is never in the error, nor is a part of it', async () => {
    const letters = fc.array(fc.constantFrom('zyxo', '7193', 'Wörk', 'plum', '#§'), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(letters, async (parts) => {
        const error = await failure(() => checkPassphrase(parts.join(''), { minGuessesLog10: 40 }), 'usage');
        const shown = everythingOf(error).toLowerCase();
        for (const part of parts) expect(shown).not.toContain(part.toLowerCase());
      }),
      { numRuns: 30 },
    );
  });

  it('of any length is judged in bounded time, by its start', async () => {
    await failure(() => checkPassphrase('a'.repeat(10_000_000)), 'usage');
    await checkPassphrase(`${wordPhrases(6, ' ')[0]!} `.repeat(100_000));
  });
});

it('the estimator is loaded only when a passphrase is checked', () => {
  const source = `
    const { registerHooks } = require('node:module');
    const loaded = [];
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
    import(${JSON.stringify(new URL('../../src/identity/passphrase.ts', import.meta.url).href)})
      .then(async ({ checkPassphrase }) => {
        const before = loaded.some((url) => url.includes('zxcvbn'));
        await checkPassphrase('mango orbit knife tulip cedar prairie');
        console.log(before, loaded.some((url) => url.includes('zxcvbn')));
      });`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', source], { encoding: 'utf8' });
  expect(stdout, stderr).toBe('false true\n');
});
