/**
 * A thousand faults and more, each asserted to have fired: at every operation of the conformance suite, on a guarded backend and on mirrors of them, and
 * in backups, restores and syncs over three. Whatever the fault: nothing half is visible, no snapshot is lost, no call outlasts its deadlines. (Time is
 * a clock of the test's own; a hang is found because nothing is left to wait for.)
 */
import { execFileSync } from 'node:child_process';
import { constants, cpSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { systemClock, type Random } from '../src/clock.ts';
import { sha256Hex } from '../src/crypto/hash.ts';
import { HoldfastError, isHoldfastError } from '../src/errors.ts';
import type { Backend } from '../src/backend/backend.ts';
import { checkConformance, type ConformanceResult } from '../src/backend/conformance.ts';
import { DEADLINE_MS, GRACE_MS, guarded, RATE_MIN_BYTES_PER_SECOND, RETRY } from '../src/backend/guarded.ts';
import { createMemory } from '../src/backend/memory.ts';
import { Mirror } from '../src/backend/mirror.ts';
import type * as Limits from '../src/limits.ts';
import { restore } from '../src/operations/restore.ts';
import { sync } from '../src/operations/sync.ts';
import { parseKey } from '../src/repository/repository.ts';
import { keysAndSizes } from './backend-helpers.ts';
import { seededRandom } from './crypto/support.ts';
import { FakeClock } from './fake-clock.ts';
import { FaultyBackend, type Effect, type Fault, type Operation, type RecordedOperation } from './faulty-backend.ts';
import { contentOf, contentsOf, makeAgent, putBack, storeOf, type TestAgent } from './operations/support.ts';

// Small packs, and an index after every second one.
vi.mock('../src/limits.ts', async (original) => ({
  ...(await original<typeof Limits>()),
  PACK_TAR_MAX_BYTES: 300 * 1024,
  INDEX_FLUSH_PACKS: 2,
}));

const WANTED = 1000;
/** Enough for several instalments of a deadline; all else is the same for an object of any size. */
const LARGE_BYTES = 512 * 1024;
const MiB = 1024 * 1024;
let fired = 0;

/** All that were planned have fired, and are counted. */
function count(...backends: FaultyBackend[]): void {
  for (const backend of backends) {
    backend.assertAllFired();
    fired += backend.operations.filter(({ effect }) => effect !== undefined).length;
  }
}

afterAll(() => {
  expect(fired).toBeGreaterThanOrEqual(WANTED);
  console.log(`${fired} injected faults fired: no lost snapshot, no half-visible object, no call beyond its deadlines`);
});

/** What is done to one operation; the codes of `error` are what the guard goes by. */
const FAULTS: Record<string, { effect: Effect; isTransient?: boolean }> = {
  'refused for now': { effect: 'fail', isTransient: true },
  'refused for good': { effect: 'fail' },
  'done, and the answer lost for now': { effect: 'fail-after', isTransient: true },
  'done, and the answer lost for good': { effect: 'fail-after' },
  'never answered': { effect: 'stall' },
  'one bit turned': { effect: 'flip' },
  'half of it': { effect: 'truncate' },
  'not found': { effect: 'vanish' },
};
type Kind = keyof typeof FAULTS;
const KINDS = Object.keys(FAULTS);
const isOfGet = (kind: Kind) => ['flip', 'truncate', 'vanish'].includes(FAULTS[kind]?.effect ?? '');
const isSilentDamage = (kind: Kind) => ['flip', 'truncate'].includes(FAULTS[kind]?.effect ?? '');

function faultOf(kind: Kind, over: Partial<Fault>): Fault {
  const { effect, isTransient = false } = FAULTS[kind] ?? { effect: 'fail' };
  const error = new HoldfastError('backend_unavailable', `as planned: ${kind}`, { retryable: isTransient });
  return { effect, error, ...over };
}

/** Bytes enough, without making them anew for every run. */
const stock = seededRandom('torture').bytes(MiB + LARGE_BYTES);
const noPause: Random = { bytes: (length) => new Uint8Array(length) };
function cheapRandom(): Random {
  let at = 0;
  return { bytes: (length) => stock.subarray((at += 101) % MiB, (at % MiB) + length) };
}

const newClock = () => new FakeClock(systemClock.now() + 3_600_000);
const guard = (backend: Backend, name: string, clock: FakeClock) => guarded(backend, { name, clock, random: noPause });

/** Two tries, each with its deadline, an instalment that is the last, the time of its bytes and the grace; and the pauses. */
const longestMs = (bytes: number) =>
  2 * (2 * DEADLINE_MS + GRACE_MS + (bytes / RATE_MIN_BYTES_PER_SECOND) * 1000) + RETRY.budgetMs;

/** The same backend; a call that takes longer than it may fails the test. */
function timed(backend: Backend, clock: FakeClock): Backend {
  const within = async <T>(bytes: number, call: Promise<T>): Promise<T> => {
    const startedMs = clock.monotonic();
    const check = () => expect(clock.monotonic() - startedMs).toBeLessThanOrEqual(longestMs(bytes));
    return call.finally(check);
  };
  const largest = MiB; // a pack
  return {
    put: (key, bytes, options) => within(bytes.length, backend.put(key, bytes, options)),
    get: (key, range, options) => within(range?.length ?? largest, backend.get(key, range, options)),
    head: (key, options) => within(0, backend.head(key, options)),
    list: (prefix, options) => backend.list(prefix, options),
    delete: (key, options) => within(0, backend.delete(key, options)),
    [Symbol.asyncDispose]: async () => backend[Symbol.asyncDispose](),
  };
}

describe.each([1, 2])('the conformance suite on %i under guard', (members) => {
  const names = ['a', 'b'].slice(0, members);

  async function run(plan: ReadonlyMap<string, Fault>): Promise<{
    result: ConformanceResult;
    stores: FaultyBackend[];
    /** Of every `get` of the first member: the position among all its operations from 1, and the bytes. */
    gets: { position: number; bytes: number }[];
    clock: FakeClock;
  }> {
    const clock = newClock();
    const gets: { position: number; bytes: number }[] = [];
    const stores = names.map((name) => {
      const memory = createMemory(name);
      const noting: Backend = {
        ...memory,
        async get(...given) {
          const position = store.operations.length;
          const bytes = await memory.get(...given);
          if (name === 'a') gets.push({ position, bytes: bytes.length });
          return bytes;
        },
      };
      const fault = plan.get(name);
      const store = new FaultyBackend(noting, { name, plan: fault ? [fault] : [] });
      return store;
    });
    const guards = stores.map((store) => ({ name: store.name, backend: guard(store, store.name, clock) }));
    const [first] = guards;
    const subject = members === 1 && first ? first.backend : new Mirror(guards, clock);
    const result = await clock.through(
      checkConformance(timed(subject, clock), 'try', { clock, random: cheapRandom(), largeBytes: LARGE_BYTES }),
    );
    expect(clock.sleeping).toBe(0);
    return { result, stores, gets, clock };
  }

  const problems = ({ checks }: ConformanceResult) => checks.filter(({ ok }) => !ok);

  test('is passed without a fault', async () => {
    const { result, stores } = await run(new Map());
    expect(problems(result)).toEqual([]);
    expect(result.left).toEqual([]);
    for (const { inner } of stores) expect(await keysAndSizes(inner, '')).toEqual([]);
  });

  test.each(KINDS)('survives every operation of every backend %s', { timeout: 60_000 }, async (kind) => {
    const clean = await run(new Map());
    const measuring = clean.stores[0]?.operations.findIndex(({ key }) => key.includes('timed-')) ?? 0;
    for (const [m, store] of clean.stores.entries()) {
      const damageable = clean.gets.flatMap(({ position, bytes }) => (m === 0 && bytes > 0 ? [position] : []));
      // What is measured and cleared away is the same again and again: the first of each kind will do.
      const firsts = new Set<string>();
      const isNew = ({ key, operation }: RecordedOperation, i: number): boolean => {
        const id = i < measuring ? String(i) : `${operation} ${key.includes('large')}`;
        return !firsts.has(id) && firsts.add(id).has(id);
      };
      const worthwhile = store.operations.flatMap((one, i) => (isNew(one, i) ? [i + 1] : []));
      const positions = isOfGet(kind) ? worthwhile.filter((one) => damageable.includes(one)) : worthwhile;
      // The larger the mirror, the fewer positions: what a member does, it does in the smaller one too.
      for (const position of positions.filter((_, i) => (i + m) % members === 0)) {
        const name = names[m] ?? '';
        const on = isOfGet(kind)
          ? { nth: damageableNumber(clean.stores[0]?.operations ?? [], position) }
          : { nth: position };
        const { result, stores } = await run(new Map([[name, faultOf(kind, on)]]));
        const what = `${kind} at operation ${position} of ${name}: ${JSON.stringify(store.operations[position - 1])}`;
        count(...stores);
        const told = problems(result);
        const isRace = store.operations[position - 1]?.key === 'try/raced';
        const isLostAnswer = kind.startsWith('done');
        if (isSilentDamage(kind)) {
          // Nobody vouches for the bytes here: the suite itself must see it.
          if (position <= measuring) expect(told.length, what).toBeGreaterThan(0);
        } else if (members > 1 || FAULTS[kind]?.isTransient || kind === 'never answered') {
          // Who created it, nobody knows when the winner's answer was lost: 'at most one is told so'. And without one of its members no mirror says
          // that something is absent.
          const isKnown = (title: string) =>
            (isRace && isLostAnswer && title.startsWith('of 8')) ||
            (members > 1 && title.startsWith('one that is absent'));
          expect(
            told.filter(({ title }) => !isKnown(title)),
            what,
          ).toEqual([]);
        }
        // What is left is whole: it has a size that was once put.
        for (const { inner } of stores) {
          for (const [key, size] of await keysAndSizes(inner, ''))
            expect([0, 1000, LARGE_BYTES], `${what}: ${key}`).toContain(size);
        }
      }
    }
  });
});

/** Which `get`, from 1, the operation at this position is. */
function damageableNumber(operations: readonly RecordedOperation[], position: number): number {
  return operations.slice(0, position).filter(({ operation }) => operation === 'get').length;
}

/** What this agent's states are told apart by. (Started twice for each round, `find` and `diff` would take longer than the restores.) */
function treeIn(folder: string): unknown[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .toSorted()
    .map((path) => {
      const { mode, mtimeNs, uid, gid } = lstatSync(join(folder, path), { bigint: true });
      const contents =
        (Number(mode) & constants.S_IFMT) === constants.S_IFREG && sha256Hex(readFileSync(join(folder, path)));
      return [path, mode, mtimeNs, uid, gid, contents];
    });
}

describe('three backends under guard', () => {
  const NAMES = ['a', 'b', 'c'] as const;
  type Name = (typeof NAMES)[number];
  const noise = seededRandom('torture agent');
  let agent: TestAgent;
  /** a and b hold two snapshots, c the first. */
  let baseline: Map<string, Map<string, Uint8Array>>;
  /** A copy of the state as it was at each snapshot. */
  let trees: string[];
  let runs = 0;

  beforeAll(async () => {
    agent = await makeAgent({ seed: 'torture', backends: NAMES });
    trees = [0, 1, 2].map((i) => join(agent.folder, `tree-${i}`));
    const grow = (i: number) => {
      mkdirSync(join(agent.state, 'memory'), { recursive: true });
      writeFileSync(join(agent.state, 'memory', `${i}.md`), noise.bytes(20_000));
      writeFileSync(join(agent.state, 'session.jsonl'), noise.bytes(400_000));
    };
    const keep = (i: number) => execFileSync('cp', ['-a', agent.state, trees[i] ?? '']);
    grow(0);
    await agent.backup();
    keep(0);
    grow(1);
    const away = storeOf(agent, 'c');
    agent.stores.delete('c');
    await agent.backup();
    agent.stores.set('c', away);
    keep(1);
    baseline = await contentsOf(agent);
    for (const folder of Object.values(agent.folders)) cpSync(folder, `${folder}.kept`, { recursive: true });
    grow(2);
    keep(2);
  });
  afterAll(() => agent[Symbol.asyncDispose]());

  async function start(): Promise<void> {
    await putBack(agent, baseline);
    for (const folder of Object.values(agent.folders)) {
      rmSync(folder, { recursive: true, force: true });
      cpSync(`${folder}.kept`, folder, { recursive: true });
    }
  }

  /** Time stands still while there is work to do, and goes by while a backend is silent. */
  async function through<T>(clock: FakeClock, work: Promise<T>): Promise<T> {
    let isSettled = false;
    const end = () => void (isSettled = true);
    work.then(end, end);
    while (!isSettled) {
      await clock.advance(NAMES.some((name) => storeOf(agent, name).stalled > 0) ? 500 : 0);
      if (clock.monotonic() > 3_600_000) throw new Error('a hang: an hour has gone by');
    }
    return work;
  }

  const RUNS = {
    backup: async (clock: FakeClock) => {
      const { backends } = await through(clock, agent.backup({ require: 2 }, guardedSeams(clock)));
      return backends.filter(({ state }) => state === 'committed').map(({ name }) => name);
    },
    restore: async (clock: FakeClock) => {
      const target = join(agent.folder, `out-${++runs}`);
      const secret = { kind: 'root', root: agent.root } as const;
      const options = { backends: agent.addresses, secret, snapshot: 'latest', target, paths: [] };
      const result = await through(clock, restore(options, agent.seams(guardedSeams(clock))));
      expect(result).toMatchObject({ complete: true, lost: [] });
      expect(treeIn(target)).toEqual(treeIn(trees[1] ?? ''));
      rmSync(target, { recursive: true });
      return [];
    },
    sync: async (clock: FakeClock) => {
      const { access, signer, folders, addresses } = agent;
      const options = { backends: addresses, access: access.writer, signer, host: 'h', folders, refill: [] };
      await through(clock, sync(options, agent.seams(guardedSeams(clock))));
      return [];
    },
  };
  type Run = keyof typeof RUNS;

  function guardedSeams(clock: FakeClock) {
    const openBackend = async ({ name }: { name: string }) => timed(guard(storeOf(agent, name), name, clock), clock);
    return { clock, openBackend };
  }

  /**
   * Names say what the bytes are, nothing that was there is missing, and what shows a snapshot has all that belongs to it. The newest of one that
   * committed it is restored from it alone.
   */
  async function expectSound(what: string, committed: readonly string[]): Promise<void> {
    const contents = new Map<string, Map<string, Uint8Array>>();
    for (const name of NAMES) {
      const { inner } = storeOf(agent, name);
      contents.set(name, await contentOf(inner));
      agent.stores.set(name, new FaultyBackend(inner, { name }));
    }
    const isData = (key: string) => /^(packs|index)\//.test(key);
    const before = [...(baseline.get('a')?.keys() ?? [])];
    const now = new Set([...contents.values()].flatMap((content) => [...content.keys()]));
    for (const [name, content] of contents) {
      for (const [key, bytes] of content) {
        const parsed = parseKey(key);
        expect(parsed, `${what}: ${key} on ${name}`).toBeDefined();
        if (parsed && ['pack', 'index', 'keys', 'secrets'].includes(parsed.kind) && 'id' in parsed)
          expect(sha256Hex(bytes), `${what}: ${key} on ${name}`).toBe(parsed.id);
      }
      const snapshots = [...content.keys()].filter((key) => key.startsWith('snapshots/')).length;
      if (committed.includes(name)) expect(snapshots, `${what}: ${name} holds what it committed`).toBe(3);
      const needed = [...(baseline.get(name)?.keys() ?? [])];
      if (snapshots === 2) needed.push(...before.filter(isData));
      if (snapshots === 3) needed.push(...[...now].filter(isData));
      expect(
        needed.filter((key) => !content.has(key)),
        `${what}: what ${name} lacks`,
      ).toEqual([]);
    }
    const from = committed[runs % committed.length];
    if (from === undefined) return;
    const target = join(agent.folder, `out-${++runs}`);
    const result = await agent.restore(target, { backends: agent.addresses.filter(({ name }) => name === from) });
    expect(result, what).toMatchObject({ complete: true, lost: [], warnings: [] });
    expect(treeIn(target)).toEqual(treeIn(trees[2] ?? ''));
    rmSync(target, { recursive: true });
  }

  /** What can be planned for a run so that it must fire: the operations of a run without faults. */
  async function operationsOf(run: Run): Promise<Record<Name, RecordedOperation[]>> {
    await start();
    await RUNS[run](newClock());
    const operations = { a: [], b: [], c: [] } as Record<Name, RecordedOperation[]>;
    for (const name of NAMES) operations[name] = [...storeOf(agent, name).operations];
    return operations;
  }

  test.each<[Run, number]>([
    ['backup', 24],
    ['restore', 24],
    ['sync', 24],
  ])('%s survives faults on all of them', { timeout: 120_000 }, async (run, rounds) => {
    const clean = await operationsOf(run);
    const chance = seededRandom(`torture ${run}`);
    const pick = <T>(things: readonly T[]): T => {
      const [a = 0, b = 0] = chance.bytes(2);
      const thing = things[(a * 256 + b) % things.length];
      if (thing === undefined) throw new Error('nothing to pick from');
      return thing;
    };
    const numberOf = (name: Name, operation: Operation) =>
      clean[name].filter((one) => one.operation === operation).length;
    for (let round = 0; round < rounds; round++) {
      await start();
      // One backend meets anything, at any operation; the others what a repetition survives.
      const struck = NAMES[round % NAMES.length] ?? 'a';
      const kind = KINDS[Math.floor(round / NAMES.length) % KINDS.length] ?? '';
      const plans: string[] = [];
      for (const name of NAMES) {
        // Where one has dropped out, the others keep the record of the run: none is asked to delete it.
        const asked = clean[name].filter((one) => name === struck || one.operation !== 'delete');
        const operation = isOfGet(kind) && name === struck ? 'get' : pick(asked).operation;
        const chosen = name === struck ? kind : pick(['refused for now', 'done, and the answer lost for now']);
        // Others may be asked less when the one that is struck serves more; their first operations are always the same.
        const nth = name === struck ? 1 + ((chance.bytes(1)[0] ?? 0) % numberOf(name, operation)) : 1;
        const times = chosen.endsWith('for now') ? RETRY.tries - 1 : 1;
        storeOf(agent, name).plan(faultOf(chosen, { on: operation, nth, times: name === struck ? 1 : times }));
        plans.push(`${name}: ${operation} ${nth} ${chosen}`);
      }
      const what = `${run} ${round} (${plans.join('; ')})`;
      const clock = newClock();
      const committed = await RUNS[run](clock).catch((error: unknown) => {
        if (isHoldfastError(error)) throw new Error(`${what}: ${error.message}`, { cause: error });
        throw error;
      });
      try {
        count(...NAMES.map((name) => storeOf(agent, name)));
      } catch (error) {
        throw new Error(what, { cause: error });
      }
      if (run === 'backup') expect(committed.length, what).toBeGreaterThanOrEqual(2);
      await expectSound(what, committed);
    }
  });
});
