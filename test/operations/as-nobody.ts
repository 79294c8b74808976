/**
 * A program for tests that need a user without privileges: it becomes `nobody` when started by root, backs up a state of which not all
 * can be read, and prints what came of it as JSON.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inventory, removeFolder } from '../state/trees.ts';
import { becomeNobody } from '../become-nobody.ts';
import { makeAgent } from './support.ts';

becomeNobody();

const agent = await makeAgent({ storage: 'folders' });
try {
  for (const folder of ['closed', 'open']) mkdirSync(join(agent.state, folder));
  for (const path of ['a-readable', 'closed/hidden', 'open/m-unreadable', 'open/z-readable'])
    writeFileSync(join(agent.state, path), path);
  chmodSync(join(agent.state, 'open/m-unreadable'), 0o000);
  chmodSync(join(agent.state, 'closed'), 0o000);
  const backup = await agent.backup();
  const target = join(agent.folder, 'out');
  const restore = await agent.restore(target);
  chmodSync(join(target, 'closed'), 0o700);
  const restored = inventory(target).map((line) => line.split('\0')[0]);
  console.log(JSON.stringify({ uid: process.geteuid?.(), backup, restore, restored }));
} finally {
  removeFolder(agent.folder);
}
