/** What a profile makes of the files that are there, counted: for people to see before the first backup. */
import { rawForDisplay, type RawPath } from '../raw-path.ts';
import { matcher } from './patterns.ts';
import { classifier, type FileClass, type Profile } from './profile.ts';
import { scan } from './scan.ts';

export interface Counted {
  files: number;
  bytes: number;
  /** A few paths, for display; a folder that is meant as a whole ends in `/`. */
  examples: string[];
}

/** `databases` and `logs` are part of `state`. */
export type Survey = Record<FileClass | 'databases' | 'logs', Counted>;

const EXAMPLES = 3;

/** Goes through the folder `root` and reads no contents. @throws what `scan` throws */
export function survey(
  root: string,
  profile: Profile,
  options: { keepOut?: readonly string[]; signal?: AbortSignal | undefined } = {},
): Survey {
  const classOf = classifier(profile);
  const isDatabase = matcher(profile.databases);
  const isLog = matcher(profile.logs);
  const empty = (): Counted => ({ files: 0, bytes: 0, examples: [] });
  const result = { state: empty(), secret: empty(), cache: empty(), databases: empty(), logs: empty() };
  /** The last folder that is meant as a whole: it stands for all it holds. */
  let whole: RawPath | undefined;
  for (const item of scan(root, options)) {
    if (item.kind === 'problem') continue;
    const kind = classOf(item.path, item.kind === 'folder');
    const isBelow = whole !== undefined && item.path.startsWith(`${whole}/`);
    if (item.kind === 'folder') {
      if (kind === 'state' || isBelow) continue;
      whole = item.path;
      example(result[kind], `${rawForDisplay(item.path)}/`);
      continue;
    }
    const size = item.kind === 'file' ? item.size : 0;
    const shown = rawForDisplay(item.path);
    const add = (to: Counted) => {
      to.files++;
      to.bytes += size;
      if (!isBelow || kind === 'state') example(to, shown);
    };
    add(result[kind]);
    if (kind !== 'state' || item.kind !== 'file') continue;
    if (isDatabase(item.path, false)) add(result.databases);
    if (isLog(item.path, false)) add(result.logs);
  }
  return result;
}

function example(of: Counted, path: string): void {
  if (of.examples.length < EXAMPLES) of.examples.push(path);
}
