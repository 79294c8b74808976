/** Every kind of object, harmed in every way: `verify` finds it at the level that docs/verify.md says, and repairs it where another backend has it. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { ageRecipientOf, newAgeIdentity } from '../../src/crypto/age.ts';
import { HoldfastError } from '../../src/errors.ts';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import { addRecipient } from '../../src/operations/recipients.ts';
import { EXIT_CODE_OF } from '../../src/cli/exit-codes.ts';
import { condemn, parseKey, putVault, storeDrill, type ScrubLevel } from '../../src/repository/repository.ts';
import { seededRandom } from '../crypto/support.ts';
import { contentsOf, makeAgent, newCase, packKeysOf, storeOf } from './support.ts';
import { verifyAs } from './verify-support.ts';

const random = seededRandom('verify sweep');
const agent = await makeAgent({
  seed: 'verify sweep',
  fill: (state) => {
    mkdirSync(join(state, 'folder'));
    for (const path of ['old', 'folder/older']) writeFileSync(join(state, path), random.bytes(3000));
  },
});
afterAll(() => agent[Symbol.asyncDispose]());
const first = await agent.backup();
writeFileSync(join(agent.state, 'new'), random.bytes(2500));
const second = await agent.backup();
const { addresses: backends, signer, folders, writerKey } = agent;
const secret = { kind: 'root', root: agent.root } as const;
for (const note of ['one', 'another']) {
  const said = { host: 'h', snapshot: first.snapshot.id, note };
  await annotateSnapshot({ backends, access: agent.access.writer, signer, folders, ...said }, agent.seams());
  const recipient = await ageRecipientOf(await newAgeIdentity(random));
  await addRecipient({ backends, secret, folders, repository: writerKey.repositoryId, recipient }, agent.seams());
  await verifyAs(agent, { level: 'objects' });
  const repository = await agent.open();
  await putVault(repository.mirror, random.bytes(300), undefined);
  for (const time of ['2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z'])
    await condemn(repository, { time, host: 'h', packs: [], snapshots: [] }, signer, { random });
  const told = { time: '2026-01-03T00:00:00.000Z', host: 'h', result: { note } };
  await storeDrill(repository, told, signer, { random });
}
const repository = await agent.open();
const pristine = await contentsOf(agent);
const content = pristine.get('a') ?? new Map<string, Uint8Array>();
const at = (key: string) => content.get(key) ?? new Uint8Array();
const stranger = await makeAgent({ seed: 'verify sweep stranger', backends: ['x'] });
const strange = (await contentsOf(stranger)).get('x') ?? new Map<string, Uint8Array>();
await stranger[Symbol.asyncDispose]();

const ofKind = (kind: string, among = content) =>
  [...among.keys()].filter((key) => parseKey(key)?.kind === kind).sort();
const pair = ([one = '', other = '']: readonly string[]) => ({ key: one, other: at(other) });
const strangeOf = (kind: string) => strange.get(ofKind(kind, strange)[0] ?? '') ?? new Uint8Array();
const grants = ofKind('secrets').filter((key) => repository.keys.grants?.some((id) => key.includes(id)));
const secrets = ofKind('secrets').find((key) => key.includes(repository.keys.secrets)) ?? '';
const newestFirst = ofKind('snapshot').toSorted((a) => (a.includes(first.snapshot.id) ? -1 : 1));

interface Kind {
  key: string;
  other: Uint8Array;
  /** Of those that need it. */
  snapshots?: readonly string[];
  paths?: boolean;
}
const [one, two] = [first.snapshot.id, second.snapshot.id];
const { index } = await repository.loadIndex();
const snapshots = (await repository.snapshots()).snapshots;
const packOf = (chunk: string | undefined, keys: readonly string[]) => {
  const id = index.packs[index.locate(chunk as never)?.pack ?? -1]?.id ?? '?';
  return keys.find((key) => key.includes(id)) ?? '';
};
const manifestKeys = await packKeysOf(agent, 'manifest');
const dataKeys = await packKeysOf(agent, 'data');
let oldChunk: string | undefined;
for await (const entry of repository.entries(snapshots[0] as never, repository.reader(index)))
  if (entry.path === 'old' && entry.type === 'file') oldChunk = entry.chunks[0];
const oldPack = packOf(oldChunk, dataKeys);
const secondList = packOf(snapshots[1]?.record.manifest.chunks[0], manifestKeys);
const oldIndex: string[] = [];
for (const key of ofKind('index')) {
  const packs = await repository.checkIndex(key.slice('index/'.length, -'.age'.length), at(key));
  if (packs.some(({ id }) => oldPack.includes(id))) oldIndex.unshift(key);
  else oldIndex.push(key);
}
const KINDS: Record<string, Kind> = {
  '`holdfast.json`': { key: 'holdfast.json', other: strangeOf('repository') },
  'key record': pair(ofKind('keys').slice(1)),
  secrets: { key: secrets, other: strangeOf('secrets') },
  grant: pair(grants),
  'wrapped identity': { key: repository.state.entry.identityObject, other: strangeOf('identity') },
  vault: pair(ofKind('vault')),
  'pack of contents': { ...pair([oldPack, secondList]), snapshots: [one, two], paths: true },
  'pack of lists of files': { ...pair([secondList, oldPack]), snapshots: [two] },
  index: { ...pair(oldIndex), snapshots: [one, two], paths: true },
  snapshot: { ...pair(newestFirst), snapshots: [one] },
  annotation: { ...pair(ofKind('annotation')), snapshots: [one] },
  'record of verification': pair(ofKind('verified')),
  'record of a drill': pair(ofKind('drill')),
  'run record': pair(ofKind('run')),
  'condemned record': pair(ofKind('condemned')),
};
const HARMS: Record<string, (bytes: Uint8Array, other: Uint8Array) => Uint8Array | undefined> = {
  removed: () => undefined,
  truncated: (bytes) => bytes.slice(0, bytes.length >> 1),
  'a bit flipped': (bytes) => bytes.map((byte, i) => (i === bytes.length >> 1 ? byte ^ 1 : byte)),
  'another in its place': (_, other) => other,
};

