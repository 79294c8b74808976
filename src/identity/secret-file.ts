/** Files that hold secrets: never readable by others, never replaced, whole or absent. */
import { constants } from 'node:fs';
import { link, lstat, mkdir, mkdtemp, open, realpath, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { systemClock } from '../clock.ts';
import { equalBytes, withSecret } from '../crypto/hash.ts';
import { HoldfastError, isHoldfastError, messageOf, systemErrorCode } from '../errors.ts';

/** No key or words file is larger; a larger one is something else. */
export const SECRET_FILE_MAX_BYTES = 64 * 1024;
const OTHERS = 0o077;
/** Without waiting for somebody who writes, should a named pipe lie there. */
export const READ_NOW = constants.O_RDONLY | constants.O_NONBLOCK;
/** What file systems without hard links answer. */
const NO_LINKS: ReadonlySet<string | undefined> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

/**
 * Writes a new file that only its owner can read (0600), in folders made 0700 where they lack. When it has resolved,
 * the file survives a power loss; after a crash the file is whole or absent (a folder `.holdfast-…` with mode 0700 may
 * be left beside it). Throws `exists` when anything is at `path`, `io` when the file system refuses; nothing is
 * replaced.
 */
export async function writeSecretFile(path: string, bytes: Uint8Array): Promise<void> {
  const folder = dirname(resolve(path));
  try {
    const firstMade = await mkdir(folder, { recursive: true, mode: 0o700 });
    const temporary = await mkdtemp(join(folder, '.holdfast-'));
    try {
      await writeNew(join(temporary, 'secret'), bytes);
      await publish(join(temporary, 'secret'), path, bytes);
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
    // The name of each new folder is an entry of the one above it.
    const top = firstMade === undefined ? folder : dirname(resolve(firstMade));
    for (let made = folder; ; made = dirname(made)) {
      await syncFolder(made);
      if (made === top) break;
    }
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    throw cannot('write', path, error);
  }
}

/** Throws `exists` when anything is at `path`, `io` when that cannot be known. */
export async function checkAbsent(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ENOTDIR') return undefined;
    throw new HoldfastError('io', `cannot look at ${path}: ${systemErrorCode(error) ?? 'unknown error'}`, {
      cause: error,
    });
  });
  if (found)
    throw new HoldfastError('exists', `${path} exists already`, {
      hint: 'Nothing was changed. Move it away or choose another place; a key that is overwritten is gone.',
    });
}

/** Finds out whether a secret file could be written at `path`; folders that lack are made. Throws `io`. */
export async function checkFolder(path: string): Promise<void> {
  const folder = dirname(resolve(path));
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await rm(await mkdtemp(join(folder, '.holdfast-')), { recursive: true });
  } catch (error) {
    throw cannot('write', path, error);
  }
}

/**
 * Puts a new secret (0600) in the place of the one at `path`, which is kept as `keepAs` when that is given. At every moment the file at `path`
 * is one of the two, whole. A symbolic link at `path` stays one. Throws as `writeSecretFile`; `exists` when something else is at `keepAs`.
 */
export async function replaceSecretFile(path: string, bytes: Uint8Array, keepAs?: string): Promise<void> {
  const place = await realpath(path).catch(() => path);
  if (keepAs !== undefined) await keep(place, keepAs);
  const folder = dirname(resolve(place));
  try {
    const temporary = await mkdtemp(join(folder, '.holdfast-'));
    try {
      await writeNew(join(temporary, 'secret'), bytes);
      await rename(join(temporary, 'secret'), place);
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
    await syncFolder(folder);
  } catch (error) {
    throw cannot('write', path, error);
  }
}

/** A copy, unless there is nothing to keep or an earlier attempt has kept it. */
async function keep(path: string, keepAs: string): Promise<void> {
  const old = await readSecretFileIfAny(path);
  if (old === undefined) return;
  try {
    await writeSecretFile(keepAs, old);
  } catch (error) {
    if (!isHoldfastError(error, 'exists') || !equalBytes(await readSecretFile(keepAs), old)) throw error;
  }
}

/**
 * Reads a secret file (or a pipe, for a descriptor such as /dev/fd/3). Throws `missing_key` when it is not there,
 * `insecure_permissions` when others than its owner may use it, `usage` when it is neither file nor pipe, a pipe to which nobody writes, or larger
 * than `SECRET_FILE_MAX_BYTES`, `io` when it cannot be read.
 */
export async function readSecretFile(path: string): Promise<Uint8Array> {
  checkIsName(path);
  try {
    await using file = await open(path, READ_NOW);
    const stat = await file.stat();
    if (stat.isDirectory()) throw new HoldfastError('usage', `${path} is a folder, not a file with a key or words`);
    if ((stat.mode & OTHERS) !== 0) {
      const mode = (stat.mode & 0o777).toString(8).padStart(3, '0');
      throw new HoldfastError('insecure_permissions', `${path} can be used by others than its owner (mode ${mode})`, {
        hint: `Run: chmod 600 ${shellWord(path)}`,
      });
    }
    if (stat.isFIFO()) return await readPipe(path);
    if (!stat.isFile()) throw new HoldfastError('usage', `${path} is a device, not a file with a key or words`);
    return await readAll(file, path);
  } catch (error) {
    if (error instanceof HoldfastError) throw error;
    if (systemErrorCode(error) === 'ENOENT') {
      throw new HoldfastError('missing_key', `${path} is not there`, {
        hint: 'Check the path; a relative one counts from the current folder.',
      });
    }
    throw cannot('read', path, error);
  }
}

/** The same, or undefined when it is not there. */
export async function readSecretFileIfAny(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readSecretFile(path);
  } catch (error) {
    if (isHoldfastError(error, 'missing_key')) return undefined;
    throw error;
  }
}

