/**
 * A local user who may write to the state, and exchanges its folders and files for links while root backs it up: nothing outside the state may come
 * into the snapshot.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { expect, it, vi } from 'vitest';
import { isRoot } from '../state/tools.ts';
import { makeAgent, type TestAgent } from './support.ts';

/** Around each opening of a file. */
const world = vi.hoisted(() => ({ before: (_path: string) => {}, after: () => {} }));

vi.mock('node:fs', async (original) => {
  const real = await original<{ openSync: (...args: unknown[]) => number }>();
  const openSync = (...args: unknown[]): number => {
    world.before(String(args[0]));
    try {
      return real.openSync(...args);
    } finally {
      world.after();
    }
  };
  return { ...real, openSync };
});

const NOBODY = 65_534;

function plant(root: string, text: string): void {
  for (const folder of ['a', 'a/b']) {
    mkdirSync(join(root, folder), { recursive: true });
    for (let i = 0; i < 6; i++) writeFileSync(join(root, folder, `file-${i}`), `${text} ${i}`, { mode: 0o600 });
    using database = new DatabaseSync(join(root, folder, 'db'));
    database.exec(`CREATE TABLE t (x); INSERT INTO t VALUES ('${text}')`);
  }
}

async function agentOfAnother(): Promise<TestAgent> {
  const agent = await makeAgent({ fill: (state) => plant(state, 'mine') });
  plant(join(agent.folder, 'outside'), 'precious');
  chmodSync(agent.folder, 0o755);
  const all = readdirSync(agent.state, { recursive: true, encoding: 'utf8' });
  for (const path of ['', ...all]) chownSync(join(agent.state, path), NOBODY, NOBODY);
  return agent;
}

async function expectNothingOfOthers(agent: TestAgent): Promise<void> {
  const target = mkdtempSync(join(agent.folder, 'restored-'));
  await agent.restore(target);
  // Links, which are saved as such, are not followed.
  expect(spawnSync('grep', ['-r', '-l', 'precious', target], { encoding: 'utf8' })).toMatchObject({
    status: 1,
    stdout: '',
  });
}

it.each(['a', 'a/b'])(
  'a folder that is a link at the moment a file in it is opened is not read through: %s',
  async (folder) => {
    await using agent = await agentOfAnother();
    const place = join(agent.state, folder);
    let struck = 0;
    let isAway = false;
    world.before = (path) => {
      if (!path.startsWith(`${place}/`) || isAway) return;
      isAway = true;
      struck++;
      renameSync(place, `${agent.folder}/aside`);
      symlinkSync(join(agent.folder, 'outside', folder), place);
      lchownSync(place, NOBODY, NOBODY);
    };
    world.after = () => {
      if (!isAway) return;
      isAway = false;
      unlinkSync(place);
      renameSync(`${agent.folder}/aside`, place);
    };
    const result = await agent.backup();
    world.before = () => {};
    expect(struck).toBeGreaterThan(5);
    expect(result.warnings).toContainEqual(
      expect.objectContaining({ code: 'unreadable', path: `${folder}/file-0`, incomplete: true }),
    );
    await expectNothingOfOthers(agent);
  },
);

it.skipIf(!isRoot)(
  'what a process exchanges for links, as fast as it can, brings in nothing from elsewhere',
  async () => {
    await using agent = await agentOfAnother();
    const program = fileURLToPath(new URL('swapper.ts', import.meta.url));
    const paths = ['a', 'a/b'].map((path) => join(agent.state, path));
    const outside = join(agent.folder, 'outside/a');
    const swapper = spawn(process.execPath, [program, outside, ...paths], { stdio: ['pipe', 'pipe', 'inherit'] });
    let said = '';
    swapper.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    try {
      await once(swapper.stdout, 'data');
      for (let round = 0; round < 5; round++) {
        await agent.backup();
        await expectNothingOfOthers(agent);
      }
    } finally {
      swapper.stdin.end();
      await once(swapper, 'exit');
    }
    expect(Number(said.split('\n')[1])).toBeGreaterThan(20);
  },
);
