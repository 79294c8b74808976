/**
 * age identities and recipients as text (C2SP age.md, "Recipient types"; Bech32 of BIP 173 without its length limit).
 */
import { bech32 } from '@scure/base';
import type { Random } from '../clock.ts';
import { assert, HoldfastError } from '../errors.ts';
import { x25519Identity } from './age-header.ts';

/** `x25519`: age's usual keys. `hybrid`: post-quantum, ML-KEM-768 with X25519. */
export type AgeKind = 'x25519' | 'hybrid';

const IDENTITY_PREFIX = { x25519: 'AGE-SECRET-KEY-', hybrid: 'AGE-SECRET-KEY-PQ-' } as const;
const IDENTITY_BYTES = 32;
/**
 * Bech32 prefix and length in bytes of every kind of recipient that files can be sealed to; tags are keys held in
 * hardware.
 */
const RECIPIENT_BYTES: ReadonlyMap<string, number> = new Map([
  ['age', 32],
  ['age1pq', 1216],
  ['age1tag', 33],
  ['age1tagpq', 1249],
]);

/** The identity whose secret is `seed` (32 bytes): `AGE-SECRET-KEY-1…` or `AGE-SECRET-KEY-PQ-1…`. */
export function ageIdentityFromSeed(seed: Uint8Array, kind: AgeKind): string {
  assert(seed.length === IDENTITY_BYTES, `an age identity has ${IDENTITY_BYTES} bytes, got ${seed.length}`);
  return bech32.encodeFromBytes(IDENTITY_PREFIX[kind], seed).toUpperCase();
}

/** A fresh X25519 identity. */
export function newAgeIdentity(random: Random): Promise<string> {
  return Promise.resolve(ageIdentityFromSeed(random.bytes(IDENTITY_BYTES), 'x25519'));
}

/** The secret (32 bytes) of an X25519 identity; undefined for one of another kind. Throws `wrong_key` when it is no identity. */
export function x25519SecretOf(identity: string): Uint8Array | undefined {
  checkAgeIdentity(identity);
  const decoded = decodeBech32(identity);
  return decoded?.prefix.toUpperCase() === IDENTITY_PREFIX.x25519 ? decoded.bytes : undefined;
}

/** The public key (32 bytes) of an X25519 recipient; undefined for one of another kind. Throws `usage` when it is no recipient. */
export function x25519RecipientBytes(recipient: string): Uint8Array | undefined {
  checkAgeRecipient(recipient);
  const decoded = decodeBech32(recipient);
  return decoded?.prefix === 'age' ? decoded.bytes : undefined;
}

/** The recipient (`age1…`) that an identity opens files of. Throws `wrong_key` when it is no identity. */
export async function ageRecipientOf(identity: string): Promise<string> {
  const secret = x25519SecretOf(identity);
  if (secret) return bech32.encodeFromBytes('age', x25519Identity(secret).publicKey);
  const { identityToRecipient } = await import('age-encryption');
  return identityToRecipient(identity);
}

/**
 * Throws `usage` unless the text is a recipient that files can be sealed to; it is never repeated, for it might be a
 * secret key.
 */
export function checkAgeRecipient(text: string): void {
  if (/^AGE-(SECRET-KEY|PLUGIN)-/i.test(text)) {
    throw new HoldfastError('usage', 'an age identity (a secret key) was given where a recipient belongs', {
      hint: 'Give the public part, which starts with age1; `age-keygen -y FILE` prints it.',
    });
  }
  const decoded = decodeBech32(text);
  if (
    decoded === undefined ||
    text !== text.toLowerCase() ||
    RECIPIENT_BYTES.get(decoded.prefix) !== decoded.bytes.length
  ) {
    throw new HoldfastError('usage', `not an age recipient (${text.length} characters)`, {
      hint: 'A recipient starts with age1 and is one word; compare it with its source, a letter may be missing or wrong.',
    });
  }
}

/** Throws `wrong_key` unless the text is an identity that files can be opened with; it is never repeated. */
export function checkAgeIdentity(text: string, what = 'an age identity'): void {
  const decoded = decodeBech32(text);
  const prefix = decoded?.prefix.toUpperCase();
  const known = prefix === IDENTITY_PREFIX.x25519 || prefix === IDENTITY_PREFIX.hybrid;
  if (!known || text !== text.toUpperCase() || decoded?.bytes.length !== IDENTITY_BYTES) {
    throw new HoldfastError('wrong_key', `${what} cannot be used (${text.length} characters)`, {
      hint: 'It must be AGE-SECRET-KEY-1… or AGE-SECRET-KEY-PQ-1…, complete and on one line; plugin identities are not supported.',
    });
  }
}

/**
 * The identities of an age key file: one a line; empty lines and lines starting with `#` are ignored. Throws
 * `wrong_key` naming the line that is no identity, and `missing_key` when there is none.
 */
export function parseAgeIdentityFile(text: string): string[] {
  if (text.startsWith('age-encryption.org/') || text.startsWith('-----BEGIN AGE ENCRYPTED FILE')) {
    throw new HoldfastError('wrong_key', 'the age key file is itself encrypted', {
      hint: 'Decrypt it first: age -d FILE > KEY-FILE',
    });
  }
  const identities: string[] = [];
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    checkAgeIdentity(line, `line ${i + 1} of the age key file`);
    identities.push(line);
  }
  if (identities.length === 0) throw new HoldfastError('missing_key', 'the age key file holds no identity');
  return identities;
}

function decodeBech32(text: string): { prefix: string; bytes: Uint8Array } | undefined {
  // The library's errors quote the text, which may be a secret: they end here.
  try {
    const { prefix, words } = bech32.decode(text as `${string}1${string}`, false);
    return { prefix, bytes: bech32.fromWords(words) };
  } catch {
    return undefined;
  }
}
