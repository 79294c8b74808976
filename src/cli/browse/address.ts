/** Addresses of pages, in which paths are bytes and not text. All pages lie in one folder: addresses are relative. */
import { HoldfastError } from '../../errors.ts';
import type { RawPath } from '../../raw-path.ts';
import type { SeenSnapshot } from '../../operations/looking/open-look.ts';

type Value = SeenSnapshot | string | undefined;

/** `page?s=…&p=…`: of snapshots the id; strings are raw paths or ASCII. */
export function address(page: string, query: Readonly<Record<string, Value>> = {}): string {
  const pairs = Object.entries(query).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${encode(typeof value === 'string' ? value : value.id)}`],
  );
  return pairs.length === 0 ? page : `${page}?${pairs.join('&')}`;
}

const encode = (raw: string): string =>
  raw.replace(/[^A-Za-z0-9._~/-]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);

/** One value of a query, as bytes; '' when it is not there. @throws `usage` */
export function rawValue(query: string, key: string): RawPath {
  const pair = query.split('&').find((one) => one.startsWith(`${key}=`));
  const text = pair?.slice(key.length + 1) ?? '';
  if (/%(?![0-9A-Fa-f]{2})|[^\x21-\x7e]/.test(text)) throw new HoldfastError('usage', 'the address is malformed');
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  ) as RawPath;
}
