/** What counts as text: valid UTF-8 without NUL, whatever the name says. */

/** The text, or undefined when the bytes are none. @param isPart that a character may be cut off at the end */
export function decodeText(bytes: Uint8Array, { isPart = false }: { isPart?: boolean } = {}): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: isPart });
  } catch {
    return undefined;
  }
}
