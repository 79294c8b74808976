/** What can be shown of a file's content without a browser being asked to make anything of it. */
import { decodeText } from '../../operations/looking/text.ts';

export const PREVIEW_TEXT_BYTES = 256 * 1024;
export const PREVIEW_HEX_BYTES = 4 * 1024;
export const PREVIEW_IMAGE_MAX_BYTES = 16 * 1024 * 1024;

export type Preview = { kind: 'empty' } | { kind: 'image' } | { kind: 'text' | 'hex'; text: string; isCut: boolean };

/** By the first bytes and not by the name. No SVG: it is a document with scripts. */
const IMAGES: readonly (readonly [type: string, test: (bytes: Buffer) => boolean])[] = [
  ['image/png', (bytes) => bytes.toString('latin1', 0, 8) === '\x89PNG\r\n\x1a\n'],
  ['image/jpeg', (bytes) => bytes.toString('latin1', 0, 3) === '\xff\xd8\xff'],
  ['image/gif', (bytes) => /^GIF8[79]a/.test(bytes.toString('latin1', 0, 6))],
  ['image/webp', (bytes) => bytes.toString('latin1', 0, 4) === 'RIFF' && bytes.toString('latin1', 8, 12) === 'WEBP'],
];

/** The media type of an image of a kind that browsers show safely; undefined for everything else. */
export function imageType(beginning: Buffer, size: number): string | undefined {
  if (size > PREVIEW_IMAGE_MAX_BYTES) return undefined;
  return IMAGES.find(([, test]) => test(beginning))?.[0];
}

/** @param beginning the first `PREVIEW_TEXT_BYTES` of the file, or all of it. */
export function preview(beginning: Buffer, size: number): Preview {
  if (size === 0) return { kind: 'empty' };
  if (imageType(beginning, size)) return { kind: 'image' };
  const text = decodeText(beginning, { isPart: beginning.length < size });
  if (text !== undefined) return { kind: 'text', text: visible(text), isCut: beginning.length < size };
  return { kind: 'hex', text: hexDump(beginning.subarray(0, PREVIEW_HEX_BYTES)), isCut: size > PREVIEW_HEX_BYTES };
}

/**
 * Control characters as the pictures that Unicode has for them, and those that turn the direction of text as their numbers: nobody who copies from the page takes
 * along what he did not see.
 */
export function visible(text: string): string {
  return text
    .replaceAll('\r\n', '\n')
    .replace(/[\x00-\x08\x0b-\x1f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (c) => {
      return `\u27e8${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}\u27e9`;
    });
}

/** As `hexdump -C` shows it. */
export function hexDump(bytes: Buffer): string {
  const rows: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const digits = row.toString('hex').replace(/../g, '$& ').padEnd(48);
    rows.push(`${at.toString(16).padStart(8, '0')}  ${digits} ${row.toString('latin1').replace(/[^\x20-\x7e]/g, '.')}`);
  }
  return rows.join('\n');
}
