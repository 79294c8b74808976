import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { BUILT_IN_PROFILES } from '../../src/state/profile-names.ts';
import { loadProfile, parseProfile } from '../../src/state/profile.ts';
import { profileSchema } from '../../src/state/profile-schema.ts';

const page = readFileSync(new URL('../../docs/profiles.md', import.meta.url), 'utf8');

it('the example of docs/profiles.md is a profile that has every key there is', async () => {
  const example = /^```yaml example\n([\s\S]*?)^```$/m.exec(page)?.[1] ?? '';
  const profile = await parseProfile(Buffer.from(example), 'docs/profiles.md');
  expect(Object.keys(profile).toSorted()).toEqual(Object.keys(profileSchema.shape).toSorted());
  expect(new Set(profile.continuity.map(({ check }) => check)).size).toBe(5);
});

it.each(BUILT_IN_PROFILES)('docs/profiles.md says what %s takes for secret and for cache', async (name) => {
  const cells = page
    .split('\n')
    .find((line) => line.startsWith(`| \`${name}\` `))
    ?.split('|')
    .map((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, pattern]) => pattern));
  const { secret, cache } = await loadProfile(name);
  expect(cells?.slice(3, 5)).toEqual([secret, cache]);
});
