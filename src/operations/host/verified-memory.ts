/**
 * What this host knows of earlier verifications: which copy of which pack was found whole, when and how deep. From its own runs, and from the signed
 * records on the backends. Losing it costs time only.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sha256Hex } from '../../crypto/hash.ts';
import {
  parseKey,
  prefixOf,
  unpackPrefixes,
  type RememberedDamage,
  type Verified,
} from '../../repository/repository.ts';
import type { BackendAddress } from '../backends.ts';
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
  /** By the first 8 bytes of the pack's id: what was found damaged, and not whole since. */
  damaged: Map<string, RememberedDamage>;
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
    for (const { backend, key, problem, repaired } of record.damaged) {
      const place = record.backends.find(({ name }) => name === backend)?.place;
      const name = parseKey(key);
      if (place === undefined || name?.kind !== 'pack' || repaired) continue;
      const prefix = prefixOf(name.id);
      const there = this.#placeAt(place);
      const whole = there.packs.get(prefix);
      const isSince = Math.max(whole?.objects ?? 0, whole?.chunks ?? 0) >= Math.floor(timeMs / 1000);
      if (isSince || timeMs < there.sinceS * 1000 || (there.damaged.get(prefix)?.timeMs ?? 0) > timeMs) continue;
      there.packs.delete(prefix);
      there.damaged.set(prefix, { problem, timeMs, isInside: false });
    }
  }

  /** Milliseconds since the Unix epoch, at this level or a deeper one. */
  lastWhole(place: string, pack: string, level: ReadLevel): number | undefined {
    const known = this.#places.get(place)?.packs.get(prefixOf(pack));
    const seconds = known && (level === 'chunks' ? known.chunks : Math.max(known.objects, known.chunks));
    return seconds ? seconds * 1000 : undefined;
  }

  noteWhole(place: string, packs: Iterable<string>, level: ReadLevel, timeMs: number): void {
    for (const pack of packs) {
      const prefix = prefixOf(pack);
      const { damaged } = this.#placeAt(place);
      if (level === 'chunks' || !damaged.get(prefix)?.isInside) damaged.delete(prefix);
      this.#note(place, prefix, level, timeMs);
    }
  }

  /** What was found damaged was not whole, whatever was found before. */
  noteDamaged(place: string, pack: string, damage: RememberedDamage): void {
    const there = this.#placeAt(place);
    there.packs.delete(prefixOf(pack));
    there.damaged.set(prefixOf(pack), damage);
  }

  /** What was found damaged, and has not been found whole since. */
  lastDamaged(place: string, pack: string): RememberedDamage | undefined {
    return this.#places.get(place)?.damaged.get(prefixOf(pack));
  }

  /** The place was filled anew: nothing of it has been looked at. */
  forgetPlace(place: string, nowMs: number): void {
    this.#places.set(place, { packs: new Map(), damaged: new Map(), sinceS: Math.floor(nowMs / 1000) + 1 });
  }

  /** @param keys of the records there are; others need not be remembered as learnt. @returns false when it cannot be written */
  save(keys?: readonly string[]): boolean {
    if (keys) this.#learnt = new Set(keys.filter((key) => this.#learnt.has(key)));
    const places = Object.fromEntries(
      [...this.#places].map(([place, { packs, damaged, sinceS }]) => [
        place,
        { since: sinceS, packs: rowsOf(packs), damaged: Object.fromEntries(damaged) },
      ]),
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
    const there = this.#placeAt(place);
    const seconds = Math.floor(timeMs / 1000);
    const damage = there.damaged.get(prefix);
    if (seconds < there.sinceS || (damage && Math.floor(damage.timeMs / 1000) > seconds)) return;
    if (damage && (level === 'chunks' || !damage.isInside)) there.damaged.delete(prefix);
    const known = there.packs.get(prefix) ?? { objects: 0, chunks: 0 };
    known[level] = Math.max(known[level], seconds);
    there.packs.set(prefix, known);
  }

  #placeAt(place: string): Place {
    const there = this.#places.get(place) ?? { packs: new Map(), damaged: new Map(), sinceS: 0 };
    this.#places.set(place, there);
    return there;
  }

  #parse(value: unknown): void {
    const { format, learnt, places } = value as { format: number; learnt: string[]; places: Record<string, unknown> };
    if (format !== FORMAT) return;
    this.#learnt = new Set(learnt.filter((key) => typeof key === 'string'));
    for (const [name, place] of Object.entries(places)) {
      const { since, packs, damaged = {} } = place as { since: number; packs: string; damaged?: object };
      const known = Object.entries(damaged as Record<string, RememberedDamage>).map(
        ([prefix, { problem, timeMs, isInside }]) =>
          [prefix, { problem: String(problem), timeMs: Number(timeMs) || 0, isInside: isInside === true }] as const,
      );
      this.#places.set(name, { packs: packsIn(packs), damaged: new Map(known), sinceS: Number(since) || 0 });
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
