/** One path, or a part of a name, through the snapshots. */
import type { Entry } from '../entry.ts';
import { isHoldfastError, throwIfAborted } from '../errors.ts';
import { rawForDisplay, ROOT, type RawPath } from '../raw-path.ts';
import { manifestName, type Look, type SeenSnapshot } from './looking/open-look.ts';

export interface Version {
  /** The newest and the oldest of the snapshots, one after the other, that have the entry so; the same where it is one. */
  newest: SeenSnapshot;
  oldest: SeenSnapshot;
  /** Undefined where they have nothing at the path. */
  entry: Entry | undefined;
}

export interface Versions {
  /** Newest first. */
  versions: Version[];
  /** The snapshot to go on from, where not all were looked at. */
  next: SeenSnapshot | undefined;
  /** Those of which the list of files cannot be read. */
  unreadable: SeenSnapshot[];
}

/** Snapshots looked at for one answer. */
const SNAPSHOTS_AT_ONCE = 50;

/** The states of the entry at `path`, from the snapshot `from` (default the newest) back. */
export async function versionsOf(look: Look, path: RawPath, from?: SeenSnapshot): Promise<Versions> {
  const { some, next } = stretch(look, from);
  const result: Versions = { versions: [], next, unreadable: [] };
  for (const snapshot of some) {
    const last = result.versions.at(-1);
    if (last && manifestName(last.oldest) === manifestName(snapshot)) {
      last.oldest = snapshot;
      continue;
    }
    const entries = await readable(look, snapshot, (one) => one === path, result.unreadable);
    if (!entries) continue;
    const [entry] = entries;
    if (last && stateOf(last.entry) === stateOf(entry)) last.oldest = snapshot;
    else result.versions.push({ newest: snapshot, oldest: snapshot, entry });
  }
  return result;
}

/** What makes a version: content or target, and the time. */
function stateOf(entry: Entry | undefined): string {
  if (!entry) return '';
  const content = entry.type === 'file' ? entry.chunks.join() : entry.type === 'symlink' ? entry.target : '';
  return `${entry.type} ${entry.type === 'folder' ? '' : entry.mtimeNs} ${content}`;
}

export interface Found {
  entry: Entry;
  /** The newest of the snapshots looked at that has it. */
  newest: SeenSnapshot;
}

export interface FoundAll {
  found: Found[];
  /** There are more than are told. */
  isCut: boolean;
  next: SeenSnapshot | undefined;
  unreadable: SeenSnapshot[];
}

const FOUND_MAX = 200;

/**
 * Entries of which the path has each of the words in it, whatever the case of the letters. Of each path the newest.
 * @param among one snapshot, or all, of which the newest are looked at.
 */
export async function searchNames(look: Look, text: string, among: SeenSnapshot | 'all'): Promise<FoundAll> {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const { some, next } = among === 'all' ? stretch(look) : { some: [among], next: undefined };
  const result: FoundAll = { found: [], isCut: false, next, unreadable: [] };
  if (words.length === 0) return result;
  const seen = new Set<RawPath>();
  const isWanted = (path: RawPath): boolean => {
    if (path === ROOT || seen.has(path)) return false;
    const shown = rawForDisplay(path).toLowerCase();
    return words.every((word) => shown.includes(word));
  };
  let before: SeenSnapshot | undefined;
  for (const snapshot of some) {
    throwIfAborted(look.signal);
    if (before && manifestName(before) === manifestName(snapshot)) continue;
    before = snapshot;
    for (const entry of (await readable(look, snapshot, isWanted, result.unreadable)) ?? []) {
      if (result.found.length >= FOUND_MAX) {
        result.isCut = true;
        return result;
      }
      seen.add(entry.path);
      result.found.push({ entry, newest: snapshot });
    }
  }
  return result;
}

/** Some snapshots, newest first, and the one after them. */
function stretch(look: Look, from?: SeenSnapshot): { some: SeenSnapshot[]; next: SeenSnapshot | undefined } {
  const newestFirst = look.snapshots.toReversed();
  const start = from ? newestFirst.indexOf(from) : 0;
  return {
    some: newestFirst.slice(start, start + SNAPSHOTS_AT_ONCE),
    next: newestFirst[start + SNAPSHOTS_AT_ONCE],
  };
}

/** The entries of the wanted paths; undefined where the list of files cannot be read to its end. */
async function readable(
  look: Look,
  snapshot: SeenSnapshot,
  isWanted: (path: RawPath) => boolean,
  unreadable: SeenSnapshot[],
): Promise<Entry[] | undefined> {
  const entries: Entry[] = [];
  try {
    for await (const entry of look.some(snapshot, isWanted)) if (isWanted(entry.path)) entries.push(entry);
    return entries;
  } catch (error) {
    if (!isHoldfastError(error, 'damaged', 'not_found')) throw error;
    unreadable.push(snapshot);
    return undefined;
  }
}
