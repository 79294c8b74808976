import { describe, expect, it } from 'vitest';
import { newAgeIdentity } from '../../src/crypto/age.ts';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { hex } from '../../src/crypto/hash.ts';
import { fingerprint } from '../../src/identity/agent-key.ts';
import { formatWriterKey, parseWriterKey, type WriterKey } from '../../src/identity/writer-key.ts';
import { everythingOf, failure, seededRandom } from '../crypto/support.ts';

const random = seededRandom('writer key');
const key: WriterKey = {
  repositoryId: hex(random.bytes(16)),
  agentPublicKey: publicKeyOf(random.bytes(32)),
  chunkIdKey: random.bytes(32),
  ageIdentity: await newAgeIdentity(random),
  created: '2026-03-01T12:00:00.000Z',
};
const text = formatWriterKey(key);

describe('a writer key file', () => {
  it('gives back the key', () => {
    expect(parseWriterKey(text)).toEqual(key);
    expect(parseWriterKey(`# a note\r\n\r\n${text.replaceAll('\n', '\r\n')}`)).toEqual(key);
  });

  it('says in its comments what it is, and no secret', () => {
    const comments = text
      .split('\n')
      .filter((line) => line.startsWith('#'))
      .join('\n');
    for (const told of [key.repositoryId, fingerprint(key.agentPublicKey), key.created, 'cannot read'])
      expect(comments).toContain(told);
    expect(comments).not.toContain(hex(key.chunkIdKey));
    expect(comments).not.toContain(key.ageIdentity);
  });

  it('of another version is refused as such', async () => {
    await failure(() => parseWriterKey(text.replace('writer-key v1', 'writer-key v2')), 'unsupported_format');
    await failure(() => parseWriterKey(text.replace('holdfast-writer-key v1', 'something else')), 'damaged');
    await failure(() => parseWriterKey(''), 'damaged');
  });

  it('with any line missing, repeated, exchanged or changed is refused, without showing a secret', async () => {
    const lines = text
      .trimEnd()
      .split('\n')
      .filter((line) => !line.startsWith('#'));
    expect(lines).toHaveLength(6);
    const broken: string[][] = [];
    for (let i = 0; i < lines.length; i++) {
      const line = lines[i]!;
      broken.push(
        lines.toSpliced(i, 1),
        lines.toSpliced(i, 0, line),
        lines.with(i, `${line} more`),
        lines.with(i, `${line}x`),
      );
      if (i > 0)
        broken.push(lines.with(i, line.split(' ')[0]!), lines.with(i, line.slice(0, -2)), lines.with(i, `x${line}`));
      if (i > 1) broken.push(lines.with(i, lines[i - 1]!).with(i - 1, line));
    }
    broken.push(
      [...lines, 'unknown field'],
      lines.with(4, lines[4]!.toUpperCase()),
      lines.with(5, lines[5]!.toLowerCase()),
    );
    for (const changed of broken) {
      const error = await failure(() => parseWriterKey(changed.join('\n')), 'damaged', 'wrong_key');
      expect(everythingOf(error)).not.toContain(hex(key.chunkIdKey).slice(0, 16));
      expect(everythingOf(error)).not.toContain(key.ageIdentity.slice(20, 40));
    }
  });
});
