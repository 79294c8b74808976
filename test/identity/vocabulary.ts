/** Whether sentences are holdfast's own: a test that they repeat nothing that was given. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Every word that the sources have, but for the word list in them. Of the words of phrases and shares, most are not among them. */
const known = new Set(
  ['identity', 'crypto', 'cli']
    .map((name) => fileURLToPath(new URL(`../../src/${name}`, import.meta.url)))
    .flatMap((folder) =>
      readdirSync(folder, { withFileTypes: true }).map((entry) => ({ entry, path: join(folder, entry.name) })),
    )
    .filter(({ entry, path }) => entry.isFile() && !path.includes('slip39-words'))
    .flatMap(({ path }) => wordsIn(readFileSync(path, 'utf8'))),
);

/** The words of three letters or more in these sentences that do not come from the sources. */
export function wordsFromElsewhere(sentences: Iterable<string>): string[] {
  return [...new Set(wordsIn([...sentences].join(' ')))].filter((word) => !known.has(word));
}

function wordsIn(text: string): string[] {
  return text.match(/\p{L}{3,}/gu) ?? [];
}
