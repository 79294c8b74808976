import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ageRecipientOf, openAge } from '../../src/crypto/age.ts';
import { hex } from '../../src/crypto/hash.ts';
import { combineShares, parseShare } from '../../src/crypto/slip39.ts';
import { rowCheck, wordsOf } from '../../src/crypto/words.ts';
import { isHoldfastError } from '../../src/errors.ts';
import { fingerprint } from '../../src/identity/agent-key.ts';
import { paperOf, parseShareScheme, printable, sampleOf, withoutCredentials } from '../../src/identity/paper.ts';
import { parseCodes } from '../../src/identity/paper-code.ts';
import { pagesOf } from '../../src/identity/paper-pages.ts';
import { agentKey, newRoot, recoveryKey, restoreIdentity } from '../../src/identity/root.ts';
import { extreme, facts, imported, random, root } from './papers.ts';

const words = wordsOf(root);
const ageKey = restoreIdentity(root, 'x25519');

describe('URLs on paper', () => {
  test.each([
    ['file:///mnt/nas/holdfast', 'file:///mnt/nas/holdfast'],
    ['file:///mnt/n@s/a:b@c', 'file:///mnt/n@s/a:b@c'],
    ['file://user:pw@host/path', 'file://host/path'],
    ['sftp://user:pw@host:22/path', 'sftp://host:22/path'],
    ['sftp://user@host/a@b', 'sftp://host/a@b'],
    ['sftp://user:p@ss@host/a', 'sftp://host/a'],
    ['https:user:pw@host/a', 'https:host/a'],
    ['https:\\\\user:pw@host/a', 'https:\\\\host/a'],
    ['s3://bucket/a?region=eu-central-1&pathStyle=true', 's3://bucket/a?region=eu-central-1&pathStyle=true'],
    ['s3://bucket/a?endpoint=https://s3.example.com', 's3://bucket/a?endpoint=https://s3.example.com'],
    ['s3://bucket/a?endpoint=https%3A%2F%2Fu%3Ap%40h', 's3://bucket/a?endpoint=https%3A%2F%2Fh'],
    ['s3://bucket/a?accessKeyId=AK&x=1', 's3://bucket/a?accessKeyId=...&x=1'],
    ['s3://bucket/a?X-Amz-Signature=ab&sec%72et=c', 's3://bucket/a?X-Amz-Signature=...&sec%72et=...'],
    ['s3://bucket/a?x=0123456789abcdefghij', 's3://bucket/a?x=...'],
    ['s3://bucket/a?0123456789abcdefghij', 's3://bucket/a?...'],
    ['s3://bucket/a#token', 's3://bucket/a'],
    ['file:///mnt/d\u00e9p\u00f4t/\u{1f600} a', 'file:///mnt/d%C3%A9p%C3%B4t/%F0%9F%98%80%20a'],
  ])('%s', (url, expected) => expect(withoutCredentials(url)).toBe(expected));

  test('never hold a user name or a password, wherever that stands', () => {
    const part = fc.stringMatching(/^[a-z0-9%.:]{0,8}$/);
    fc.assert(
      fc.property(fc.constantFrom('s3', 'sftp', 'https'), part, part, part, (scheme, user, host, path) => {
        const url = withoutCredentials(`${scheme}://${user}:Q9zSECRETq@${host}/${path}?password=Q9zSECRETq&b=c`);
        expect(url).not.toContain('SECRET');
        expect(url.startsWith(`${scheme}://${host}/${path}?`)).toBe(true);
      }),
    );
  });
});

test('text is printed in characters that every reader has, others are told by number', () => {
  expect(printable('ad\u00e9 \u{1f600}\u0142\n\u202e')).toBe('ad\u00e9 \\u{1f600}\\u{142}\\n\\u202e');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(printable(text)).toMatch(/^[\x20-\x7e\xa1-\xff]*$/);
    }),
  );
});

test('how many shares, of how many', () => {
  expect(parseShareScheme('2of3')).toEqual({ threshold: 2, count: 3 });
  expect(parseShareScheme(' 16-OF-16 ')).toEqual({ threshold: 16, count: 16 });
  for (const wrong of ['', '3', '1of3', '4of3', '2of17', '0of0', '2of3of4', '-2of3', '2.5of3', 'twoofthree'])
    expect(() => parseShareScheme(wrong), wrong).toThrow(expect.objectContaining({ code: 'usage' }));
});

