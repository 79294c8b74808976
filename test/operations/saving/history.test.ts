/** Which snapshot was the last: storage that was rolled back, copies under other names, a cache that is wrong. */
import { cpSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { listSnapshots } from '../../../src/operations/look.ts';
import { seededRandom } from '../../crypto/support.ts';
import { removeFolder } from '../../state/trees.ts';
import { contentOf, contentsOf, expectLevel, storeOf, expectSameTree, smallAgents, putBack } from '../support.ts';

const { make, change } = smallAgents(seededRandom('backends'));

describe('storage that was rolled back', () => {
  test('is noticed, loudly, and the numbers go on', async () => {
    await using agent = await make({ storage: 'folders' });
    await agent.backup();
    for (const name of ['a', 'b'])
      cpSync(join(agent.folder, name), join(agent.folder, `${name}-old`), { recursive: true });
    change(agent, 'three');
    const second = await agent.backup();
    for (const name of ['a', 'b']) {
      removeFolder(join(agent.folder, name));
      renameSync(join(agent.folder, `${name}-old`), join(agent.folder, name));
    }
    change(agent, 'four');
    const third = await agent.backup();
    expect(third.complete).toBe(false);
    expect(third.warnings).toMatchObject([
      { code: 'rolled_back', incomplete: true, message: expect.stringContaining(second.snapshot.id.slice(0, 8)) },
    ]);
    expect(third.snapshot).toMatchObject({ seq: 2, parent: second.snapshot.id });
    // The snapshot itself is whole, although the cache knew chunks that are gone.
    const target = join(agent.folder, 'out');
    expect(await agent.restore(target)).toMatchObject({ complete: true, lost: [] });
    expectSameTree(target, agent.state);
    // And the gap stays visible to everybody.
    const { damaged } = await agent.verify('chunks');
    expect(damaged.map(({ problem }) => problem)).toEqual(
      Array.from({ length: 2 }, () => expect.stringContaining(`parent ${second.snapshot.id.slice(0, 8)} is missing`)),
    );
    const { warnings } = await listSnapshots({ backends: agent.addresses, access: agent.access.writer }, agent.seams());
    expect(warnings).toMatchObject([{ code: 'chain', incomplete: true }]);
    expect((await agent.backup()).warnings).toEqual([]);
  });

  test('on one backend is brought level from the other', async () => {
    await using agent = await make();
    await agent.backup();
    const old = await contentOf(storeOf(agent, 'a').inner);
    change(agent, 'three');
    await agent.backup();
    await putBack(agent, [['a', old]]);
    expect((await agent.backup()).warnings).toMatchObject([
      { code: 'levelled', message: expect.stringContaining('backend a') },
    ]);
    await expectLevel(agent);
  });

  test('is not claimed when the backend with the newest snapshot is only out of reach', async () => {
    await using agent = await make();
    const away = storeOf(agent, 'b');
    agent.stores.delete('b');
    await agent.backup();
    const holder = storeOf(agent, 'a');
    agent.stores.delete('a');
    agent.stores.set('b', away);
    const second = await agent.backup({ require: 1 });
    expect(second.warnings.map(({ code }) => code)).toContain('newest_out_of_reach');
    expect(second.snapshot.seq).toBe(1);
    agent.stores.set('a', holder);
    expect((await agent.backup()).snapshot.seq).toBe(2);
    await expectLevel(agent);
    expect((await agent.verify('chunks')).damaged).toEqual([]);
  });

  test('is not noticed by a host that has forgotten: its memory is what counts', async () => {
    await using agent = await make();
    await agent.backup();
    const old = await contentsOf(agent);
    change(agent, 'three');
    await agent.backup();
    await putBack(agent, old);
    rmSync(agent.folders.state, { recursive: true });
    expect(await agent.backup()).toMatchObject({ complete: true, snapshot: { seq: 1 } });
  });
});

test('a wrong number in the cache of snapshots raises no alarm', async () => {
  await using agent = await make();
  await agent.backup();
  change(agent, 'three');
  const second = await agent.backup();
  writeFileSync(join(agent.folders.cache, 'snapshots.json'), JSON.stringify({ [second.snapshot.id]: 0 }));
  change(agent, 'four');
  expect(await agent.backup()).toMatchObject({ complete: true, warnings: [], snapshot: { seq: 2 } });
});

describe('a copy of the newest snapshot under a later name', () => {
  test.each([
    ['with all that this host remembers', []],
    ['without the cache', ['cache'] as const],
    ['without any memory', ['cache', 'state'] as const],
  ])('is told, and misleads nobody (%s)', async (_, lost) => {
    await using agent = await make();
    await agent.backup();
    change(agent, 'three');
    const second = await agent.backup();
    const key = [...(await contentOf(storeOf(agent, 'a').inner)).keys()].find((one) =>
      one.includes(second.snapshot.id),
    );
    for (const name of ['a', 'b']) {
      const { inner } = storeOf(agent, name);
      await inner.put(`snapshots/99990101T000000Z-${second.snapshot.id}.age`, await inner.get(key ?? ''));
    }
    for (const folder of lost) removeFolder(agent.folders[folder]);
    change(agent, 'four');
    const third = await agent.backup();
    expect(third.snapshot).toMatchObject({ seq: 2, parent: second.snapshot.id });
    expect(new Set(third.warnings.map(({ code }) => code))).toEqual(new Set(['snapshot_damaged', 'read_failed']));
  });
});
