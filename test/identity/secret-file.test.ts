import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { readSecretFile, SECRET_FILE_MAX_BYTES, writeSecretFile } from '../../src/identity/secret-file.ts';
import { failure } from '../crypto/support.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-secret-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const secret = Buffer.from('a secret\n');
const modeOf = (path: string) => statSync(path).mode & 0o777;

describe('writing a secret file', () => {
  it('makes it readable by its owner only, in new folders of the same kind, and leaves nothing else', async () => {
    const path = join(folder, 'a', 'b', 'key');
    await writeSecretFile(path, secret);
    expect(readFileSync(path)).toEqual(secret);
    expect([path, join(folder, 'a', 'b'), join(folder, 'a')].map(modeOf)).toEqual([0o600, 0o700, 0o700]);
    expect(readdirSync(join(folder, 'a', 'b'))).toEqual(['key']);
    expect(statSync(path).nlink).toBe(1);
  });

  it('never replaces a file, a folder or a link, even one that leads nowhere', async () => {
    writeFileSync(join(folder, 'file'), 'kept');
    mkdirSync(join(folder, 'folder'));
    symlinkSync('nowhere', join(folder, 'link'));
    for (const name of ['file', 'folder', 'link']) {
      expect((await failure(() => writeSecretFile(join(folder, name), secret), 'exists')).message).toContain(name);
    }
    expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('kept');
    expect(readdirSync(folder).toSorted()).toEqual(['file', 'folder', 'link']);
    expect(existsSync(join(folder, 'nowhere'))).toBe(false);
  });

  it('done by several at once succeeds for exactly one', async () => {
    const path = join(folder, 'key');
    const results = await Promise.allSettled(
      [1, 2, 3, 4].map((n) => writeSecretFile(path, Buffer.from(`secret ${n}`))),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const winner = results.findIndex(({ status }) => status === 'fulfilled') + 1;
    expect(readFileSync(path, 'utf8')).toBe(`secret ${winner}`);
    expect(readdirSync(folder)).toEqual(['key']);
  });

  it('below something that is no folder is refused', async () => {
    writeFileSync(join(folder, 'file'), 'kept');
    await failure(() => writeSecretFile(join(folder, 'file', 'key'), secret), 'io');
    await failure(() => writeSecretFile(join(folder, 'file', 'deeper', 'key'), secret), 'io');
    expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('kept');
  });
});

describe('reading a secret file', () => {
  it('gives its bytes', async () => {
    const path = join(folder, 'key');
    await writeSecretFile(path, secret);
    expect(Buffer.from(await readSecretFile(path))).toEqual(secret);
  });

  it.each([0o640, 0o604, 0o660, 0o602, 0o601, 0o777])(
    'refuses mode %o, with the command that mends it',
    async (mode) => {
      const path = join(folder, "it's a key");
      writeFileSync(path, secret);
      chmodSync(path, mode);
      const error = await failure(() => readSecretFile(path), 'insecure_permissions');
      expect(error.message).toContain(mode.toString(8));
      execFileSync('sh', ['-c', error.hint!.replace('Run: ', '')]);
      expect(Buffer.from(await readSecretFile(path))).toEqual(secret);
    },
  );

  it('says when it is not there, or a folder', async () => {
    await failure(() => readSecretFile(join(folder, 'absent')), 'missing_key');
    chmodSync(folder, 0o755);
    const error = await failure(() => readSecretFile(folder), 'usage');
    expect(error.message).toContain('folder');
  });

  it('refuses one larger than any key, and takes the largest that is allowed', async () => {
    await writeSecretFile(join(folder, 'large'), new Uint8Array(SECRET_FILE_MAX_BYTES));
    await writeSecretFile(join(folder, 'larger'), new Uint8Array(SECRET_FILE_MAX_BYTES + 1));
    expect(await readSecretFile(join(folder, 'large'))).toHaveLength(SECRET_FILE_MAX_BYTES);
    await failure(() => readSecretFile(join(folder, 'larger')), 'usage');
  });

  it('reads a pipe to its end', async () => {
    const path = join(folder, 'pipe');
    execFileSync('mkfifo', ['-m', '600', path]);
    const [read] = await Promise.all([
      readSecretFile(path),
      import('node:fs/promises').then((fs) => fs.writeFile(path, secret)),
    ]);
    expect(Buffer.from(read)).toEqual(secret);
  });

  it('does not wait for ever for somebody who writes into a pipe, and reads no device', async () => {
    const path = join(folder, 'pipe');
    execFileSync('mkfifo', ['-m', '600', path]);
    const sleep = vi.spyOn(systemClock, 'sleep').mockResolvedValue();
    expect((await failure(() => readSecretFile(path), 'usage')).message).toContain('nobody writes');
    expect(sleep.mock.calls.length).toBeGreaterThan(10);
    vi.restoreAllMocks();
    const zero = join(folder, 'zero');
    if (process.geteuid?.() !== 0) return;
    execFileSync('mknod', ['-m', '600', zero, 'c', '1', '5']);
    await failure(() => readSecretFile(zero), 'usage');
  });
});
