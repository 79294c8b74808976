/** Two runs at once on one host. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { takeLock } from '../../../src/operations/host/lock.ts';
import { failure, seededRandom } from '../../crypto/support.ts';
import { smallAgents } from '../support.ts';

const { make } = smallAgents(seededRandom('lock'));

describe('one run at a time', () => {
  test('a backup and a sync are refused while another runs', async () => {
    await using agent = await make();
    let within: unknown;
    let busy: Promise<unknown> | undefined;
    const progress = () => {
      busy ??= Promise.all([failure(() => agent.backup(), 'busy'), failure(() => agent.sync(), 'busy')]).then(
        ([error]) => (within = error),
      );
    };
    expect((await agent.backup({}, { progress })).complete).toBe(true);
    await busy;
    expect(within).toMatchObject({ retryable: true, hint: expect.stringContaining('no lock to remove') });
    expect((await agent.backup()).complete).toBe(true);
  });

  test('restoring and verifying need no lock', async () => {
    await using agent = await make();
    await agent.backup();
    using _lock = takeLock(agent.folders.state, 'test');
    expect(await agent.restore(join(agent.folder, 'out'))).toMatchObject({ complete: true, lost: [] });
    expect((await agent.verify('chunks')).damaged).toEqual([]);
  });

  test('the lock of a process that was killed is free', async () => {
    await using agent = await make();
    await agent.backup();
    const program = fileURLToPath(new URL('lock-child.ts', import.meta.url));
    const child = spawn(process.execPath, [program, agent.folders.state], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    const { message } = await failure(() => agent.backup(), 'busy');
    expect(message).toContain(`(process ${child.pid})`);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect((await agent.backup()).complete).toBe(true);
  });

  test('a state folder that cannot be used says so', async () => {
    await using agent = await make();
    const blocked = join(agent.folder, 'blocked');
    writeFileSync(blocked, '');
    await failure(() => agent.backup({ folders: { state: join(blocked, 'x'), cache: agent.folders.cache } }), 'io');
  });

  test('a cache folder that cannot be used costs only time', async () => {
    await using agent = await make();
    const blocked = join(agent.folder, 'blocked');
    symlinkSync('/nowhere/at/all', blocked);
    const folders = { state: agent.folders.state, cache: join(blocked, 'x') };
    expect(await agent.backup({ folders })).toMatchObject({ complete: true, warnings: [] });
    expect(await agent.backup({ folders })).toMatchObject({ complete: true, files: { unmodified: 2 } });
  });
});
