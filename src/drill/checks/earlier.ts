/** How the files that matter were in the snapshots before: the measure for what is missing, cut short or blank now. */
import type { Entry, FileEntry } from '../../entry.ts';
import type { RawPath } from '../../raw-path.ts';
import { matcher } from '../../state/patterns.ts';
import { classifier, type Profile } from '../../state/profile.ts';
import type { SeenSnapshot } from '../../operations/looking/open-look.ts';
import type { Past } from '../past.ts';
import type { Matches } from '../scene.ts';

/** Of any agent, whatever its profile knows. */
const USUAL_MEMORY = ['/MEMORY.md', '/memory/'];
const USUAL_DATABASES = ['*.sqlite', '*.sqlite3', '*.db'];
const USUAL_KEYS = ['/identity/device.json', '*.key', '*.pem'];

/** Which files are what, by the profile. A file may be several things. */
export interface Kinds {
  /** Written by the agent for itself: it changes, and does not lose most of itself. */
  isMemory: Matches;
  /** Only grows. */
  isLog: Matches;
  /** Rows are not lost; of these tables, or of all. */
  tablesOf: (path: RawPath) => readonly string[] | 'all' | undefined;
  hasTemplate: Matches;
  /** May hold a key of the agent's. */
  isKeyFile: Matches;
  /** Groups of which the newest file must still be there. */
  newest: readonly { files: string; isIn: Matches }[];
  /** Must be there as long as it was. */
  isLasting: Matches;
  /** Is not there in an agent that has lived. */
  isAbsent: Matches;
}

export function kindsOf(profile: Profile): Kinds {
  const of = (check: Profile['continuity'][number]['check']) =>
    profile.continuity.filter((one) => one.check === check).map(({ files }) => files);
  const matches = (patterns: readonly string[]): Matches => {
    const isMatch = matcher(patterns);
    return (path) => isMatch(path, false);
  };
  const isClass = classifier(profile);
  const isSecret: Matches = (path) => isClass(path, false) === 'secret';
  const but =
    (isIt: Matches, isNot: Matches): Matches =>
    (path) =>
      isIt(path) && !isNot(path);
  const isLog = matches(of('lines'));
  const rows = profile.continuity.flatMap((one) =>
    one.check === 'rows' ? [{ isIt: matches([one.files]), table: one.table }] : [],
  );
  const isDatabase = matches([...profile.databases, ...USUAL_DATABASES]);
  const usualKeys = matches(USUAL_KEYS);
  return {
    isMemory: but(matches([...of('same'), ...of('newest'), ...USUAL_MEMORY]), (path) => isSecret(path) || isLog(path)),
    isLog,
    tablesOf: (path) => {
      if (rows.length === 0) return isDatabase(path) ? 'all' : undefined;
      const found = rows.filter(({ isIt }) => isIt(path));
      if (found.length === 0) return undefined;
      const tables = found.flatMap(({ table }) => (table === undefined ? [] : [table]));
      return tables.length < found.length ? 'all' : tables;
    },
    hasTemplate: matches(profile.templates.map(({ files }) => files)),
    isKeyFile: profile.secret.length > 0 ? isSecret : usualKeys,
    newest: of('newest').map((files) => ({ files, isIn: but(matches([files]), isSecret) })),
    isLasting: but(matches(of('same')), isSecret),
    isAbsent: matches(of('absent')),
  };
}

export const isOfInterest = (kinds: Kinds): Matches => {
  const { isMemory, isLog, tablesOf, hasTemplate, isKeyFile, isAbsent } = kinds;
  return (path) =>
    isMemory(path) ||
    isLog(path) ||
    tablesOf(path) !== undefined ||
    hasTemplate(path) ||
    isKeyFile(path) ||
    isAbsent(path);
};

export interface Version {
  snapshot: SeenSnapshot;
  entry: FileEntry;
}

/** The versions of each file of interest, newest first, one of each content. */
export class Earlier {
  readonly snapshots: readonly SeenSnapshot[];
  readonly #versions = new Map<RawPath, Version[]>();
  /** Of each group of `Kinds.newest`, in each snapshot. */
  readonly newest: { group: string; snapshot: SeenSnapshot; path: RawPath }[] = [];

  private constructor(snapshots: readonly SeenSnapshot[]) {
    this.snapshots = snapshots;
  }

  /** Those whose lists cannot be read are left out, and no measure: that they are damaged is told elsewhere. */
  static async read(past: Past, snapshot: SeenSnapshot, kinds: Kinds): Promise<Earlier> {
    const readable: SeenSnapshot[] = [];
    const earlier = new Earlier(readable);
    for (const one of past.before(snapshot)) {
      const files: FileEntry[] = [];
      try {
        for await (const entry of past.entries(one, isOfInterest(kinds))) if (entry.type === 'file') files.push(entry);
      } catch (error) {
        if (!past.isUnreadable(error)) throw error;
        continue;
      }
      readable.push(one);
      earlier.#add(one, files, kinds);
    }
    return earlier;
  }

  of(path: RawPath): readonly Version[] {
    return this.#versions.get(path) ?? [];
  }

  /** The largest of them. */
  largest(path: RawPath): Version | undefined {
    return this.of(path).reduce<Version | undefined>((a, b) => (a && a.entry.size >= b.entry.size ? a : b), undefined);
  }

  get paths(): Iterable<RawPath> {
    return this.#versions.keys();
  }

  #add(snapshot: SeenSnapshot, files: readonly FileEntry[], { newest }: Kinds): void {
    for (const entry of files) {
      const versions = this.#versions.get(entry.path) ?? [];
      if (!versions.some((one) => one.entry.chunks.join() === entry.chunks.join())) versions.push({ snapshot, entry });
      this.#versions.set(entry.path, versions);
    }
    for (const { files: group, isIn } of newest) {
      const path = newestOf(files.filter(({ path }) => isIn(path)));
      if (path !== undefined) this.newest.push({ group, snapshot, path });
    }
  }
}

/** By the time, and by the name among those of one time. */
export function newestOf(files: readonly Pick<Entry, 'path' | 'mtimeNs'>[]): RawPath | undefined {
  const [first] = files.toSorted((a, b) =>
    a.mtimeNs === b.mtimeNs ? (a.path < b.path ? 1 : -1) : a.mtimeNs < b.mtimeNs ? 1 : -1,
  );
  return first?.path;
}