describe('the document', () => {
  test('of words: they, the age key, and what they belong to', async () => {
    const document = await paperOf(root, facts, random);
    expect(document).toMatchObject({
      agent: { fingerprint: fingerprint(agentKey(root, 0).publicKey), origin: 'derived', generation: 0 },
      recovery: fingerprint(recoveryKey(root, 0).publicKey),
      secret: { kind: 'words', words, ageIdentity: ageKey },
    });
    expect(document.backends.map(({ url }) => url)).toContain('sftp://ship.example.org:22/ada');
    expect(document).not.toHaveProperty('wrappedAgentKey');
  });

  test('names the generation of a key that was rotated', async () => {
    const document = await paperOf(root, { ...facts, agentPublicKey: hex(agentKey(root, 3).publicKey) }, random);
    expect(document.agent.generation).toBe(3);
    expect(JSON.stringify(pagesOf(document))).toContain('identity/3');
  });

  test('is refused for a key that is said to derive from the root and does not', async () => {
    const key = hex(agentKey(newRoot(random), 0).publicKey);
    const failed = await paperOf(root, { ...facts, agentPublicKey: key }, random).catch((error: unknown) => error);
    expect(isHoldfastError(failed, 'wrong_key')).toBe(true);
  });

  test.each(['x25519', 'hybrid'] as const)('has an imported key encrypted to the root alone (%s)', async (kind) => {
    const { wrappedAgentKey } = await paperOf(root, { ...facts, ...imported, kind }, random);
    const opened = await openAge(wrappedAgentKey ?? new Uint8Array(), [restoreIdentity(root, kind)]);
    expect(Buffer.from(opened)).toEqual(imported.agentKeyFile);
    const others = [
      restoreIdentity(newRoot(random), kind),
      restoreIdentity(root, kind === 'hybrid' ? 'x25519' : 'hybrid'),
    ];
    expect(
      isHoldfastError(await openAge(wrappedAgentKey ?? new Uint8Array(), others).catch((e: unknown) => e), 'wrong_key'),
    ).toBe(true);
  });

  test('of shares: any quorum gives the root', async () => {
    const { secret } = await paperOf(root, { ...facts, shares: { threshold: 2, count: 3 } }, random);
    if (secret.kind !== 'shares') throw new Error('expected shares');
    const shares = secret.shares.map(parseShare);
    expect(shares).toMatchObject([0, 1, 2].map((index) => ({ index, threshold: 2, identifier: secret.identifier })));
    for (const [a, b] of [
      [0, 1],
      [0, 2],
      [1, 2],
    ] as const) {
      const [first, second] = [shares[a], shares[b]];
      expect(first && second && combineShares([first, second])).toEqual(root);
    }
  });
});

describe('the words page', () => {
  test('has the words in six rows of four, each with its check', async () => {
    const [page, ...more] = pagesOf(await paperOf(root, facts, random));
    expect(more).toEqual([]);
    expect(page?.grid?.rows.map(({ first }) => first)).toEqual([1, 5, 9, 13, 17, 21]);
    expect(page?.grid?.rows.flatMap((row) => row.words)).toEqual(words);
    expect(page?.grid?.rows.map(({ check }) => check)).toEqual(
      [0, 1, 2, 3, 4, 5].map((i) => rowCheck(i + 1, words.slice(4 * i, 4 * i + 4))),
    );
  });

  test('has codes of the words and of the age key, whole', async () => {
    for (const kind of ['x25519', 'hybrid'] as const) {
      const [page] = pagesOf(await paperOf(root, { ...facts, kind }, random));
      const { codes } = parseCodes((page?.codes ?? []).map(({ text }) => text).join('\n'));
      expect(codes).toEqual([
        { type: 'words', body: words.join(' ') },
        { type: 'age-key', body: restoreIdentity(root, kind) },
      ]);
    }
  });

  test('has what to compare, where the backups are, and how to get them back', async () => {
    const text = JSON.stringify(pagesOf(await paperOf(root, { ...facts, kind: 'hybrid' }, random)));
    for (const expected of [
      ...['SHA256:', facts.agentPublicKey, facts.repository, 'holdfast/v1', 'restore, identity/0, recovery/0'],
      ...['2026-11-21', 'holdfast/0.1.0', 'nas  file:///mnt/nas/holdfast/ada', 'sftp://ship.example.org:22/ada'],
      ...['holdfast recover --from URL --target DIR', '--words-file FILE', 'holdfast identity show', 'last drilled on'],
      ...['holdfast-words-to-key.py --post-quantum', 'holdfast-recover.sh', 'age -d -i key.txt', 'age 1.3 or newer'],
    ])
      expect(text).toContain(expected);
    expect(text).not.toContain('hunter2');
  });
});

