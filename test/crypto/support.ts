/** What the tests of crypto and identity share. */
import { spawnSync } from 'node:child_process';
import { createCipheriv, hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { expect } from 'vitest';
import type { Random } from '../../src/clock.ts';
import { HoldfastError, type ErrorCode } from '../../src/errors.ts';

/** Bytes that depend on the seed and on what was taken before: SHA-256 of seed and counter. For megabytes there is `seededNoise`. */
export function seededRandom(seed: string): Random {
  let counter = 0;
  const next = () => hash('sha256', `${seed}/${counter++}`, 'buffer');
  return {
    bytes(length) {
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; at += 32) bytes.set(next().subarray(0, length - at), at);
      return bytes;
    },
  };
}

/** A file under a passphrase, as age writes it, at a work factor that costs nothing. */
export async function cheapVault(text: string | Uint8Array, passphrase: string): Promise<Uint8Array> {
  const { Encrypter } = await import('age-encryption');
  const writer = new Encrypter();
  writer.setPassphrase(passphrase);
  writer.setScryptWorkFactor(2);
  return writer.encrypt(text);
}

/** The same by AES-256-CTR, of which each taking has a key of its own: other bytes, and a hundred times as fast. */
export function seededNoise(seed: string): Random {
  const keys = seededRandom(seed);
  return {
    bytes: (length) =>
      new Uint8Array(createCipheriv('aes-256-ctr', keys.bytes(32), new Uint8Array(16)).update(new Uint8Array(length))),
  };
}

/** The parsed JSON of a file of fixtures/vectors, taken to have the shape `T`. */
export function vectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../fixtures/vectors/${name}.json`, import.meta.url), 'utf8')) as T;
}

/**
 * The HoldfastError that `run` throws or rejects with; the test fails when it does not, or with one of another code.
 */
export async function failure(run: () => unknown, ...codes: ErrorCode[]): Promise<HoldfastError> {
  try {
    await run();
  } catch (error) {
    expect(error).toBeInstanceOf(HoldfastError);
    const failed = error as HoldfastError;
    expect(codes, failed.message).toContain(failed.code);
    return failed;
  }
  throw new Error(`expected a HoldfastError (${codes.join(' or ')}), and nothing was thrown`);
}

/** Everything that a log of the error could show, its causes included. */
export function everythingOf(error: HoldfastError): string {
  return `${inspect(error, { depth: 10 })} ${error.message} ${error.hint ?? ''}`;
}

/**
 * Whether a test that needs the program is to be skipped: only where the program is missing and this is no CI run;
 * there the test runs, and fails.
 */
export function lacks(program: string, ...args: string[]): boolean {
  return process.env['CI'] !== 'true' && spawnSync(program, args).error !== undefined;
}

/** Standard output of a program that must succeed. */
export function run(program: string, args: readonly string[], input?: Uint8Array): Buffer {
  const { status, stdout, stderr, error } = spawnSync(program, args, { input, maxBuffer: 64 * 1024 * 1024 });
  if (error !== undefined || status !== 0) throw new Error(`${program} failed: ${error?.message ?? stderr.toString()}`);
  return stdout;
}
