/** Each kind of harm makes exactly the check fail that is for it: planted in the agent and saved, and planted in what was restored. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import { BASELINE } from '../../src/drill/past.ts';
import { condemn, timestamp } from '../../src/repository/repository.ts';
import { aheadClock, packKeysOf, storeOf } from '../operations/support.ts';
import { hasTool, isRoot } from '../state/tools.ts';
import {
  BUILT_IN,
  checkIn,
  drilledAgent,
  failures,
  keep,
  recordOf,
  scenarioIn,
  scenarioOf,
  withDatabase,
} from './support.ts';

const agent = await drilledAgent({ storage: 'memory' });
const putBack = await keep(agent);
afterEach(putBack);
afterAll(() => agent[Symbol.asyncDispose]());

const OTHER_KEY = `${'7b'.repeat(32)}\n`;
const ONLY = { 'lost-host': (name: string) => ({ 'lost-host': [name] }) };
const SQL = 'DELETE FROM messages WHERE id > 28';

describe('a harm done to the agent and saved', () => {
  const { state } = agent;
  const cases: [string, string, RegExp, () => void][] = [
    [
      'a key of its own made anew',
      'agent-keys',
      /keys\/agent\.key holds the key .*, and snapshot .* has/,
      () => writeFileSync(join(state, 'keys/agent.key'), OTHER_KEY),
    ],
    [
      'a memory file cut short',
      'memory',
      /memory\/2026-01-05\.md has 300 bytes, and snapshot .* has 434/,
      () => execFileSync('truncate', ['-s', '300', join(state, 'memory/2026-01-05.md')]),
    ],
    [
      'a log cut short',
      'memory',
      /current\.jsonl has 8 bytes/,
      () => execFileSync('truncate', ['-s', '8', join(state, 'sessions/current.jsonl')]),
    ],
    [
      '12 messages missing from a database',
      'databases',
      /has 28 rows in table messages, and had 40 in snapshot/,
      () => withDatabase(state, (database) => database.exec(SQL)),
    ],
    [
      'a blank template in place of MEMORY.md',
      'scaffold',
      /MEMORY\.md is a blank template/,
      () => writeFileSync(join(state, 'MEMORY.md'), '# MEMORY.md\n\n<!-- write here -->\n'),
    ],
    [
      'a JSON file that is torn',
      'parse',
      /settings\.json does not parse/,
      () => execFileSync('truncate', ['-s', '20', join(state, 'settings.json')]),
    ],
    [
      'the newest memory gone',
      'memory',
      /2026-01-05\.md, the newest of its kind in .*, is gone/,
      () => execFileSync('rm', [join(state, 'memory/2026-01-05.md')]),
    ],
  ];

  test.each(cases)('%s: %s', async (_what, check, detail, plant) => {
    plant();
    await agent.save();
    // What it writes from then on does not make it good.
    writeFileSync(join(agent.state, 'notes.txt'), 'more\n');
    await agent.save();
    const result = await agent.drill(['lost-host']);
    expect(failures(result)).toEqual(ONLY['lost-host'](check));
    expect(checkIn(result, 'lost-host', check).detail).toMatch(detail);
    expect(result.ok).toBe(false);
  });

  test('is right again when somebody says so, by the tag baseline', async () => {
    withDatabase(agent.state, (database) => database.exec(SQL));
    await agent.save();
    expect(failures(await agent.drill(['lost-host']))).toEqual({ 'lost-host': ['databases'] });
    await annotateSnapshot(
      {
        backends: agent.addresses,
        access: agent.access.writer,
        signer: agent.signer,
        folders: agent.folders,
        host: 'test-host',
        snapshot: 'latest',
        tags: { add: [BASELINE], remove: [] },
      },
      agent.seams(),
    );
    expect(failures(await agent.drill(['lost-host']))).toEqual({});
  });
});

describe('a harm around an agent that is well', () => {
  test('another key in place of the agent: identity', async () => {
    const record = { ...recordOf(agent), identityFile: { path: 'identity.key', publicKey: 'ab'.repeat(32) } };
    const result = await agent.drill(['lost-host'], { record });
    expect(failures(result)).toEqual({ 'lost-host': ['identity'] });
    expect(result.scenarios[0]?.identity.continuous).toBe(false);
  });

  test('a key made anew that no backup has seen yet: agent-keys', async () => {
    writeFileSync(join(agent.state, 'keys/agent.key'), OTHER_KEY);
    const result = await agent.drill(['lost-host']);
    expect(failures(result)).toEqual({ 'lost-host': ['agent-keys'] });
    expect(checkIn(result, 'lost-host', 'agent-keys').detail).toContain('the live state has');
  });

  test('an old snapshot presented as the newest: newest', async () => {
    for (const name of ['a', 'b']) {
      const store = storeOf(agent, name).inner;
      const keys: string[] = [];
      for await (const { key } of store.list('snapshots/')) keys.push(key);
      const repository = await agent.open();
      const { newest } = await repository.newestSnapshot(new Map(), await repository.listSnapshots());
      if (newest && keys.includes(newest.key) && keys.length === 2) await store.delete(newest.key);
    }
    const result = await agent.drill(['lost-host', 'lost-backend:a']);
    expect(failures(result)).toEqual({ 'lost-host': ['newest'], 'lost-backend:a': ['newest'] });
  });

  test('a backend that answers and has lost any pack at all, of older snapshots too: backends', async () => {
    const { inner } = storeOf(agent, 'b');
    const keys: string[] = [];
    for await (const { key } of inner.list('packs/')) keys.push(key);
    expect(keys.length).toBeGreaterThan(3);
    const ofOlder: string[] = [];
    for (const key of keys) {
      const bytes = await inner.get(key);
      await inner.delete(key);
      const result = await agent.drill(['lost-backend:a']);
      const found = [...(failures(result)['lost-backend:a'] ?? [])];
      expect([key, found]).toEqual([key, expect.arrayContaining(['backends'])]);
      const { detail } = checkIn(result, 'lost-backend:a', 'backends');
      expect(detail).toContain(`backend b lacks ${key}`);
      if (detail.endsWith('of an older snapshot')) ofOlder.push(key);
      await inner.put(key, bytes);
    }
    // One that is about to be deleted a backend may lack: what joins meanwhile is not given it.
    const [old = ''] = ofOlder;
    await inner.delete(old);
    const packs = [/[0-9a-f]{64}/.exec(old)?.[0] ?? ''] as never;
    const said = { time: timestamp(aheadClock.now()), host: 'keeper', packs, snapshots: [] };
    await condemn(await agent.open(), said, agent.signer, agent.seams());
    expect(failures(await agent.drill(['lost-backend:a']))).toEqual({});
  });

  test.each(['missing', 'damaged'])(
    'a pack that is %s on the backend that is read first: backends, though the recovery heals it',
    async (how) => {
      const { inner } = storeOf(agent, 'a');
      for (const pack of await packKeysOf(agent, 'data')) {
        const bytes = await inner.get(pack);
        await inner.delete(pack);
        if (how === 'damaged')
          await inner.put(
            pack,
            bytes.map((byte, i) => (i > bytes.length / 3 ? byte ^ 1 : byte)),
          );
      }
      const names = ['lost-host', 'lost-all-but:b', 'rotated-key', 'crash-in-backup'];
      const failed = failures(await agent.drill(names));
      const expected = how === 'damaged' ? ['lost-host'] : ['lost-host', 'rotated-key', 'crash-in-backup'];
      for (const name of expected) expect([name, failed[name]]).toEqual([name, ['backends']]);
      expect(failed).not.toHaveProperty('lost-all-but:b');
    },
  );

  test.each(['data', 'manifest'] as const)(
    'a backend that answers and has lost a pack of %s: backends',
    async (kind) => {
      for (const pack of await packKeysOf(agent, kind)) await storeOf(agent, 'b').inner.delete(pack);
      const names = ['lost-host', 'lost-backend:a', 'lost-all-but:a', 'damaged-object'];
      const failed = failures(await agent.drill(names));
      expect(failed).toMatchObject({ 'lost-host': ['backends'], 'lost-backend:a': ['backends'] });
      expect(failed).not.toHaveProperty('lost-all-but:a');
      for (const checks of Object.values(failed)) expect(checks).toEqual(['backends']);
    },
  );
});

describe('a harm done to what was restored', () => {
  const deleteRows = `"${process.execPath}" -e "new (require('node:sqlite').DatabaseSync)('agent.sqlite').exec('${SQL}')"`;
  const cases = [
    ['another key in place of the agent', `printf ${OTHER_KEY.trim()} > "$HOLDFAST_DRILL_IDENTITY"`, 'identity'],
    ['a key of its own made anew', `printf ${OTHER_KEY.trim()} > keys/agent.key`, 'agent-keys'],
    ['a key of its own that cannot be read', ': > keys/agent.key', 'agent-keys'],
    ['a memory file cut short', 'truncate -s 300 memory/2026-01-05.md', 'memory'],
    ['12 messages missing', deleteRows, 'databases'],
    ['a blank template', 'echo "# MEMORY.md" > MEMORY.md', 'scaffold'],
    ['a line that is no JSON', 'printf "{oops}\\n" >> sessions/current.jsonl', 'parse'],
    ['another content of the same length', 'sed -i s/works/walks/ notes.txt', 'files'],
    ['a file that is gone', 'rm notes.txt', 'files'],
    ['a file too many', 'touch agent.sqlite-wal', 'files'],
    ['another mode', 'chmod 0777 notes.txt', 'files'],
    ['another time', 'touch -d 2001-01-01 notes.txt', 'files'],
    ['another mode of a folder', 'chmod 0711 memory', 'files'],
    ...(isRoot ? [['another owner', 'chown 12345 notes.txt', 'files'] as const] : []),
    ...(isRoot && hasTool('setfattr')
      ? [['an attribute that is gone', 'setfattr -x user.origin notes.txt', 'files'] as const]
      : []),
  ] as const;

  test('makes exactly one check fail, whatever it is', async () => {
    if (isRoot && hasTool('setfattr')) {
      execFileSync('setfattr', ['-n', 'user.origin', '-v', 'the workshop', join(agent.state, 'notes.txt')]);
      await agent.save();
    }
    const scenarios = await Promise.all(
      cases.map(([what, run], i) =>
        scenarioOf(JSON.stringify({ name: `harm-${i}`, title: what, after: [{ step: 'tamper', run }] })),
      ),
    );
    const result = await agent.drill([], { scenarios: [...scenarios, ...BUILT_IN.slice(0, 1)] });
    const expected = cases.map(([, , check], i) => [`harm-${i}`, [check]]);
    expect(failures(result)).toEqual(Object.fromEntries(expected));
  });
});

describe('a snapshot that is not what it should be', () => {
  const own = (simulate: object, more: object = {}) =>
    scenarioOf(JSON.stringify({ name: 'own', title: 'of the user', simulate: [simulate], ...more }));

  test('that is hidden by every backend is missed by number, and what is older comes back', async () => {
    const result = await agent.drill([], { scenarios: [await own({ step: 'hide', what: 'newest' })] });
    expect(failures(result)).toEqual({ own: ['newest'] });
    expect(scenarioIn(result, 'own').snapshot?.seq).toBe(0);
    expect(checkIn(result, 'own', 'newest').evidence).toMatchObject({ presentedNumber: 0, rememberedNumber: 1 });
  });

  test('that is bad like all before it: none passes, and each is told with what it lacks', async () => {
    const after = [{ step: 'tamper', run: 'rm MEMORY.md' }];
    const scenario = await own({ step: 'damage', what: 'newest' }, { recover: { snapshot: 'older' }, after });
    const result = await agent.drill([], { scenarios: [scenario] });
    expect(failures(result)).toEqual({ own: ['fallback'] });
    const passedOver = checkIn(result, 'own', 'fallback').evidence['passedOver'];
    expect(passedOver).toEqual([
      expect.stringMatching(/^snapshot .* \(number 1\): /) as string,
      expect.stringMatching(/^snapshot .* \(number 0\): files: MEMORY\.md is not there/) as string,
    ]);
  });
});
