/** Files go both ways between holdfast and the `age` command. Runs where it is installed; in CI it must be. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ageIdentityFromSeed,
  ageRecipientOf,
  newAgeIdentity,
  openAge,
  parseAgeIdentityFile,
  sealAge,
} from '../../src/crypto/age.ts';
import { lacks, run, seededRandom, vectors } from './support.ts';

const SIZES = [0, 1, 65_535, 65_536, 65_537, 200_000];
const random = seededRandom('interop');

describe.skipIf(lacks('age', '--version'))('the age command', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-age-'));
  const keyFile = join(folder, 'key');
  let identity: string;
  let recipient: string;
  beforeAll(async () => {
    identity = await newAgeIdentity(random);
    recipient = await ageRecipientOf(identity);
    writeFileSync(keyFile, `${identity}\n`, { mode: 0o600 });
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each(SIZES)('opens a file of %i bytes that holdfast sealed', async (size) => {
    const plaintext = random.bytes(size);
    const other = await ageRecipientOf(await newAgeIdentity(random));
    const { bytes } = await sealAge(plaintext, [other, recipient], random);
    expect(Buffer.compare(run('age', ['-d', '-i', keyFile], bytes), plaintext)).toBe(0);
  });

  it.each(SIZES)('seals a file of %i bytes that holdfast opens', async (size) => {
    const plaintext = random.bytes(size);
    const bytes = run('age', ['-r', recipient], plaintext);
    expect(Buffer.compare(await openAge(bytes, [identity]), plaintext)).toBe(0);
  });

  it('writes key files that holdfast reads, and finds the same recipient', async () => {
    const text = run('age-keygen', []).toString();
    const [generated] = parseAgeIdentityFile(text);
    expect(text).toContain(await ageRecipientOf(generated!));
  });

  it('finds the recipient that holdfast finds for a derived identity', () => {
    const { restore } = vectors<{ restore: { seed: string; x25519: string; recipient: string } }>('derivations');
    const derived = ageIdentityFromSeed(Buffer.from(restore.seed, 'hex'), 'x25519');
    expect(derived).toBe(restore.x25519);
    expect(run('age-keygen', ['-y'], Buffer.from(derived)).toString().trim()).toBe(restore.recipient);
  });
});
