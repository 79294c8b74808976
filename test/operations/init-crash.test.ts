/** An `init` dies at its changes in turn (with HOLDFAST_LONG=1 at each), before or after the change took effect, on all backends or on one: the next one works, or says what to do. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { isHoldfastError } from '../../src/errors.ts';
import { parseAgentKey } from '../../src/identity/agent-key.ts';
import { readSecretFile } from '../../src/identity/secret-file.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { backup, type BackupResult } from '../../src/operations/backup.ts';
import { init, type InitResult } from '../../src/operations/init.ts';
import { sync } from '../../src/operations/sync.ts';
import { REPOSITORY_KEY } from '../../src/repository/repository.ts';
import { seededRandom } from '../crypto/support.ts';
import { FaultyBackend } from '../faulty-backend.ts';
import { aheadClock, emptyStore, smallAgents, storeOf } from './support.ts';
import { hitIn, kindsIn, sweep } from './sweep.ts';

const EFFECTS = ['fail', 'fail-after'] as const;
type Effect = (typeof EFFECTS)[number];

const agent = await smallAgents(seededRandom('init crash')).make();
afterAll(() => agent[Symbol.asyncDispose]());
const store = (name: string) => storeOf(agent, name);

/** The storage works again, and holds what it held when it failed. */
function heal(): void {
  for (const [name, { inner }] of agent.stores) agent.stores.set(name, new FaultyBackend(inner, { name }));
}

describe('init', () => {
  const KINDS = ['secrets', 'identity', 'keys', 'repository'];
  let folder: string;
  let count = 0;
  const file = (name: string) => join(folder, name);
  const files = () => ({
    identity: file('id'),
    writerKey: file('writer'),
    config: file('config'),
    words: file('words'),
  });

  function startNew(): void {
    folder = join(agent.folder, `init-${count++}`);
    mkdirSync(folder);
    for (const name of ['a', 'b']) agent.stores.set(name, emptyStore(name));
  }
  const folders = { state: '', cache: '' };
  const initialise = (): Promise<InitResult> => {
    Object.assign(folders, { state: file('state'), cache: file('cache') });
    return init(
      {
        handle: 'ada',
        backends: agent.addresses,
        stateRoot: agent.state,
        kind: 'x25519',
        files: files(),
        foldersOf: () => folders,
        configText: 'agent: {handle: ada}\n',
      },
      agent.seams(),
    );
  };
  const host = async () => {
    const text = async (path: string) => Buffer.from(await readSecretFile(path)).toString('utf8');
    return {
      writerKey: parseWriterKey(await text(files().writerKey)),
      signer: parseAgentKey(await text(files().identity)),
    };
  };
  const save = async (): Promise<BackupResult> =>
    backup(
      {
        ...(await host()),
        backends: agent.addresses,
        state: { root: agent.state, exclude: [], keepOut: [] },
        require: 2,
        tags: [],
        host: 'test-host',
        tool: 'holdfast/test',
        config: '',
        folders,
      },
      agent.seams({ clock: aheadClock }),
    );

  async function initThatDies(dying: readonly string[], n: number, effect: Effect): Promise<string[]> {
    startNew();
    const [first, ...others] = dying.map(store);
    first?.dieAt(n, effect, others);
    const result = await initialise().catch((error: unknown) => {
      if (!isHoldfastError(error)) throw error;
      return undefined;
    });
    first?.assertAllFired();
    const hit = hitIn(...dying.map(store));
    heal();
    const holding: string[] = [];
    for (const [name, { inner }] of agent.stores) if (await inner.head(REPOSITORY_KEY)) holding.push(name);
    if (result) {
      // It goes on with the backends that answered, and names no other.
      for (const name of result.backends) expect(holding).toContain(name);
      expect(result.warnings.length).toBe(2 - result.backends.length);
      const { writerKey, signer } = await host();
      const agentKey = Buffer.from(writerKey.agentPublicKey).toString('hex');
      const access = {
        kind: 'writer',
        repository: writerKey.repositoryId,
        agent: agentKey,
        chunkIdKey: writerKey.chunkIdKey,
        identity: writerKey.ageIdentity,
      } as const;
      const filled = await sync(
        { backends: agent.addresses, access, signer, host: 'h', folders, refill: [] },
        agent.seams(),
      );
      expect(filled).toMatchObject({ complete: true });
    } else {
      for (const path of Object.values(files())) expect(existsSync(path), path).toBe(false);
      if (holding.length > 0) {
        // A repository whose keys are gone, and that nobody ever used: only a person may remove it, and is told so.
        const error = await initialise().then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(isHoldfastError(error, 'exists') && error.hint).toMatch(/holds no snapshot.*remove/s);
        for (const path of Object.values(files())) expect(existsSync(path), path).toBe(false);
        for (const name of holding) await store(name).inner.delete(REPOSITORY_KEY);
      }
      expect(await initialise()).toMatchObject({ backends: ['a', 'b'], warnings: [] });
    }
    const saved = await save();
    expect(saved.complete).toBe(true);
    // What the init that died left on one backend is copied to the other with all the rest: it is in nobody's way.
    expect(saved.warnings.filter(({ code }) => code !== 'levelled')).toEqual([]);
    return hit;
  }

  it('has the changes that the sweep goes through', async () => {
    startNew();
    await initialise();
    expect(kindsIn(store('a'), 'put')).toEqual(KINDS);
    expect(store('a').count('mutating')).toBe(4);
    expect(await save()).toMatchObject({ complete: true, warnings: [] });
  });

  describe.each(EFFECTS)('%s', (effect) => {
    it('of the whole run: a new init on the same backends works, or says what to do', async () => {
      const both = KINDS.flatMap((kind) => [kind, kind]);
      await sweep(both, effect === 'fail' ? 1 : 2, (n) => initThatDies(['a', 'b'], n, effect));
    });

    it.each(['a', 'b'])('of backend %s: init does not claim that it holds the repository', async (name) => {
      await sweep(KINDS, 1, (n) => initThatDies([name], n, effect));
    });
  });
});
