import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeNastyTree } from '../state/trees.ts';
import { expectSameTree, makeAgent, contentsOf } from './support.ts';

test('x', async () => {
  await using agent = await makeAgent({ fill: makeNastyTree });
  console.time('b');
  const r = await agent.backup();
  console.timeEnd('b');
  console.log(r);
  console.time('b');
  console.log(await agent.backup());
  console.timeEnd('b');
  console.time('r');
  console.log(await agent.restore(join(agent.folder, 'out')));
  console.timeEnd('r');
  expectSameTree(join(agent.folder, 'out'), agent.state);
  console.time('v');
  console.log(await agent.verify('chunks'));
  console.timeEnd('v');
});
