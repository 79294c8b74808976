/** PKCS#8 private keys under a passphrase (EncryptedPrivateKeyInfo, RFC 5958, with PBES2 and PBKDF2 of RFC 8018). */
import { createPrivateKey } from 'node:crypto';
import { derReader } from './der.ts';
import { equalBytes } from './hash.ts';

const PBES2 = Buffer.from('2a864886f70d01050d', 'hex');
const PBKDF2 = Buffer.from('2a864886f70d01050c', 'hex');
/** Some seconds; OpenSSL writes 2,048, careful people 600,000. */
const ITERATIONS_MAX = 10_000_000;

/**
 * The DER of the PrivateKeyInfo inside; undefined when the passphrase does not open it. What could take forever (a forged
 * number of iterations) is refused before any work. `fail` makes the error for what cannot be read or is not supported.
 */
export function decryptPkcs8(
  der: Uint8Array,
  passphrase: string,
  fail: (problem: string) => Error,
): Uint8Array | undefined {
  checkCost(der, fail);
  try {
    const key = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8', passphrase });
    return new Uint8Array(key.export({ format: 'der', type: 'pkcs8' }));
  } catch {
    return undefined; // OpenSSL's own words tell no more
  }
}

/** SEQUENCE {SEQUENCE {PBES2, SEQUENCE {SEQUENCE {PBKDF2, SEQUENCE {salt, iterations, …}}, cipher}}, OCTET STRING}. */
function checkCost(der: Uint8Array, fail: (problem: string) => Error): void {
  const read = (bytes: Uint8Array) => derReader(bytes, fail);
  const file = read(der);
  const info = read(file.expect(0x30));
  file.end();
  const scheme = read(info.expect(0x30));
  info.expect(0x04);
  info.end();
  if (!equalBytes(scheme.expect(0x06), PBES2)) throw fail('it is encrypted in an old way (not PBES2)');
  const derivation = read(read(scheme.expect(0x30)).expect(0x30));
  if (!equalBytes(derivation.expect(0x06), PBKDF2)) throw fail('its key derivation is not PBKDF2');
  const parameters = read(derivation.expect(0x30));
  parameters.expect(0x04);
  const iterations = parameters.expect(0x02).reduce((sum, byte) => 256 * sum + byte, 0);
  if (iterations > ITERATIONS_MAX) {
    throw fail(`its passphrase takes more than ${ITERATIONS_MAX.toLocaleString('en')} iterations`);
  }
}
