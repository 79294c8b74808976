import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { expectSteps, stepsOf } from './console.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'holdfast-docs-'));
});
afterEach(() => rm(home, { recursive: true, force: true }));

describe('the tour of the README', () => {
  it('prints what it says, command by command', async () => {
    const steps = await stepsOf('README.md');
    expect(steps.length).toBeGreaterThan(8);
    await expectSteps(steps, home, ['init', 'recover']);
  }, 60_000);
});

describe('the page on restoring', () => {
  it('prints what it says, command by command', async () => {
    const steps = await stepsOf('docs/restore.md');
    expect(steps.length).toBeGreaterThan(8);
    await expectSteps(steps, home);
  }, 60_000);
});

describe('the page on the doctor', () => {
  it('prints what it says, command by command', async () => {
    const steps = await stepsOf('docs/doctor.md');
    expect(steps.length).toBeGreaterThan(5);
    await expectSteps(steps, home);
  }, 60_000);
});
