/** What looks like a secret in what agents and commands say of themselves. */
const SECRETS: readonly [RegExp, string][] = [
  [/\b[a-z][a-z0-9+.-]{0,30}:\/\/[^\s/@:]*:[^\s/@]+@/gi, '***@'],
  [/((?:authorization|proxy-authorization)["']?\s*:\s*["']?(?:bearer|basic)?\s*)[^\s"']+/gi, '$1***'],
  [
    /((?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key)["']?\s*[=:]\s*["']?)[^\s"',;&]+/gi,
    '$1***',
  ],
  [/AGE-SECRET-KEY-\S+/gi, '***'],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*/g, '***'],
];

/** By what is usual for a secret: no guarantee. */
export function masked(text: string): string {
  return SECRETS.reduce((so, [pattern, by]) => so.replace(pattern, by), text);
}
