/** Mode, time, owner and attributes of what was restored, as far as the recovery could give them here: what it could not, it has said. */
import { lstatSync } from 'node:fs';
import type { Entry, Warning } from '../../entry.ts';
import { rawFromText } from '../../raw-path.ts';
import { metadataDifferences } from '../../state/metadata.ts';
import { absoluteIn, inTree } from '../../state/tree-path.ts';

/** What is compared, by the warning of a recovery that could not restore it. */
const ASPECTS = {
  mode_not_restored: { name: 'modes', also: [] },
  times_rounded: { name: 'times', also: [] },
  owner_not_restored: { name: 'owners', also: [] },
  xattrs_not_restored: { name: 'attributes', also: ['labels_not_restored', 'flags_not_restored'] },
} as const;
type Aspect = keyof typeof ASPECTS;

export class MetadataCheck {
  readonly #root: string;
  readonly #told: ReadonlySet<Aspect>;

  /** @param warnings of the recovery */
  constructor(root: string, warnings: readonly Warning[]) {
    this.#root = root;
    const codes = new Set(warnings.map(({ code }) => code));
    const aspects = Object.keys(ASPECTS) as Aspect[];
    this.#told = new Set(aspects.filter((one) => [one, ...ASPECTS[one].also].some((code) => codes.has(code))));
  }

  /** Names of what is compared. */
  get compared(): string[] {
    return this.#names((one) => !this.#told.has(one));
  }

  /** Names of what is not, because the recovery has said that it is not all there. */
  get notCompared(): string[] {
    return this.#names((one) => this.#told.has(one));
  }

  /** What is another than in the snapshot; undefined when nothing is. The entry is there, and of that type. */
  difference(entry: Entry): string | undefined {
    const base = rawFromText(this.#root);
    const now = lstatSync(inTree(base, entry.path), { bigint: true });
    for (const aspect of metadataDifferences(entry, absoluteIn(base, entry.path), now)) {
      if (this.#told.has(aspect)) continue;
      switch (aspect) {
        case 'times_rounded':
          // Of a folder it says that something in it is another, which is told by what is another.
          if (entry.type === 'folder') continue;
          return `is of ${timeOf(now.mtimeNs)} instead of ${timeOf(entry.mtimeNs)}`;
        case 'mode_not_restored':
          return `has the mode ${octal(Number(now.mode) & 0o7777)} instead of ${octal(entry.mode)}`;
        case 'owner_not_restored':
          return `belongs to ${now.uid}:${now.gid} instead of ${entry.uid}:${entry.gid}`;
        case 'xattrs_not_restored':
          return 'has other attributes, ACLs or flags than the snapshot';
      }
    }
    return undefined;
  }

  #names(isOne: (aspect: Aspect) => boolean): string[] {
    return (Object.keys(ASPECTS) as Aspect[]).filter(isOne).map((one) => ASPECTS[one].name);
  }
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');
const timeOf = (ns: bigint): string => new Date(Number(ns / 1_000_000n)).toISOString();
