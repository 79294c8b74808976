/**
 * A program for tests that need a user without privileges: it becomes `nobody` when started by root, restores over a folder that it may not
 * write to, dry and for good, and prints what came of it as JSON.
 */
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { removeFolder } from '../../state/trees.ts';
import { becomeNobody } from '../../become-nobody.ts';
import { makeAgent } from '../support.ts';

becomeNobody();

const agent = await makeAgent({ storage: 'folders' });
try {
  const fill = (folder: string, text: string) => {
    for (const name of ['closed', 'open']) {
      mkdirSync(join(folder, name), { recursive: true });
      writeFileSync(join(folder, name, 'file'), text);
    }
    mkdirSync(join(folder, 'open', 'shut'), { recursive: true });
    writeFileSync(join(folder, 'open', 'shut', 'inside'), text);
  };
  fill(agent.state, 'theirs');
  chmodSync(join(agent.state, 'open', 'shut'), 0o555);
  await agent.backup();
  const target = join(agent.folder, 'out');
  fill(target, 'mine');
  removeFolder(join(target, 'open', 'shut'));
  chmodSync(join(target, 'closed'), 0o555);
  const dry = await agent.restore(target, { overwrite: 'changed', dryRun: true, paths: ['closed/file', 'open'] });
  const real = await agent.restore(target, { overwrite: 'changed', paths: ['closed/file', 'open'] });
  console.log(
    JSON.stringify({
      uid: process.geteuid?.(),
      dry,
      real,
      closed: readFileSync(join(target, 'closed', 'file'), 'utf8'),
      open: readFileSync(join(target, 'open', 'file'), 'utf8'),
      shut: statSync(join(target, 'open', 'shut')).mode & 0o777,
    }),
  );
} finally {
  removeFolder(agent.folder);
}
