/** An Ed25519 key pair, and the errors of every format it is read from; none of them shows a part of the key. */
import { publicKeyOf, SEED_BYTES } from '../crypto/ed25519.ts';
import { equalBytes } from '../crypto/hash.ts';
import { HoldfastError } from '../errors.ts';

export interface SigningKey {
  /** 32 bytes, secret: what RFC 8032 calls the private key. */
  seed: Uint8Array;
  /** 32 bytes. */
  publicKey: Uint8Array;
}

/** The pair of a seed; a public key that was stored beside it must be its own. Throws `wrong_key`. */
export function signingKeyOf(seed: Uint8Array, storedPublicKey?: Uint8Array): SigningKey {
  if (seed.length !== SEED_BYTES) throw notAKey(`expected a seed of ${SEED_BYTES} bytes, got ${seed.length}`);
  const publicKey = publicKeyOf(seed);
  if (storedPublicKey !== undefined && !equalBytes(storedPublicKey, publicKey)) throw mismatch('public key');
  return { seed: new Uint8Array(seed), publicKey };
}

export function notAKey(problem: string): HoldfastError {
  return new HoldfastError('wrong_key', `not an Ed25519 private key that can be used: ${problem}`, {
    hint: "Accepted are OpenSSH and PKCS#8 (PEM) files of an Ed25519 key, OpenClaw's device.json, and the seed as 64 hexadecimal digits.",
  });
}

export function mismatch(what: string): HoldfastError {
  return new HoldfastError('wrong_key', `the ${what} in the agent key file is not the one of its private key`, {
    hint: 'The file is damaged or was put together from two keys; use another copy of it.',
  });
}

/** `command` makes a copy without passphrase of itself. */
export function passphraseNeeded(command: string): HoldfastError {
  return new HoldfastError('missing_key', 'the agent key file is encrypted with a passphrase, and none was given', {
    hint: `Import it with its passphrase, or make a copy without one first (${command}), and delete the copy afterwards.`,
  });
}

export function wrongPassphrase(): HoldfastError {
  return new HoldfastError('wrong_key', 'the passphrase does not open the agent key file', {
    hint: 'Type it again; if it is surely the right one, the file is damaged: use another copy of it.',
  });
}

/** Encrypted in a way that is not read; `command` is what changes that. */
export function cannotDecrypt(problem: string, command: string): HoldfastError {
  return new HoldfastError('usage', `the agent key file cannot be decrypted: ${problem}`, {
    hint: `Make a copy that can be read (${command}), import it, and delete the copy.`,
  });
}
