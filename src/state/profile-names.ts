/** The profiles that come with holdfast; each is a file in profiles/. */
export const BUILT_IN_PROFILES = ['ants', 'claude-code', 'files', 'hermes', 'openclaw'] as const;

/** The one that takes every file as it is. */
export const DEFAULT_PROFILE = 'files';

/** True for what is a name, and not a path to a profile of the user's. */
export function isProfileName(text: string): boolean {
  return /^[a-z0-9-]{1,32}$/.test(text);
}

/** Whether `text` names a profile that comes with holdfast, or looks like a path. */
export function mayBeProfile(text: string): boolean {
  return !isProfileName(text) || BUILT_IN_PROFILES.some((name) => name === text);
}

/** What becomes of secrets: saved in a manifest of their own, saved like the rest, or not saved. */
export const SECRET_HANDLING = ['apart', 'include', 'leave'] as const;
export type SecretHandling = (typeof SECRET_HANDLING)[number];
