import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { isIn } from '../../../src/operations/restoring/apart.ts';
import { makeAgent } from '../support.ts';

it('nothing is restored into the folder of a backend, by whatever path', async () => {
  await using agent = await makeAgent({ storage: 'folders', fill: (state) => mkdirSync(join(state, 'memory')) });
  await agent.backup();
  symlinkSync('a', join(agent.folder, 'link'));
  const before = readdirSync(join(agent.folder, 'a'));
  for (const target of ['a/restored', 'b', 'link/restored', 'a/x/../y'])
    for (const overwrite of [undefined, 'always'] as const)
      await expect(agent.restore(join(agent.folder, target), { overwrite }), target).rejects.toMatchObject({
        code: 'usage',
        message: expect.stringMatching(/^the target lies in the folder of backend [ab]$/) as string,
      });
  expect(readdirSync(join(agent.folder, 'a'))).toEqual(before);
  const home = join(agent.folder, 'home');
  await expect(agent.recover(home, { target: join(agent.folder, 'a', 'state') })).rejects.toMatchObject({
    code: 'usage',
  });
  expect(existsSync(home)).toBe(false);
  expect((await agent.restore(join(agent.folder, 'a-restored'))).complete).toBe(true);
});

it('a name that only begins with two dots lies in the folder', () => {
  expect(isIn('/x/..y', '/x')).toBe(true);
  expect(isIn('/x', '/x')).toBe(true);
  expect(isIn('/xy', '/x')).toBe(false);
});
