/**
 * What this host knows of earlier verifications: which copy of which pack was found whole, when and how deep. From its own runs, and from the signed
 * records on the backends. Losing it costs time only.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sha256Hex } from '../crypto/hash.ts';
import { prefixOf, unpackPrefixes, type Verified } from '../repository/repository.ts';
import type { BackendAddress } from './backends.ts';
import { replaceFile } from './local-state.ts';
import type { LocalFolders } from './local-state.ts';

/** Levels at which packs are read. */
export type ReadLevel = 'objects' | 'chunks';

/** Bytes of a row: the first 8 of the pack's id, then seconds since the Unix epoch for each of the two levels, 0 for never. */
const ROW = 16;
const FORMAT = 1;

/** Two addresses that differ are two places: then nothing is believed of one for the other. 16 hex digits. */
export const placeOf = ({ url }: Pick<BackendAddress, 'url'>): string => sha256Hex(Buffer.from(url)).slice(0, 16);

interface Place {
  packs: Map<string, { objects: number; chunks: number }>;
  /** Seconds: what was found whole there before is not believed, for it was filled anew then. */
  sinceS: number;
}

export class VerifiedMemory {
  readonly #path: string;
  readonly #places = new Map<string, Place>();
  /** Keys of the records on backends that are part of this already. */
  #learnt = new Set<string>();

  /** What cannot be read is nothing. */
  constructor(folders: LocalFolders) {
    this.#path = join(folders.state, 'verified.json');
    try {
      this.#parse(JSON.parse(readFileSync(this.#path, 'utf8')));
    } catch {
      this.#places.clear();
      this.#learnt = new Set();
    }
  }

  knows(key: string): boolean {
    return this.#learnt.has(key);
  }

  /** Takes in a record; what is dated later than now is not believed. */
  learn({ key, record }: Verified, nowMs: number): void {
    this.#learnt.add(key);
    const timeMs = Date.parse(record.time);
    if ((record.level !== 'objects' && record.level !== 'chunks') || timeMs > nowMs) return;
    for (const { backends, packs } of record.covered)
      for (const number of backends) {
        const place = record.backends[number]?.place;
        if (place !== undefined)
          for (const prefix of unpackPrefixes(packs)) this.#note(place, prefix, record.level, timeMs);
      }
  }

  /** Milliseconds since the Unix epoch, at this level or a deeper one. */
  lastWhole(place: string, pack: string, level: ReadLevel): number | undefined {
    const known = this.#places.get(place)?.packs.get(prefixOf(pack));
    const seconds = known && (level === 'chunks' ? known.chunks : Math.max(known.objects, known.chunks));
    return seconds ? seconds * 1000 : undefined;
  }

  noteWhole(place: string, packs: Iterable<string>, level: ReadLevel, timeMs: number): void {
    for (const pack of packs) this.#note(place, prefixOf(pack), level, timeMs);
  }

  /** What was found damaged was not whole, whatever was found before. */
  noteDamaged(place: string, pack: string): void {
    this.#places.get(place)?.packs.delete(prefixOf(pack));
  }

  /** The place was filled anew: nothing of it has been looked at. */
  forgetPlace(place: string, nowMs: number): void {
    this.#places.set(place, { packs: new Map(), sinceS: Math.floor(nowMs / 1000) + 1 });
  }

  /** @param keys of the records there are; others need not be remembered as learnt. @returns false when it cannot be written */
  save(keys?: readonly string[]): boolean {
    if (keys) this.#learnt = new Set(keys.filter((key) => this.#learnt.has(key)));
    const places = Object.fromEntries(
      [...this.#places].map(([place, { packs, sinceS }]) => [place, { since: sinceS, packs: rowsOf(packs) }]),
    );
    try {
      mkdirSync(join(this.#path, '..'), { recursive: true, mode: 0o700 });
      const text = `${JSON.stringify({ format: FORMAT, learnt: [...this.#learnt], places })}\n`;
      replaceFile(this.#path, text, { durable: true });
      return true;
    } catch {
      return false;
    }
  }

  #note(place: string, prefix: string, level: ReadLevel, timeMs: number): void {
    const there = this.#places.get(place) ?? { packs: new Map(), sinceS: 0 };
    this.#places.set(place, there);
    const seconds = Math.floor(timeMs / 1000);
    if (seconds < there.sinceS) return;
    const known = there.packs.get(prefix) ?? { objects: 0, chunks: 0 };
    known[level] = Math.max(known[level], seconds);
    there.packs.set(prefix, known);
  }

  #parse(value: unknown): void {
    const { format, learnt, places } = value as { format: number; learnt: string[]; places: Record<string, unknown> };
    if (format !== FORMAT) return;
    this.#learnt = new Set(learnt.filter((key) => typeof key === 'string'));
    for (const [name, place] of Object.entries(places)) {
      const { since, packs } = place as { since: number; packs: string };
      this.#places.set(name, { packs: packsIn(packs), sinceS: Number(since) || 0 });
    }
  }
}

function rowsOf(packs: Place['packs']): string {
  const rows = Buffer.alloc(packs.size * ROW);
  let at = 0;
  for (const [prefix, { objects, chunks }] of packs) {
    rows.write(prefix, at, 'hex');
    rows.writeUInt32LE(objects, at + 8);
    rows.writeUInt32LE(chunks, at + 12);
    at += ROW;
  }
  return rows.toString('base64');
}

function packsIn(text: string): Place['packs'] {
  const rows = Buffer.from(text, 'base64');
  const packs: Place['packs'] = new Map();
  for (let at = 0; at + ROW <= rows.length; at += ROW)
    packs.set(rows.toString('hex', at, at + 8), {
      objects: rows.readUInt32LE(at + 8),
      chunks: rows.readUInt32LE(at + 12),
    });
  return packs;
}
