/** Keys that the agent keeps in its own state: an agent that finds its file unreadable may quietly make a new one, and be another. */
import { equalBytes } from '../../crypto/hash.ts';
import type { FileEntry } from '../../entry.ts';
import { isHoldfastError } from '../../errors.ts';
import { deviceId, fingerprint, parseAgentKey } from '../../identity/agent-key.ts';
import { rawForDisplay } from '../../raw-path.ts';
import { readSmall } from '../past.ts';
import { nameOf, type Scene } from '../scene.ts';
import type { Earlier } from './earlier.ts';
import type { Findings } from './findings.ts';

export const KEY_FILE_MAX_BYTES = 64 * 1024;
/** Fields of JSON files in which agents keep them. */
const FIELDS = ['privateKey', 'privateKeyPem', 'secretKey', 'seed'];

/** The public key of what the file holds; undefined where it is no ed25519 key. */
export function publicKeyIn(bytes: Uint8Array | undefined): Uint8Array | undefined {
  if (!bytes) return undefined;
  const text = Buffer.from(bytes).toString('utf8');
  const candidates = [text];
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null)
      for (const field of FIELDS) {
        const found: unknown = Reflect.get(value, field);
        if (typeof found === 'string') candidates.push(found);
      }
  } catch {
    // no JSON
  }
  for (const candidate of candidates) {
    try {
      return parseAgentKey(candidate).publicKey;
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
    }
  }
  return undefined;
}

/**
 * The key as it came back, held against the one in the snapshot, those of the snapshots before, and the one of the live state.
 * @param isSame whether the file is on the disk as the snapshot has it
 */
export async function checkKeyFile(
  scene: Scene,
  entry: FileEntry,
  isSame: boolean,
  earlier: Earlier,
  findings: Findings,
): Promise<void> {
  const { past, host, options } = scene;
  const { path } = entry;
  const shown = rawForDisplay(path);
  const restored = readSmall(host.state, path, KEY_FILE_MAX_BYTES);
  const key = publicKeyIn(restored);
  const contentOf = (file: FileEntry) => past.content(file, KEY_FILE_MAX_BYTES);
  const compare = (expected: Uint8Array | undefined, where: string): boolean => {
    if (!expected || (key && equalBytes(key, expected))) return true;
    const now = key ? `holds the key ${fingerprint(key)}` : 'holds no key that can be read';
    findings.fault('agent-keys', path, `${shown} ${now}, and ${where} has ${fingerprint(expected)}`);
    return false;
  };
  if (!isSame && !compare(publicKeyIn(await contentOf(entry)), 'the snapshot')) return;
  for (const { entry: file, snapshot } of earlier.of(path)) {
    const before = publicKeyIn(await contentOf(file));
    if (!compare(before, nameOf(snapshot))) return;
  }
  const live = options.state && publicKeyIn(readSmall(options.state.root, path, KEY_FILE_MAX_BYTES));
  if (!compare(live, 'the live state')) return;
  if (key) findings.keys.push(`${shown}: ${fingerprint(key)}, deviceId ${deviceId(key)}`);
}
