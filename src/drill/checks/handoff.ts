/** Could somebody take over: does the restored state answer where we are, what is pending, what was decided and what changed? */
import type { FileEntry } from '../../entry.ts';
import { rawForDisplay, type RawPath } from '../../raw-path.ts';
import { matcher } from '../../state/patterns.ts';
import { ownLines, scaffoldJudge } from '../../state/profile.ts';
import { formatNs } from '../../operations/look.ts';
import { readSmall } from '../past.ts';
import { checkOf, QUESTIONS, skip, type Outcome, type Scene } from '../scene.ts';
import { newestOf } from './earlier.ts';
import type { Findings } from './findings.ts';

const TEXT = {
  where: 'where are we',
  pending: 'what is pending',
  decided: 'what was decided',
  changed: 'what changed',
} as const;
const TEXT_MAX_BYTES = 1024 * 1024;

export async function checkHandoff(scene: Scene, findings: Findings): Promise<Outcome> {
  const { options, profile, past, snapshot, host } = scene;
  const asked = options.handoff ?? profile.handoff;
  if (!asked)
    return skip(
      'handoff',
      `the profile ${profile.name} does not say which files answer; see \`drill.handoff\` in the config`,
    );
  const groups = QUESTIONS.map((question) => ({
    question,
    patterns: (asked[question] ?? []).map((pattern) => {
      const isMatch = matcher([pattern]);
      return { isIn: (path: RawPath) => isMatch(path, false), files: [] as FileEntry[] };
    }),
  }));
  const all = groups.flatMap(({ patterns }) => patterns);
  for await (const entry of past.entries(snapshot, (path) => all.some(({ isIn }) => isIn(path)))) {
    if (entry.type !== 'file' || entry.isApart) continue;
    for (const { isIn, files } of all) if (isIn(entry.path)) files.push(entry);
  }
  const isBlank = scaffoldJudge(profile);
  const saysSomething = ({ path, size }: FileEntry): boolean => {
    if (size === 0 || findings.hasFault(path)) return false;
    const bytes = readSmall(host.state, path, TEXT_MAX_BYTES);
    if (!bytes) return size > TEXT_MAX_BYTES; // long, or gone
    return !isBlank(path, bytes) && ownLines(bytes)?.length !== 0;
  };
  const problems: string[] = [];
  const evidence: Record<string, string> = {};
  for (const { question, patterns } of groups) {
    const answer = patterns.map(({ files }) => newestThat(files, saysSomething)).find((file) => file !== undefined);
    if (answer) {
      evidence[question] = `${rawForDisplay(answer.path)} (${answer.size} bytes, of ${formatNs(answer.mtimeNs)})`;
      continue;
    }
    const isToldOf = ({ path }: FileEntry) => findings.hasFault(path) || findings.lost.has(rawForDisplay(path));
    const isTold = patterns.some(({ files }) => files.some(isToldOf));
    evidence[question] = isTold ? 'its file is told by another check' : 'no file';
    if (!isTold) problems.push(`no file of the restored state answers "${TEXT[question]}"`);
  }
  return checkOf('handoff', problems, 'all four questions are answered by files of the restored state', evidence);
}

function newestThat(files: readonly FileEntry[], isGood: (file: FileEntry) => boolean): FileEntry | undefined {
  let left = [...files];
  for (;;) {
    const path = newestOf(left);
    const file = left.find((one) => one.path === path);
    if (!file || isGood(file)) return file;
    left = left.filter((one) => one !== file);
  }
}
