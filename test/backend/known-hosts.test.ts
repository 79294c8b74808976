import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostKeyFingerprint, hostKeyType, knownKeys } from '../../src/backend/known-hosts.ts';

const A = 'AAAAC3NzaC1lZDI1NTE5AAAAIOrOKmS5OKcgyl3VmOo/B1P3/7GpNfaqdoP1OYsigcFG';
const B = 'AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f';
/** The keys that a line names for a host, as base64, the revoked ones with a `-`. */
const keysOf = (text: string, host: string, port = 22) =>
  knownKeys(text, host, port).map(({ blob, isRevoked }) => `${isRevoked ? '-' : ''}${blob.toString('base64')}`);

describe('known_hosts', () => {
  test.each([
    ['ship.example', 'ship.example', 22, true],
    ['ship.example', 'Ship.Example', 22, true],
    ['SHIP.example', 'ship.example', 22, true],
    ['ship.example', 'ship.example.org', 22, false],
    ['ship.example', 'aship.example', 22, false],
    ['ship.example', 'shipxexample', 22, false],
    ['ship.example', 'ship.example', 2222, false],
    ['[ship.example]:2222', 'ship.example', 2222, true],
    ['[ship.example]:2222', 'ship.example', 22, false],
    ['[ship.example]:2222', 'ship.example', 222, false],
    ['a,ship.example,b', 'ship.example', 22, true],
    ['*.example', 'ship.example', 22, true],
    ['*.example', 'example', 22, false],
    ['sh?p.example', 'ship.example', 22, true],
    ['sh?p.example', 'shp.example', 22, false],
    ['*,!ship.example', 'ship.example', 22, false],
    ['!ship.example,*', 'ship.example', 22, false],
    ['*,!ship.example', 'other.example', 22, true],
    ['!ship.example', 'other.example', 22, false],
    ['10.0.0.*', '10.0.0.7', 22, true],
    ['10.0.0.*', '10x0.0.7', 22, false],
    ['2001:db8::1', '2001:db8::1', 22, true],
    ['[2001:db8::1]:2222', '2001:db8::1', 2222, true],
    ['(ship|other)', 'ship', 22, false],
    ['s*p.*e**', 'ship.example', 22, true],
    ['s*p.*f', 'ship.example', 22, false],
    ['*?', 's', 22, true],
    ['*??', 's', 22, false],
    [`${'*a'.repeat(40)}*b`, 'a'.repeat(200), 22, false], // at once
  ] as const)('a line for %s is about %s, port %i: %s', (names, host, port, isListed) => {
    expect(keysOf(`${names} ssh-ed25519 ${A} comment`, host, port)).toEqual(isListed ? [A] : []);
  });

  test('gives every key of a host, in the order of the lines, whatever stands between', () => {
    const text = `# ship ssh-ed25519 ${A}\r\n\n  ship\tssh-ed25519   ${A} me@here\r\nother ssh-rsa ${A}\nship ssh-ed25519 ${B}\nship\n`;
    expect(keysOf(text, 'ship')).toEqual([A, B]);
    expect(knownKeys(text, 'ship', 22)[0]?.type).toBe('ssh-ed25519');
  });

  test('takes no key from a line with a marker it does not know', () => {
    expect(keysOf(`@perhaps ship ssh-ed25519 ${A}\nship ssh-ed25519 ${B}`, 'ship')).toEqual([B]);
  });

  test('tells revoked keys, and takes no key from the line of a certificate authority', () => {
    expect(keysOf(`@revoked * ssh-ed25519 ${A}\n@cert-authority *.example ssh-ed25519 ${B}`, 'ship.example')).toEqual([
      `-${A}`,
    ]);
  });

  test.each(['|1|', '|1||', '|1|x|y', '|2|AAAA|BBBB', '|1|AAAA|'])('finds no host in the broken hash %s', (names) => {
    expect(keysOf(`${names} ssh-ed25519 ${A}`, 'ship')).toEqual([]);
  });

  describe('as ssh-keygen writes it', () => {
    let folder: string;
    let file: string;
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'holdfast-known-hosts-'));
      file = join(folder, 'known_hosts');
      writeFileSync(file, `ship.example,10.0.0.7 ssh-ed25519 ${A}\n[ship.example]:2222 ssh-ed25519 ${B}\n`);
      execFileSync('ssh-keygen', ['-H', '-f', file], { stdio: 'ignore' });
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    test('with hashed names', () => {
      const text = readFileSync(file, 'utf8');
      expect(text).not.toContain('ship');
      expect(keysOf(text, 'ship.example')).toEqual([A]);
      expect(keysOf(text, '10.0.0.7')).toEqual([A]);
      expect(keysOf(text, 'ship.example', 2222)).toEqual([B]);
      expect(keysOf(text, 'other.example')).toEqual([]);
    });

    test('the fingerprint is the one that it shows', () => {
      const [shown] = /SHA256:\S+/.exec(execFileSync('ssh-keygen', ['-l', '-f', file], { encoding: 'utf8' })) ?? [];
      expect(hostKeyFingerprint(Buffer.from(A, 'base64'))).toBe(shown);
    });
  });

  test('the type of a key is read from it, and of what is no key it is empty', () => {
    expect(hostKeyType(Buffer.from(A, 'base64'))).toBe('ssh-ed25519');
    for (const bytes of [[], [0, 0, 0], [0xff, 0xff, 0xff, 0xff, 65], [0, 0, 1, 0, 65]])
      expect(hostKeyType(Buffer.from(bytes))).toBe('');
  });
});
