/** As much of DER (X.690) as key files need: one-byte tags, definite lengths below 65,536, in their shortest form. */

export interface DerReader {
  /** The content of the next element when it has this tag, else undefined. */
  optional(tag: number): Uint8Array | undefined;
  /** The content of the next element, which must have this tag. */
  expect(tag: number): Uint8Array;
  /** Nothing may follow. */
  end(): void;
}

/** Reads the elements of `bytes` one after the other; `fail` makes the error for whatever is not as it should be. */
export function derReader(bytes: Uint8Array, fail: (problem: string) => Error): DerReader {
  let at = 0;
  const optional = (tag: number): Uint8Array | undefined => {
    if (bytes[at] !== tag) return undefined;
    const first = bytes[at + 1] ?? 0x80;
    const more = first < 0x80 ? 0 : first & 0x7f;
    const header = 2 + more;
    if ((first >= 0x80 && (more < 1 || more > 2)) || at + header > bytes.length)
      throw fail('its DER form cannot be read');
    const length = more === 0 ? first : bytes.subarray(at + 2, at + header).reduce((sum, byte) => 256 * sum + byte, 0);
    if (more > 0 && length < (more === 1 ? 0x80 : 0x100)) throw fail('its DER form cannot be read');
    if (at + header + length > bytes.length) throw fail('it is cut short');
    return bytes.subarray(at + header, (at += header + length));
  };
  return {
    optional,
    expect: (tag) => {
      const content = optional(tag);
      if (content === undefined) throw fail('its DER form cannot be read');
      return content;
    },
    end: () => {
      if (at !== bytes.length) throw fail('it holds more than a key');
    },
  };
}
