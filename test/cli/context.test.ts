import { expect, test } from 'vitest';
import { breakerPath } from '../../src/cli/context.ts';

test('backends share a breaker only where they are the same place', () => {
  const path = (url: string) => breakerPath({ XDG_STATE_HOME: '/state' }, url);
  const urls = [
    's3://backup/ada',
    's3://backup/ada?endpoint=https://a',
    's3://backup/ada?endpoint=https://b',
    's3://b/ada',
  ];
  expect(new Set(urls.map(path)).size).toBe(urls.length);
  expect(path('s3://backup/ada?upload=1MiB&endpoint=https://a')).toBe(path('s3://backup/ada?endpoint=https://a'));
});
