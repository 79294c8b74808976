/** The token of the server: a line in a file that only its owner can read. */
import type { Random } from '../../../clock.ts';
import { HoldfastError, isHoldfastError } from '../../../errors.ts';
import { readSecretText, writeSecretFile } from '../../../identity/secret-file.ts';

const TOKEN_BYTES = 32;
/** A token that somebody made up must be as hard to guess as anything is. */
const TOKEN_MIN_CHARACTERS = 32;

/**
 * @param make that one is made when there is none
 * @throws `missing_key`, `insecure_permissions`, `usage` when it is too short or no one word
 */
export async function serveToken(path: string, { random, make }: { random: Random; make: boolean }): Promise<string> {
  if (make) {
    const fresh = Buffer.from(random.bytes(TOKEN_BYTES)).toString('base64url');
    try {
      await writeSecretFile(path, Buffer.from(`${fresh}\n`));
    } catch (error) {
      if (!isHoldfastError(error, 'exists')) throw error;
    }
  }
  const token = (await readSecretText(path)).trim();
  if (token.length >= TOKEN_MIN_CHARACTERS && /^[\x21-\x7e]{1,1024}$/.test(token)) return token;
  throw new HoldfastError('usage', `${path} holds no token: one word of ${TOKEN_MIN_CHARACTERS} characters at least`, {
    hint: `Make one: (umask 077; openssl rand -base64 32 >${path})`,
  });
}