test('a page of a share has this share, and neither words nor age key nor another share', async () => {
  const document = await paperOf(root, { ...facts, ...imported, shares: { threshold: 2, count: 3 } }, random);
  const pages = pagesOf(document);
  expect(pages.map(({ kind }) => kind)).toEqual(['share', 'share', 'share', 'agent-key']);
  const { secret } = document;
  if (secret.kind !== 'shares') throw new Error('expected shares');
  for (const [i, share] of secret.shares.entries()) {
    const page = pages[i];
    expect(page?.grid?.rows.flatMap((row) => row.words)).toEqual(share);
    expect(parseCodes(page?.codes[0]?.text ?? '').codes).toEqual([{ type: 'share', body: share.join(' ') }]);
    expect(page?.grid?.note).toBe(
      `group 1 of 1, share ${i + 1} of 3, 2 needed, set ${String(secret.identifier).padStart(5, '0')}`,
    );
    const text = JSON.stringify(page);
    expect(text).not.toContain('AGE-SECRET-KEY');
    expect(text).not.toContain(words.slice(0, 4).join(' '));
    for (const other of secret.shares) if (other !== share) expect(text).not.toContain(other.join(' '));
  }
});

test('what is too long for the first page is cut there, visibly, and whole on pages of its own', async () => {
  const document = await paperOf(root, { ...facts, ...extreme }, random);
  const [first, ...more] = pagesOf(document);
  expect(first?.handle).toMatch(/\.\.\.$/);
  const lines = first?.facts?.rows.find(({ name }) => name === 'backends')?.lines;
  expect(lines).toHaveLength(4);
  expect(lines?.at(-1)).toBe('all 16, whole: page 2');
  for (const line of lines?.slice(0, 3) ?? []) expect(line).toMatch(/^.{61}\.\.\.$/);
  expect(more.every(({ kind }) => kind === 'in-full')).toBe(true);
  const whole = more.flatMap((page) => page.facts?.rows ?? []).flatMap((row) => row.lines);
  expect(Math.max(...whole.map(({ length }) => length))).toBeLessThanOrEqual(96);
  const joined = whole.map((line) => line.replace(/^ {2}/, '')).join('');
  expect(joined).toContain(printable(extreme.handle));
  for (const { name, url } of document.backends) expect(joined).toContain(`${name}  ${url}`);
  expect(joined).not.toContain('password');
});

test('a sample has the form of the real thing and none of its secrets', async () => {
  for (const shares of [undefined, { threshold: 2, count: 3 }]) {
    const real = pagesOf(await paperOf(root, { ...facts, ...imported, shares }, random));
    const sample = pagesOf(sampleOf({ ...facts, ...imported, shares }));
    expect(sample.map(({ kind, codes }) => [kind, codes.map(({ type }) => type)])).toEqual(
      real.map(({ kind, codes }) => [kind, codes.map(({ type }) => type)]),
    );
    for (const [i, page] of sample.entries()) {
      expect(page.warning).toContain('SAMPLE');
      expect(page.grid?.rows.flatMap((row) => row.words)).toEqual(
        real[i]?.grid?.rows.flatMap((row) => row.words.map(() => 'SAMPLE')),
      );
    }
  }
});

test('the age key of the document opens what the repository encrypts', async () => {
  const { secret } = await paperOf(root, facts, random);
  expect(secret.kind === 'words' && (await ageRecipientOf(secret.ageIdentity))).toBe(await ageRecipientOf(ageKey));
});
