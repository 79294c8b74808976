/** Files sealed with a passphrase go both ways between holdfast and the `age` command; scrypt at its full cost runs in as few tests as possible. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { Encrypter } from 'age-encryption';
import * as cctv from 'cctv-age';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  isPassphraseFile,
  openWithPassphrase,
  sealWithPassphrase,
  WORK_FACTOR,
  WORK_FACTOR_MAX,
} from '../../src/crypto/age-passphrase.ts';
import { ageRecipientOf, newAgeIdentity, sealAge } from '../../src/crypto/age.ts';
import { sha256Hex } from '../../src/crypto/hash.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { everythingOf, failure, lacks, run, seededRandom } from './support.ts';

const random = seededRandom('passphrase');
const PLAINTEXT = random.bytes(70_000);
/** An accent as a letter and a mark of its own: not what any Unicode normal form but NFD makes of it. */
const PASSPHRASE = 'cafe\u0301 beside the olive  tree';

/** A file as another tool may write it, cheap to open. */
async function cheapFile(plaintext = PLAINTEXT): Promise<Uint8Array> {
  const writer = new Encrypter();
  writer.setPassphrase(PASSPHRASE);
  writer.setScryptWorkFactor(8);
  return writer.encrypt(plaintext);
}

/** The file with its header line (`-> scrypt SALT FACTOR`) changed. */
function withStanza(file: Uint8Array, change: (line: string) => string): Uint8Array {
  const text = Buffer.from(file).toString('latin1');
  return Buffer.from(text.replace(/^-> scrypt .*$/m, change), 'latin1');
}

/** Runs a program at a terminal of its own and answers each question for a passphrase. */
const AT_A_TERMINAL = `
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        shown = os.read(terminal, 4096)
    except OSError:
        break
    if not shown:
        break
    if b'assphrase' in shown:
        os.write(terminal, os.environb[b'HOLDFAST_TEST_ANSWER'] + b'\\n')
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
`;

function ageAtATerminal(...args: string[]): void {
  run('env', [`HOLDFAST_TEST_ANSWER=${PASSPHRASE}`, 'python3', '-c', AT_A_TERMINAL, 'age', ...args]);
}

describe.skipIf(lacks('age', '--version') || lacks('python3', '--version'))('the age command', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-age-'));
  const path = (name: string) => join(folder, name);
  let sealed: Uint8Array;
  beforeAll(async () => {
    sealed = await sealWithPassphrase(PLAINTEXT, PASSPHRASE, random);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('opens with -d what holdfast sealed, with the work factor of age', () => {
    writeFileSync(path('ours.age'), sealed);
    expect(Buffer.from(sealed).toString('latin1')).toMatch(new RegExp(`^-> scrypt \\S{22} ${WORK_FACTOR}$`, 'm'));
    expect(isPassphraseFile(sealed)).toBe(true);
    ageAtATerminal('-d', '-o', path('ours'), path('ours.age'));
    expect(Buffer.compare(readFileSync(path('ours')), PLAINTEXT)).toBe(0);
  });

  it('seals with -p what holdfast opens', async () => {
    writeFileSync(path('theirs'), PLAINTEXT);
    ageAtATerminal('-p', '-o', path('theirs.age'), path('theirs'));
    const theirs = readFileSync(path('theirs.age'));
    expect(isPassphraseFile(theirs)).toBe(true);
    expect(Buffer.compare(await openWithPassphrase(theirs, PASSPHRASE), PLAINTEXT)).toBe(0);
  });
});

describe('a file sealed with a passphrase', () => {
  it('opens with other work factors, and when it is empty', async () => {
    expect(await openWithPassphrase(await cheapFile(), PASSPHRASE)).toEqual(PLAINTEXT);
    expect(await openWithPassphrase(await cheapFile(new Uint8Array(0)), PASSPHRASE)).toHaveLength(0);
  });

  it('does not open with another passphrase, nor with the same letters in other bytes', async () => {
    const file = await cheapFile();
    for (const wrong of ['', `${PASSPHRASE} `, PASSPHRASE.toUpperCase(), PASSPHRASE.normalize('NFC')]) {
      const error = await failure(() => openWithPassphrase(file, wrong), 'wrong_key');
      if (wrong !== '') expect(everythingOf(error)).not.toContain(wrong.trim());
    }
  });

  it.each([WORK_FACTOR_MAX + 1, 31, 63, 1000])(
    'with the work factor %i is refused before memory is taken',
    async (factor) => {
      const file = withStanza(await cheapFile(), (line) => line.replace(/8$/, String(factor)));
      const error = await failure(() => openWithPassphrase(file, PASSPHRASE), 'unsupported_format');
      expect(error.message).toContain(String(factor));
    },
  );

  it('that was cut short or changed is called damaged', async () => {
    const file = await cheapFile();
    await failure(() => openWithPassphrase(file.subarray(0, -1), PASSPHRASE), 'damaged');
    await failure(() => openWithPassphrase(file.subarray(0, 60), PASSPHRASE), 'damaged');
    await failure(() => openWithPassphrase(Buffer.from('no age file'), PASSPHRASE), 'damaged');
    const flipped = file.slice();
    flipped[flipped.length - 1]! ^= 1;
    const error = await failure(() => openWithPassphrase(flipped, PASSPHRASE), 'damaged');
    expect(everythingOf(error)).not.toContain('olive');
  });

  it('is told from one that was sealed to a recipient', async () => {
    const recipient = await ageRecipientOf(await newAgeIdentity(random));
    const { bytes } = await sealAge(PLAINTEXT, [recipient], random);
    expect(isPassphraseFile(bytes)).toBe(false);
    expect(isPassphraseFile(bytes.subarray(0, 5))).toBe(false);
    const error = await failure(() => openWithPassphrase(bytes, PASSPHRASE), 'wrong_key');
    expect(error.message).toContain('not sealed with a passphrase');
  });
});

describe('the age test vectors with a passphrase', () => {
  interface Vector {
    name: string;
    file: Uint8Array;
    field(key: string): string;
  }
  const all = Object.entries(cctv)
    .filter(([name]) => name.startsWith('scrypt'))
    .map(([name, bytes]): Vector => {
      const end = Buffer.from(bytes).indexOf('\n\n');
      const head = Buffer.from(bytes.subarray(0, end)).toString();
      const field = (key: string) => new RegExp(`^${key}: (.*)$`, 'm').exec(head)?.[1] ?? '';
      const body = bytes.subarray(end + 2);
      return { name, file: field('compressed') === 'zlib' ? inflateSync(body) : body, field };
    });

  it('are all there', () => expect(all).toHaveLength(25));

  it.each(all)('$name', async ({ name, file, field }) => {
    const open = () => openWithPassphrase(file, field('passphrase'));
    if (field('expect') === 'success') return expect(sha256Hex(await open())).toBe(field('payload'));
    const tooHigh = /_(23|overflow)$/.test(name);
    const code: ErrorCode = field('expect') === 'no match' ? 'wrong_key' : tooHigh ? 'unsupported_format' : 'damaged';
    await failure(open, code);
  });
});
