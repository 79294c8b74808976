/** Documents to print, all of them of one root. */
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { hex } from '../../src/crypto/hash.ts';
import { formatOpenSsh } from '../../src/identity/agent-key.ts';
import type { PaperFacts } from '../../src/identity/paper.ts';
import { agentKey, newRoot } from '../../src/identity/root.ts';
import { seededRandom } from '../crypto/support.ts';

export const random = seededRandom('paper');
export const root = newRoot(random);
const seed = random.bytes(32);
export const importedKey = { seed, publicKey: publicKeyOf(seed) };

export const facts: PaperFacts = {
  handle: 'ada',
  agentPublicKey: hex(agentKey(root, 0).publicKey),
  origin: 'derived',
  repository: '00112233445566778899aabbccddeeff',
  backends: [
    { name: 'nas', url: 'file:///mnt/nas/holdfast/ada' },
    { name: 'cloud', url: 's3://agents/ada?region=eu-central-1' },
    { name: 'ship', url: 'sftp://backup:hunter2@ship.example.org:22/ada' },
  ],
  kind: 'x25519',
  tool: 'holdfast/0.1.0',
  time: Date.UTC(2026, 10, 21, 12, 30),
};

/** What changes when the agent's key came from elsewhere. */
export const imported = {
  origin: 'imported',
  agentPublicKey: hex(importedKey.publicKey),
  agentKeyFile: Buffer.from(formatOpenSsh(importedKey, 'ada', random)),
} as const;

/** The longest that users can come up with. */
export const extreme = {
  handle: '\u{1f600}'.repeat(64),
  backends: Array.from({ length: 16 }, (_, i) => ({
    name: `${'b'.repeat(30)}${i}`,
    url: `s3://user:password@host${i}/${'x'.repeat(2000)}`,
  })),
};