const page = readFileSync(new URL('../../docs/verify.md', import.meta.url), 'utf8');
const table = page.slice(page.indexOf('| object ')).split('\n\n')[0] ?? '';
const rows = [...table.matchAll(/^\| (.+?) \|$/gm)].map(([, row = '']) => row.split('|').map((cell) => cell.trim()));
const head = rows.find(([name]) => name === 'object') ?? [];
/** The level at which the page says that it is found; undefined where it says that it is not. */
function claimed(kind: string, harm: string): ScrubLevel | undefined {
  const cell = rows.find(([name]) => name === kind)?.[head.indexOf(harm)];
  if (cell !== 'listing' && cell !== 'objects' && cell !== 'chunks' && cell !== '–')
    throw new Error(`no ${kind}, ${harm}`);
  return cell === '–' ? undefined : cell;
}

test('the page has every kind of object there is, and every kind is there', () => {
  expect(Object.keys(KINDS)).toEqual(rows.slice(rows.indexOf(head) + 2).map(([name]) => name));
  for (const { key } of Object.values(KINDS)) expect(at(key).length, key).toBeGreaterThan(0);
  expect(new Set(Object.values(KINDS).map(({ key }) => key)).size).toBe(Object.keys(KINDS).length);
  const named = new Set([...content.keys()].map((key) => parseKey(key)?.kind));
  expect(new Set(Object.values(KINDS).map(({ key }) => parseKey(key)?.kind))).toEqual(named);
});

let target: string;
beforeEach(async () => {
  ({ target } = await newCase(agent, pristine));
});

async function harm(key: string, how: keyof typeof HARMS, other: Uint8Array, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const { inner } = storeOf(agent, name);
    const bytes = HARMS[how]?.(Uint8Array.from(at(key)), other);
    await inner.delete(key);
    if (bytes) await inner.put(key, Uint8Array.from(bytes));
  }
}
const CASES = Object.keys(KINDS).flatMap((kind) => Object.keys(HARMS).map((how) => [kind, how] as const));

describe.each(CASES)('%s, %s', (kind, how) => {
  const { key, other, snapshots: touched = [], paths = false } = KINDS[kind] as Kind;

  test('on one of two backends: found, said what it means, and healed', async () => {
    await harm(key, how, other, ['a']);
    const level = claimed(kind, how);
    if (level === undefined) {
      // It comes and goes by itself: that one backend has it no more is as it should be.
      expect(await verifyAs(agent, { level: 'chunks', signer: undefined })).toMatchObject({
        damaged: [],
        complete: true,
      });
      return;
    }
    const found = await verifyAs(agent, {
      level,
      repair: true,
      signer: undefined,
      folders: undefined,
    });
    const mine = found.damaged.filter((damage) => damage.key === key);
    expect(mine, JSON.stringify(found.damaged)).toMatchObject([{ backend: 'a', repaired: true, elsewhere: ['b'] }]);
    expect(mine[0]?.snapshots.toSorted()).toEqual(touched.toSorted());
    if (paths) expect(mine[0]?.paths.toSorted()).toEqual(['folder/older', 'old']);
    expect(found.damaged.filter(({ backend, repaired }) => backend !== 'a' || !repaired)).toEqual([]);
    expect(found.complete).toBe(true);
    expect(await verifyAs(agent, { level: 'objects', signer: undefined })).toMatchObject({
      damaged: [],
      complete: true,
    });
    expect(Buffer.compare(await storeOf(agent, 'a').inner.get(key), at(key))).toBe(0);
  });

  test('on the only backend: found, and what does not need it comes back', async () => {
    await harm(key, how, other, ['a']);
    const level = claimed(kind, how === 'removed' ? 'removed everywhere' : how);
    const only = backends.slice(0, 1);
    const found = await verifyAs(agent, { backends: only, level: level ?? 'chunks', signer: undefined }).catch(
      (error: unknown) => {
        if (!(error instanceof HoldfastError)) throw error;
        return error;
      },
    );
    // Without these no repository is there to be looked into: that is the answer then.
    const isKey = ['`holdfast.json`', 'key record', 'secrets'].includes(kind);
    if (found instanceof HoldfastError) {
      expect(isKey, found.message).toBe(true);
      expect([10, 12, 13]).toContain(EXIT_CODE_OF[found.code]);
      return;
    }
    if (level === undefined) expect(found.damaged).toEqual([]);
    else expect(found.damaged.length).toBeGreaterThan(0);
    if (isKey) return;
    const id = touched.includes(two) ? one : two;
    if (touched.length === 2) {
      const { lost } = await agent.restore(target, { backends: only, snapshot: two });
      expect(lost.toSorted()).toEqual(['folder/older', 'old']);
    } else {
      expect(await agent.restore(target, { backends: only, snapshot: id })).toMatchObject({ lost: [], complete: true });
    }
  });
});
