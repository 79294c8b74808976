/**
 * Profiles: what of an agent's files is state, secret or cache, as data (profiles/*.yaml, or a file of the user's). docs/profiles.md explains the format.
 */
import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { sha256Hex } from '../crypto/hash.ts';
import { HoldfastError, messageOf } from '../errors.ts';
import type { RawPath } from '../raw-path.ts';
import { parseYamlFile } from '../yaml-file.ts';
import { matcher } from './patterns.ts';
import { BUILT_IN_PROFILES, DEFAULT_PROFILE, isProfileName } from './profile-names.ts';
import type { ProfileData } from './profile-schema.ts';

/**
 * A profile. Patterns are in gitignore syntax, relative to the root of the state. `cache` is not backed up; of the rest, `secret` is kept apart;
 * `databases` (SQLite) and `logs` (append-only) say what to expect of the state. `templates` and `continuity` are for drills.
 */
export type Profile = Readonly<ProfileData>;

/** How it is judged whether an agent goes on where it was; `files` is a pattern. */
export type ContinuityCheck = Profile['continuity'][number];

/** What a file is to an agent. */
export type FileClass = 'state' | 'secret' | 'cache';

/** @param nameOrPath one that comes with holdfast, or the path of a file. @throws `config_invalid` naming file and line */
export async function loadProfile(nameOrPath: string): Promise<Profile> {
  const isBuiltIn = isProfileName(nameOrPath);
  if (isBuiltIn && !BUILT_IN_PROFILES.some((name) => name === nameOrPath))
    throw new HoldfastError('config_invalid', `there is no profile ${nameOrPath}`, {
      hint: `Those that come with holdfast are ${BUILT_IN_PROFILES.join(', ')}; one of your own is given as a path, ./${nameOrPath}.yaml.`,
    });
  const file = isBuiltIn ? fileURLToPath(new URL(`./profiles/${nameOrPath}.yaml`, import.meta.url)) : nameOrPath;
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    throw new HoldfastError('config_invalid', `the profile ${file} cannot be read: ${messageOf(cause)}`, {
      hint: 'Put the file there, or correct `state.profile` in the config.',
      cause,
    });
  }
  return parseProfile(bytes, file);
}

/** @param file for messages. @throws `config_invalid` naming file and line */
export function parseProfile(bytes: Uint8Array, file: string): Promise<Profile> {
  const rules = async () => {
    const { knownProfileKeys: knownKeys, profileSchema: schema } = await import('./profile-schema.ts');
    return { schema, knownKeys };
  };
  const hint = 'docs/profiles.md has the format of a profile.';
  return parseYamlFile(bytes, { file, whole: 'the profile', hint, rules });
}

/**
 * The profile that comes with holdfast whose files lie in the folder `root`: of those that have all they require there, the one that has the
 * most of what is usual; `files` when there is none.
 */
export async function detectProfile(root: string): Promise<Profile> {
  let best = { profile: await loadProfile(DEFAULT_PROFILE), markers: 0 };
  for (const name of BUILT_IN_PROFILES) {
    const profile = await loadProfile(name);
    if (!profile.detect) continue;
    const isThere = (place: string) => globSync(place, { cwd: root }).length > 0;
    const { required, typical } = profile.detect;
    if (!required.every(isThere)) continue;
    const markers = required.length + typical.filter(isThere).length;
    if (markers > best.markers) best = { profile, markers };
  }
  return best.profile;
}

/** Tells what a path is to the agent. A backup goes by the same patterns. */
export function classifier(profile: Profile): (path: RawPath, isFolder: boolean) => FileClass {
  const isCache = matcher(profile.cache);
  const isSecret = matcher(profile.secret);
  return (path, isFolder) => {
    if (path === '') return 'state';
    if (isCache(path, isFolder)) return 'cache';
    return isSecret(path, isFolder) ? 'secret' : 'state';
  };
}

/**
 * True when a file holds no more than the blank template that a new installation writes in its place: then an agent that had something there has
 * lost it, whatever the upgrade said. False for files that the profile has no template of.
 */
export function isScaffold(profile: Profile, path: RawPath, bytes: Uint8Array): boolean {
  return scaffoldJudge(profile)(path, bytes);
}

/** `isScaffold` for many files. */
export function scaffoldJudge(profile: Profile): (path: RawPath, bytes: Uint8Array) => boolean {
  const all = profile.templates.map(({ files, lines, sha256 }) => ({
    isOne: matcher([files]),
    known: new Set(lines.map(oneSpaced)),
    sha256,
  }));
  return (path, bytes) => {
    const templates = bytes.length > SCAFFOLD_MAX_BYTES ? [] : all.filter(({ isOne }) => isOne(path, false));
    if (templates.length === 0) return false;
    const own = ownLines(bytes);
    if (own === undefined) return false;
    if (own.length === 0) return true;
    const hash = sha256Hex(Buffer.from(own.join('\n')));
    return templates.some(({ known, sha256 }) => sha256.includes(hash) || own.every((line) => known.has(line)));
  };
}

/** No blank template is longer. */
const SCAFFOLD_MAX_BYTES = 64 * 1024;

/**
 * The lines of a text that say something: without front matter, comments, headings, rules, hints in brackets (`_(optional)_`) and fields without a
 * value (`- **Name:**`); white space is one blank. Undefined for what is no text.
 */
export function ownLines(bytes: Uint8Array): string[] | undefined {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
  return text
    .replaceAll('\r\n', '\n')
    .replace(/^---\n[\s\S]*?\n---(\n|$)/, '')
    .replace(/<!--[\s\S]*?-->/g, '')
    .split('\n')
    .map((line) => oneSpaced(line.replace(/([_*])\([^)]*\)\1/g, '')))
    .filter(
      (line) =>
        line !== '' &&
        !/^(#{1,6}( .*)?|-{3,}|\*{3,}|_{3,}|[-*+]|[-*+] (\[ \]|(\*\*)?[^:*]+:(\*\*)?)|```\w*)$/.test(line),
    );
}

function oneSpaced(line: string): string {
  return line.trim().replace(/\s+/g, ' ');
}
