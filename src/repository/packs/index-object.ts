/** Index objects: JSON lines, one a pack, closed by a MAC, compressed and encrypted to everybody who restores or writes. */
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { HoldfastError } from '../../errors.ts';
import type { Random } from '../../clock.ts';
import { openAge, sealAge } from '../../crypto/age.ts';
import { chunkIdFunction } from '../../crypto/chunk-id.ts';
import { equalBytes, hkdf } from '../../crypto/hash.ts';
import { INDEX_PLAIN_MAX_BYTES, ZSTD_WINDOW_LOG_MAX } from '../../limits.ts';
import { FORMAT_VERSION } from '../records/format.ts';
import { checkContentName } from '../records/object-name.ts';
import { indexLine, parseIndexLine, type IndexedPack } from './pack-index.ts';

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const LINE_FEED = 0x0a;
/** Far more than a version and an id need. */
const HEAD_MAX_BYTES = 4096;

interface IndexContext {
  repository: string;
  /** Its MAC proves that a holder of the repository's secret wrote the index: recipients are public, so encryption alone proves nothing. */
  chunkIdKey: Uint8Array;
}

/** @returns the object's bytes; its name is their SHA-256. */
export async function sealIndex(
  packs: readonly IndexedPack[],
  context: IndexContext & { recipients: readonly string[]; random: Random },
): Promise<Uint8Array> {
  const head = JSON.stringify({ version: FORMAT_VERSION, repository: context.repository });
  const body = Buffer.from([head, ...packs.map(indexLine), ''].join('\n'));
  const plain = Buffer.concat([body, macLine(body, context.chunkIdKey)]);
  return (await sealAge(await compress(plain), context.recipients, context.random)).bytes;
}

/** HMAC-SHA-256 under its own key, derived from the chunk-id key. */
function macLine(body: Uint8Array, chunkIdKey: Uint8Array): Buffer {
  const mac = chunkIdFunction(hkdf(chunkIdKey, 'index'));
  return Buffer.from(`${JSON.stringify({ mac: mac(body) })}\n`);
}

/**
 * Opens an index object and checks it before anything in it is believed.
 * @throws `damaged`, `forged`, `wrong_key`, `unsupported_format`
 */
export async function openIndex(
  bytes: Uint8Array,
  id: string,
  context: IndexContext & { identities: readonly string[] },
): Promise<IndexedPack[]> {
  const what = `index ${id.slice(0, 8)}`;
  checkContentName(bytes, id, what);
  const packed = await openAge(bytes, context.identities);
  const plain = await decompress(packed, {
    maxOutputLength: INDEX_PLAIN_MAX_BYTES,
    params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
  }).catch((cause: unknown) => {
    throw new HoldfastError('damaged', `${what} does not decompress`, { cause });
  });
  const bodyBytes = plain.lastIndexOf(LINE_FEED, plain.length - 2) + 1;
  const body = plain.subarray(0, bodyBytes);
  const headBytes = body.subarray(0, HEAD_MAX_BYTES).indexOf(LINE_FEED);
  const head = parseHead(body.toString('utf8', 0, Math.max(0, headBytes)), what);
  if (head.version !== FORMAT_VERSION) {
    throw new HoldfastError(
      'unsupported_format',
      `${what} has format version ${head.version}; this holdfast knows version ${FORMAT_VERSION}`,
      {
        hint: 'Use the holdfast version that wrote this repository, or a newer one.',
      },
    );
  }
  // Before it is taken apart: a quarter of a gigabyte of line feeds would be more strings than fit into an array.
  if (
    head.repository !== context.repository ||
    !equalBytes(plain.subarray(bodyBytes), macLine(body, context.chunkIdKey))
  ) {
    throw new HoldfastError('forged', `${what} was not written by this repository's agent`, {
      hint: 'Find out who can write to the backend.',
    });
  }
  return parseLines(body, headBytes + 1);
}

/** One line after the other, so that the first that is malformed ends it. */
function parseLines(body: Buffer, from: number): IndexedPack[] {
  const packs: IndexedPack[] = [];
  for (let start = from; start < body.length;) {
    const end = body.indexOf(LINE_FEED, start);
    packs.push(parseIndexLine(body.toString('utf8', start, end)));
    start = end + 1;
  }
  return packs;
}

function parseHead(line: string, what: string): { version: number; repository: string } {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null && 'version' in value && 'repository' in value) {
      if (typeof value.version === 'number' && typeof value.repository === 'string')
        return { version: value.version, repository: value.repository };
    }
  } catch {
    // told below
  }
  throw new HoldfastError('damaged', `${what} has no head`);
}
