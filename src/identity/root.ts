/** The root: 32 random bytes that are the 24 words on paper, and every key that derives from them. */
import type { Random } from '../clock.ts';
import { ageIdentityFromSeed, type AgeKind } from '../crypto/age.ts';
import { publicKeyOf } from '../crypto/ed25519.ts';
import { hkdf, sha256Hex, withSecret } from '../crypto/hash.ts';
import { ROOT_BYTES, rowCheck, WORDS, WORDS_A_ROW, wordsOf } from '../crypto/words.ts';
import { assert, HoldfastError } from '../errors.ts';
import type { SigningKey } from './agent-key.ts';
import { rootBytesOf } from './words-text.ts';

declare const brand: unique symbol;
/** 32 bytes. Made only by `newRoot` and by parsing words; never stored on the agent's host after set-up. */
export type Root = Uint8Array & { readonly [brand]: 'Root' };

export function newRoot(random: Random): Root {
  return random.bytes(ROOT_BYTES) as Root;
}

/** The root in the text of a words file (see `rootBytesOf`). Throws `bad_words`; a message never holds a word. */
export function parseWordsText(text: string): Root {
  return rootBytesOf(text) as Root;
}

/** The root that SLIP-39 shares give. Throws `bad_words` when they were made of something else. */
export function rootFromShares(secret: Uint8Array): Root {
  if (secret.length === ROOT_BYTES) return secret as Root;
  throw new HoldfastError(
    'bad_words',
    `the shares give a secret of ${secret.length} bytes, and a root has ${ROOT_BYTES}`,
    {
      hint: 'They were made by another program, for something else.',
    },
  );
}

/**
 * A words file: `notes` (the fingerprint of the agent's key and the like) and the checks of the rows as comment lines, then the words, four a
 * row.
 */
export function formatWordsFile(root: Root, ...notes: string[]): string {
  const comments = [
    `holdfast recovery words: all ${WORDS}, in this order, row by row.`,
    "Whoever has them can read every snapshot and act as the agent. Keep them on paper, away from the agent's host,",
    'and delete this file once they are there.',
    ...notes,
  ];
  const words = wordsOf(root);
  const rows: string[] = [];
  for (let i = 0; i < words.length; i += WORDS_A_ROW) rows.push(words.slice(i, i + WORDS_A_ROW).join(' '));
  const checks = rows.map((row, i) => rowCheck(i + 1, row.split(' ')));
  const lines = [...comments.flatMap((note) => note.split(/[\r\n]+/)), `row checks: ${checks.join(' ')}`];
  return [...lines.map((line) => `# ${line}`), ...rows, ''].join('\n');
}

/** The age identity that opens everything of the repository: label `restore`. */
export function restoreIdentity(root: Root, kind: AgeKind): string {
  return withSecret(hkdf(root, 'restore'), (seed) => ageIdentityFromSeed(seed, kind));
}

/** The agent's signing key of a generation (0, 1, …): label `identity/<n>`. */
export function agentKey(root: Root, generation: number): SigningKey {
  return signingKey(root, 'identity', generation);
}

/** The key of a generation (0, 1, …) that may replace a lost agent key: label `recovery/<n>`. */
export function recoveryKey(root: Root, generation: number): SigningKey {
  return signingKey(root, 'recovery', generation);
}

/** More recovery keys than these are never needed; the last commitment is to none. */
const RECOVERY_GENERATIONS = 64;
const NO_MORE = '0'.repeat(64);

/** What commits to the recovery keys from this generation on, 64 hexadecimal digits: `nextRecovery` of a record before it. */
export function recoveryCommitmentOf(root: Root, generation: number): string {
  let commitment = NO_MORE;
  for (let n = RECOVERY_GENERATIONS; n >= generation; n--)
    commitment = sha256Hex(Buffer.concat([recoveryKey(root, n).publicKey, Buffer.from(commitment, 'hex')]));
  return commitment;
}

function signingKey(root: Root, label: string, generation: number): SigningKey {
  assert(
    Number.isSafeInteger(generation) && generation >= 0,
    `a key generation is a whole number from 0, got ${generation}`,
  );
  const seed = hkdf(root, `${label}/${generation}`);
  return { seed, publicKey: publicKeyOf(seed) };
}
