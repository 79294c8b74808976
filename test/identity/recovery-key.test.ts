import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hex } from '../../src/crypto/hash.ts';
import { HoldfastError } from '../../src/errors.ts';
import { formatRecoveryKey, parseRecoveryKey, recoveryKeyOfGeneration } from '../../src/identity/recovery-key.ts';
import { newRoot, recoveryCommitmentOf, recoveryKey } from '../../src/identity/root.ts';
import { recoveryCommitment } from '../../src/repository/keys/key-log.ts';
import { failure, seededRandom } from '../crypto/support.ts';

const root = newRoot(seededRandom('recovery key'));
const made = recoveryKeyOfGeneration(root, 3, 'ab'.repeat(16));
const text = formatRecoveryKey(made);

test('a recovery key file names its generation and commits to the two after it', () => {
  expect(parseRecoveryKey(text)).toEqual(made);
  expect(made.next).toBe(hex(recoveryKey(root, 4).publicKey));
  expect(made.afterNext).toBe(recoveryCommitmentOf(root, 5));
  expect(recoveryCommitment(made.next, made.afterNext)).toBe(recoveryCommitmentOf(root, 4));
});

test('a recovery key file of a newer version is refused by name', async () => {
  const newer = text.replace('holdfast-recovery-key v1', 'holdfast-recovery-key v2');
  await failure(() => Promise.resolve().then(() => parseRecoveryKey(newer)), 'unsupported_format');
});

test('a damaged recovery key file is refused, and no message holds a part of its seed', () => {
  const seed = hex(made.key.seed);
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.string({ minLength: 0, maxLength: 3 }), fc.nat(4), (at, put, cut) => {
      try {
        parseRecoveryKey(text.slice(0, at) + put + text.slice(at + cut));
      } catch (error) {
        expect(error).toBeInstanceOf(HoldfastError);
        const told = `${(error as HoldfastError).message} ${(error as HoldfastError).hint}`;
        for (let i = 0; i + 8 <= seed.length; i += 8) expect(told).not.toContain(seed.slice(i, i + 8));
      }
    }),
    { numRuns: 1000 },
  );
});