/** The same as text. */
export async function readSecretText(path: string): Promise<string> {
  return withSecret(await readSecretFile(path), (bytes) =>
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8'),
  );
}

const WORDS_IN_A_NAME = 12;

/** Throws `usage`, without repeating it, for a secret that was given where its file belongs. */
export function checkIsName(path: string): void {
  const isSecret =
    path.trim().split(/\s+/).length >= WORDS_IN_A_NAME ||
    /AGE-SECRET-KEY-/i.test(path) ||
    /^[0-9a-f]{64}([0-9a-f]{64})?$/i.test(path) ||
    path.includes('PRIVATE KEY');
  if (!isSecret) return;
  throw new HoldfastError('usage', 'a secret was given where the name of its file belongs', {
    hint: 'Everybody on this host could read it there. Put it into a file with mode 0600, or type it at the prompt.',
  });
}

async function readAll(file: FileHandle, path: string): Promise<Uint8Array> {
  const buffer = new Uint8Array(SECRET_FILE_MAX_BYTES + 1);
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length);
    if (bytesRead === 0) return withSecret(buffer, () => buffer.slice(0, length));
    length += bytesRead;
  }
  throw tooLarge(path);
}

const PIPE_LOOK_MS = 20;
const PIPE_WAIT_MS = 5000;

/**
 * All that comes out of a pipe, such as `<(…)` of a shell. Throws `usage` when nothing does, for nobody opens it to write within some seconds, and when
 * it is more than `SECRET_FILE_MAX_BYTES`. (A read that waits would keep a thread, and with it the program, for ever.)
 */
export async function readPipe(path: string): Promise<Uint8Array> {
  await using file = await open(path, READ_NOW);
  const buffer = new Uint8Array(SECRET_FILE_MAX_BYTES + 1);
  let length = 0;
  for (let waitedMs = 0; waitedMs < PIPE_WAIT_MS;) {
    const bytesRead = await file.read(buffer, length, buffer.length - length).then(
      (read) => read.bytesRead,
      (error: unknown) => {
        if (systemErrorCode(error) === 'EAGAIN') return undefined; // somebody has it open, and has not written yet
        throw error;
      },
    );
    length += bytesRead ?? 0;
    if (length === buffer.length) throw tooLarge(path);
    if (bytesRead === 0 && length > 0) return buffer.slice(0, length);
    if (bytesRead !== undefined && bytesRead > 0) continue;
    await systemClock.sleep(PIPE_LOOK_MS);
    if (bytesRead === 0) waitedMs += PIPE_LOOK_MS;
  }
  throw new HoldfastError('usage', `${path} is a pipe to which nobody writes`, {
    hint: 'Give a file, or a pipe of the shell such as <(command).',
  });
}

function tooLarge(path: string): HoldfastError {
  return new HoldfastError(
    'usage',
    `${path} is too large for a file with a key or words (more than ${SECRET_FILE_MAX_BYTES} bytes)`,
    {
      hint: 'Check that it is the right file.',
    },
  );
}

/**
 * Gives the finished file its name, which must be free. Where the file system has no hard links, it is written under
 * its name at once.
 */
async function publish(temporary: string, path: string, bytes: Uint8Array): Promise<void> {
  try {
    await link(temporary, path).catch(async (error: unknown) => {
      if (!NO_LINKS.has(systemErrorCode(error))) throw error;
      await writeNew(path, bytes);
    });
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    throw new HoldfastError('exists', `${path} is already there and is not replaced`, {
      hint: 'Give another path, or move the file away if it is no longer needed.',
    });
  }
}

async function writeNew(path: string, bytes: Uint8Array): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.writeFile(bytes);
  await file.sync();
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r');
  await folder.sync();
}

function cannot(what: 'read' | 'write', path: string, cause: unknown): HoldfastError {
  return new HoldfastError('io', `cannot ${what} ${path}: ${messageOf(cause)}`, { cause });
}

function shellWord(text: string): string {
  return /^[\w./:@%+,=-]+$/.test(text) && !text.startsWith('-') ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
