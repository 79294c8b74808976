/** Many ids in little room: the first 8 bytes of each, one after the other, ascending, in Base64. Two that agree in these are taken for one. */

const BYTES = 8;
const DIGITS = BYTES * 2;

/** The part of an id (64 hex digits) that is kept. */
export const prefixOf = (id: string): string => id.slice(0, DIGITS);

export function packPrefixes(ids: Iterable<string>): string {
  const sorted = [...new Set([...ids].map(prefixOf))].sort();
  return Buffer.from(sorted.join(''), 'hex').toString('base64');
}

/** 16 hex digits each. What is left over at the end is none. */
export function* unpackPrefixes(text: string): Generator<string> {
  const bytes = Buffer.from(text, 'base64');
  for (let at = 0; at + BYTES <= bytes.length; at += BYTES) yield bytes.toString('hex', at, at + BYTES);
}
