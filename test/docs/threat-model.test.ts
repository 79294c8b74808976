import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const text = readFileSync(join(ROOT, 'docs/threat-model.md'), 'utf8');

it('every test that the threat model names is there', () => {
  const named = [...text.matchAll(/`(test\/[\w/.-]+)`/g)].map(([, path]) => path ?? '');
  expect(new Set(named).size).toBeGreaterThan(25);
  expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});

it('every threat says what remains, or what stops it, and by which test', () => {
  const sections = text.split(/^### /m).slice(1);
  expect(sections.length).toBeGreaterThan(15);
  for (const section of sections) expect(section).toMatch(/`test\/|\*\*Remains\*\*/);
});

it('SECURITY.md is shipped, and leads to pages that are there', () => {
  const security = readFileSync(join(ROOT, 'SECURITY.md'), 'utf8');
  const links = [...security.matchAll(/\]\(([\w/.-]+)\)/g)].map(([, path]) => path ?? '');
  expect(links.length).toBeGreaterThan(1);
  expect(links.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  const { files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { files: string[] };
  expect(files).toContain('SECURITY.md');
});
