/** Host keys in a `known_hosts` file (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): plain and hashed names, patterns, ports, revoked keys. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

export interface KnownHostKey {
  /** `ssh-ed25519`, … */
  type: string;
  /** The key as it goes over the wire. */
  blob: Buffer;
  isRevoked: boolean;
}

/** The keys that the file lists for a host. Lines of certificate authorities, and with markers unknown, count as none: such hosts are unknown. */
export function knownKeys(text: string, host: string, port: number): KnownHostKey[] {
  const name = port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`;
  return text.split(/\r?\n/).flatMap((line): KnownHostKey[] => {
    const fields = line.trim().split(/\s+/);
    if (fields[0] === undefined || fields[0] === '' || fields[0].startsWith('#')) return [];
    const marker = fields[0].startsWith('@') ? fields.shift() : undefined;
    const [names = '', type = '', base64 = ''] = fields;
    if ((marker !== undefined && marker !== '@revoked') || base64 === '' || !matches(names, name)) return [];
    return [{ type, blob: Buffer.from(base64, 'base64'), isRevoked: marker === '@revoked' }];
  });
}

/** `SHA256:…`, as `ssh-keygen -l` prints it. */
export function hostKeyFingerprint(blob: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** The type in a key as it goes over the wire; '' when it is none. */
export function hostKeyType(blob: Buffer): string {
  const length = blob.length >= 4 ? blob.readUInt32BE(0) : 0;
  return length <= 64 ? blob.toString('latin1', 4, 4 + length) : '';
}

function matches(names: string, name: string): boolean {
  if (names.startsWith('|1|')) {
    const [, , salt = '', hash = ''] = names.split('|');
    const expected = Buffer.from(hash, 'base64');
    const actual = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest();
    return expected.length === actual.length && timingSafeEqual(expected, actual);
  }
  let isListed = false;
  for (const entry of names.toLowerCase().split(',')) {
    const isNegated = entry.startsWith('!');
    if (!fits(name, isNegated ? entry.slice(1) : entry)) continue;
    if (isNegated) return false;
    isListed = true;
  }
  return isListed;
}

/** `*` and `?` as in sshd(8). Not by a regular expression: with a dozen stars it would take for ever. */
function fits(name: string, pattern: string): boolean {
  let at = 0;
  /** Behind the last star, and what it has taken of the name so far: all before it fits whatever comes. */
  let star: { next: number; taken: number } | undefined;
  for (let i = 0; i < name.length;) {
    const wanted = pattern[at];
    if (wanted === '*') {
      star = { next: ++at, taken: i };
    } else if (wanted === '?' || wanted === name[i]) {
      at++;
      i++;
    } else if (star) {
      at = star.next;
      i = ++star.taken;
    } else return false;
  }
  return /^\**$/.test(pattern.slice(at));
}
