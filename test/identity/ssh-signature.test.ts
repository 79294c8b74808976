import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { fingerprint, parseAgentKey, sshPublicLine } from '../../src/identity/agent-key.ts';
import { formatPem } from '../../src/identity/pem.ts';
import { signSsh, verifySsh } from '../../src/identity/ssh-signature.ts';
import { failure, lacks, run, seededRandom } from '../crypto/support.ts';
import { mutations, orRefused, pemBytes, sshFixture } from './ssh-fixtures.ts';
import { agentKey, newRoot } from '../../src/identity/root.ts';

const KEY = parseAgentKey(sshFixture('key'));
const OTHER = agentKey(newRoot(seededRandom('signature')), 0);
const MESSAGE = [Buffer.from(sshFixture('message'))];
const { publicKey } = KEY;
const TESTED = 'holdfast-test@example.org';

describe('a signature of ssh-keygen', () => {
  it('holds for its message, key and namespace', async () => {
    await verifySsh(sshFixture('message.sig'), MESSAGE, { namespace: 'file', publicKey });
    await verifySsh(sshFixture('message.sig').replaceAll('\n', '\r\n'), MESSAGE, { namespace: 'file', publicKey });
    await verifySsh(sshFixture('message.sha256.sig'), MESSAGE, { namespace: TESTED, publicKey });
    await verifySsh(sshFixture('message.unicode.sig'), MESSAGE, { namespace: 'ünïcode', publicKey });
    await verifySsh(sshFixture('empty.sig'), [], { namespace: 'file', publicKey });
  });

  it('holds for no other message', async () => {
    for (const other of [[], [Buffer.from('What was signed.\n')], [...MESSAGE, Buffer.from('\n')]]) {
      await failure(() => verifySsh(sshFixture('message.sig'), other, { namespace: 'file', publicKey }), 'forged');
    }
  });

  it('holds for no other namespace, and says which one it is for', async () => {
    const error = await failure(
      () => verifySsh(sshFixture('message.sha256.sig'), MESSAGE, { namespace: 'file', publicKey }),
      'forged',
    );
    expect(error.message).toContain(`"${TESTED}"`);
    await failure(() => verifySsh(sshFixture('message.sig'), MESSAGE, { namespace: '', publicKey }), 'usage');
  });

  it('holds for no other key, and says which one it is by', async () => {
    const { publicKey: other } = OTHER;
    const error = await failure(
      () => verifySsh(sshFixture('message.sig'), MESSAGE, { namespace: 'file', publicKey: other }),
      'wrong_key',
    );
    expect(error.message).toContain(`by ${fingerprint(publicKey)}, not by ${fingerprint(other)}`);
    const kind = await failure(
      () => verifySsh(sshFixture('message.ecdsa.sig'), MESSAGE, { namespace: 'file', publicKey }),
      'wrong_key',
    );
    expect(kind.message).toContain('ecdsa-sha2-nistp256');
  });

  it('is byte for byte the one that holdfast makes', async () => {
    expect(await signSsh(KEY, 'file', MESSAGE)).toBe(sshFixture('message.sig'));
    expect(await signSsh(KEY, 'ünïcode', MESSAGE)).toBe(sshFixture('message.unicode.sig'));
    expect(await signSsh(KEY, 'file', [])).toBe(sshFixture('empty.sig'));
  });

  it.each(['message.sig', 'message.sha256.sig', 'message.ecdsa.sig'])(
    '%s with bytes changed never holds for another message or key',
    async (name) => {
      const bytes = pemBytes(sshFixture(name));
      const namespace = name === 'message.sha256.sig' ? TESTED : 'file';
      await fc.assert(
        fc.asyncProperty(mutations(bytes), async (changed) => {
          const armored = formatPem('SSH SIGNATURE', changed, 70);
          const expected = { namespace, publicKey };
          const held = await orRefused(
            () => verifySsh(armored, [Buffer.from('another')], expected).then(() => true),
            () => undefined,
          );
          expect(held).toBeUndefined();
          await orRefused(
            () => verifySsh(armored, MESSAGE, expected),
            () => undefined,
          );
        }),
        { numRuns: 300 },
      );
    },
  );

  it('with any bit of it changed is refused', async () => {
    const bytes = pemBytes(sshFixture('message.sig'));
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      const armored = formatPem('SSH SIGNATURE', changed, 70);
      await failure(
        () => verifySsh(armored, MESSAGE, { namespace: 'file', publicKey }),
        ...(['damaged', 'wrong_key', 'forged'] as const),
      );
    }
  });

  it('in any other text is damaged', async () => {
    const text = sshFixture('message.sig');
    const others = [
      '',
      'hello',
      sshFixture('key.pub'),
      `${text}${text}`,
      `x${text}`,
      text.replace('SSH SIG', 'PGP SIG'),
    ];
    for (const other of [...others, text.slice(0, 100), formatPem('SSH SIGNATURE', new Uint8Array(0), 70)]) {
      await failure(() => verifySsh(other, MESSAGE, { namespace: 'file', publicKey }), 'damaged');
    }
  });
});

describe.skipIf(lacks('ssh-keygen', '-?'))('ssh-keygen', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-sshsig-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const fileOf = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content, { mode: 0o600 });
    return join(folder, name);
  };

  it('accepts the signatures of holdfast, of whatever content and in whatever namespace', async () => {
    const allowed = fileOf('allowed', `ada ${sshPublicLine(OTHER.publicKey, '')}\n`);
    const contents = [new Uint8Array(0), Buffer.from('hello\n'), Buffer.alloc(3_000_000, 'holdfast')];
    for (const [i, content] of contents.entries()) {
      const namespace = ['file', 'a b', TESTED][i] ?? '';
      const pieces = [content.subarray(0, 1000), content.subarray(1000)];
      const signature = fileOf(`sig${i}`, await signSsh(OTHER, namespace, pieces));
      const args = ['-Y', 'verify', '-f', allowed, '-I', 'ada', '-s', signature, '-n'];
      expect(run('ssh-keygen', [...args, namespace], content).toString()).toContain('Good');
      expect(() => run('ssh-keygen', [...args, 'other'], content)).toThrow('failed');
      expect(() => run('ssh-keygen', [...args, namespace], Buffer.concat([content, Buffer.from('x')]))).toThrow(
        'failed',
      );
    }
  });

  it('makes signatures that holdfast accepts', async () => {
    const path = fileOf('key', sshFixture('key'));
    for (const hash of ['sha256', 'sha512']) {
      const content = Buffer.from(`signed with ${hash}`);
      const armored = run('ssh-keygen', ['-q', '-Y', 'sign', '-f', path, '-n', 'x', '-O', `hashalg=${hash}`], content);
      await verifySsh(armored.toString(), [content], { namespace: 'x', publicKey });
      await failure(() => verifySsh(armored.toString(), MESSAGE, { namespace: 'x', publicKey }), 'forged');
    }
  });
});
