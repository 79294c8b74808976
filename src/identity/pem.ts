/** Base64 between a line that begins and a line that ends it (RFC 7468, and OpenSSH's files, which look the same). */

/** Label and content of a text that is one such block and nothing else; undefined for any other text. */
export function parsePem(text: string): { label: string; bytes: Buffer } | undefined {
  const match = /^-----BEGIN ([A-Z0-9 ]+)-----\s([A-Za-z0-9+/=\s]*)-----END \1-----$/.exec(text.trim());
  return match ? { label: match[1] ?? '', bytes: Buffer.from(match[2] ?? '', 'base64') } : undefined;
}

/** `width`: characters a line; OpenSSL takes 64, OpenSSH 70. */
export function formatPem(label: string, bytes: Uint8Array, width: 64 | 70): string {
  const lines =
    Buffer.from(bytes)
      .toString('base64')
      .match(new RegExp(`.{1,${width}}`, 'g')) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}
