/** The workflows that check and publish: they parse, and run only what is there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '../cli/run.ts';

interface Step {
  run?: string;
  uses?: string;
  env?: Record<string, string>;
}
interface Workflow {
  on: Record<string, unknown>;
  permissions: Record<string, string>;
  jobs: Record<string, { needs?: string; permissions?: Record<string, string>; steps: Step[] }>;
}
const text = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');
const workflow = (name: string) => parse(text('.github', 'workflows', `${name}.yml`), { strict: true }) as Workflow;
const scripts = (JSON.parse(text('package.json')) as { scripts: Record<string, string> }).scripts;
/** Of npm itself. */
const NPM = new Set(['ci', 'pack', 'publish']);

it.each(['ci', 'release'])('%s.yml names commands that exist, and may write nothing unless it says so', (name) => {
  const { jobs, permissions } = workflow(name);
  expect(permissions).toEqual({ contents: 'read' });
  const commands = Object.values(jobs).flatMap(({ steps }) => steps.flatMap(({ run }) => run ?? []));
  expect(commands.length).toBeGreaterThan(1);
  for (const command of commands) {
    for (const [, path = ''] of command.matchAll(/bash (\S+)/g)) expect(existsSync(join(ROOT, path)), path).toBe(true);
    for (const [, verb = '', script = ''] of command.matchAll(/npm (\S+)(?: (?:-s )?(\S+))?/g)) {
      if (verb === 'run') expect(Object.keys(scripts)).toContain(script);
      else expect(NPM).toContain(verb);
    }
  }
  for (const { steps } of Object.values(jobs))
    for (const { uses } of steps) if (uses !== undefined) expect(uses).toMatch(/^actions\/[a-z-]+@\S+$/);
});

it('a change is checked by .ci/run; a tag too, before it is published with provenance and its SBOM', () => {
  const ci = workflow('ci');
  expect(Object.keys(ci.on).toSorted()).toEqual(['pull_request', 'push']);
  expect(Object.values(ci.jobs).flatMap(({ steps }) => steps.map(({ run }) => run))).toContain('bash .ci/run');
  const { on, jobs } = workflow('release');
  expect(on).toEqual({ push: { tags: ['v*'] } });
  const checked = jobs['check']?.steps.find(({ run }) => run === 'bash .ci/run');
  expect(checked?.env).toEqual({ HOLDFAST_RELEASE: '1' });
  expect(text('.ci', 'run')).toContain('HOLDFAST_RELEASE');
  const publish = jobs['publish'];
  expect(publish).toMatchObject({ needs: 'check', permissions: { 'id-token': 'write' } });
  const steps = publish?.steps.map(({ run = '' }) => run).join('\n') ?? '';
  expect(steps).toMatch(/npm publish \S+ --provenance/);
  expect(steps).toMatch(/gh release create .* sbom\.cdx\.json/);
  // `npm pack` is what makes the SBOM.
  expect(scripts['prepack']).toContain('bin/sbom.js');
  expect(existsSync(join(ROOT, 'bin', 'sbom.js'))).toBe(true);
});
