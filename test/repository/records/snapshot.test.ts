import { describe, expect, test } from 'vitest';
import { ageRecipientOf, newAgeIdentity, sealAge } from '../../../src/crypto/age.ts';
import { signEnvelope } from '../../../src/crypto/dsse.ts';
import { publicKeyOf } from '../../../src/crypto/ed25519.ts';
import { sha256Hex } from '../../../src/crypto/hash.ts';
import { SNAPSHOT_PAYLOAD_TYPE, type SnapshotRecord } from '../../../src/repository/records/format.ts';
import { snapshotKey, type SnapshotId } from '../../../src/repository/records/object-name.ts';
import { checkChain, openSnapshot, sealSnapshot, type Snapshot } from '../../../src/repository/records/snapshot.ts';
import { failure, seededRandom } from '../../crypto/support.ts';

const random = seededRandom('snapshot');
const signerOf = (fill: number) => {
  const seed = new Uint8Array(32).fill(fill);
  return { seed, publicKey: publicKeyOf(seed) };
};
const agent = signerOf(1);
const stranger = signerOf(2);
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const identity = await newAgeIdentity(random);
const recipients = [await ageRecipientOf(identity)];
const repository = 'cd'.repeat(16);

function recordOf(over: Partial<SnapshotRecord> = {}): SnapshotRecord {
  return {
    version: 1,
    critical: [],
    repository,
    agent: { handle: 'ada', publicKey: hexOf(agent.publicKey) },
    seq: 0,
    parent: null,
    time: '2026-01-31T12:00:00.000Z',
    host: 'h',
    sources: [{ root: '/x' }],
    manifest: { chunks: [], bytes: 10, entries: 1 },
    counts: { files: 0, folders: 1, symlinks: 0, bytes: 0 },
    tags: [],
    tool: 'holdfast/1',
    config: '',
    ...over,
  };
}

const seal = (record: object, signer = agent) => sealSnapshot(record as SnapshotRecord, signer, recipients, random);
const always = ({ publicKey }: { publicKey: Uint8Array }) => [
  {
    publicKey: hexOf(publicKey),
    fromMs: Number.NEGATIVE_INFINITY,
    untilMs: Number.POSITIVE_INFINITY,
    lastSeq: Number.POSITIVE_INFINITY,
  },
];
const open = ({ id, bytes }: { id: SnapshotId; bytes: Uint8Array }, identities = [identity]) =>
  openSnapshot(
    bytes,
    { id, key: snapshotKey(Date.parse(recordOf().time), id), generations: always(agent), repository },
    identities,
  );

describe('a snapshot', () => {
  test('comes back as it was', async () => {
    const sealed = await seal(recordOf({ tags: ['a', 'ü'] }));
    expect(await open(sealed)).toEqual({
      id: sealed.id,
      record: recordOf({ tags: ['a', 'ü'] }),
      key: snapshotKey(Date.parse(recordOf().time), sealed.id),
    });
  });

  test('has the hash of its record for an id: it does not depend on how it is encrypted', async () => {
    const [one, two] = [await seal(recordOf()), await seal(recordOf())];
    expect(one.id).toBe(two.id);
    expect(one.id).toBe(sha256Hex(Buffer.from(JSON.stringify(recordOf()))));
    expect(hexOf(one.bytes)).not.toBe(hexOf(two.bytes));
  });

  test('signed by another key is forged, and so is one that names another agent', async () => {
    const forged = await failure(async () => open(await seal(recordOf(), stranger)), 'forged');
    expect(forged.hint).toContain('Do not restore');
    const theirs = { handle: 'eve', publicKey: hexOf(stranger.publicKey) };
    await failure(async () => open(await seal(recordOf({ agent: theirs }), stranger)), 'forged');
    await failure(async () => open(await seal(recordOf({ agent: theirs }))), 'forged');
  });

  test('of another repository is forged', async () => {
    await failure(async () => open(await seal(recordOf({ repository: 'ef'.repeat(16) }))), 'forged');
  });

  test('under the name of another is damaged', async () => {
    const one = await seal(recordOf());
    const two = await seal(recordOf({ seq: 1, parent: one.id }));
    await failure(() => open({ id: one.id, bytes: two.bytes }), 'damaged');
  });

  test('for other recipients does not open', async () => {
    await failure(async () => open(await seal(recordOf()), [await newAgeIdentity(random)]), 'wrong_key');
  });

  test('of a newer version or with critical fields is refused as such', async () => {
    await failure(async () => open(await seal({ ...recordOf(), version: 2 })), 'unsupported_format');
    await failure(async () => open(await seal({ ...recordOf(), critical: ['x'] })), 'unsupported_format');
    const error = await failure(
      async () => open(await seal({ ...recordOf(), critical: ['special-files', 'x'] })),
      'unsupported_format',
    );
    expect(error.message).toContain('["x"]');
    expect((await open(await seal({ ...recordOf(), critical: ['special-files'] }))).record.critical).toHaveLength(1);
  });

  test('with any bit turned is refused', async () => {
    const sealed = await seal(recordOf());
    for (let at = 0; at < sealed.bytes.length; at += 13) {
      const bytes = sealed.bytes.slice();
      bytes[at] = (bytes[at] ?? 0) ^ 4;
      // In the age header a turned bit may make the recipient another's.
      await failure(() => open({ id: sealed.id, bytes }), 'damaged', 'wrong_key');
    }
  });

  test('cut short or empty is refused', async () => {
    const sealed = await seal(recordOf());
    for (const length of [0, 1, 200, sealed.bytes.length - 1])
      await failure(() => open({ id: sealed.id, bytes: sealed.bytes.slice(0, length) }), 'damaged');
  });

  test('that is no envelope, or one of another type, is refused', async () => {
    const payload = Buffer.from(JSON.stringify(recordOf()));
    const id = sha256Hex(payload) as SnapshotId;
    const sealed = async (plain: Uint8Array) => ({ id, bytes: (await sealAge(plain, recipients, random)).bytes });
    await failure(async () => open(await sealed(payload)), 'damaged');
    await failure(async () => open(await sealed(signEnvelope('text/plain', payload, [agent]))), 'damaged');
    await open(await sealed(signEnvelope(SNAPSHOT_PAYLOAD_TYPE, payload, [agent])));
  });

  test('whose signed payload is no record is refused', async () => {
    const payload = Buffer.from('[]');
    const id = sha256Hex(payload) as SnapshotId;
    const { bytes } = await sealAge(signEnvelope(SNAPSHOT_PAYLOAD_TYPE, payload, [agent]), recipients, random);
    await failure(() => open({ id, bytes }), 'damaged');
  });
});

describe('the chain', () => {
  const idOf = (n: number | string) => sha256Hex(Buffer.from(`${n}`)) as SnapshotId;
  const snapshot = (seq: number, parent: SnapshotId | null, id = idOf(seq)): Snapshot => ({
    id,
    key: `snapshots/${seq}`,
    record: recordOf({ seq, parent }),
  });
  const link = (seq: number) => snapshot(seq, seq === 0 ? null : idOf(seq - 1));
  const problems = (snapshots: Snapshot[]) =>
    checkChain(snapshots).map(({ snapshot: { record }, problem }) => `${record.seq}: ${problem}`);

  test('of snapshots that follow each other is whole', () => {
    expect(checkChain([])).toEqual([]);
    expect(checkChain([link(0), link(1), link(2), link(3)])).toEqual([]);
  });

  test('shows a snapshot that is missing in the middle, at its child', () => {
    expect(problems([link(0), link(1), link(3)])).toEqual([`3: its parent ${idOf(2).slice(0, 8)} is missing`]);
  });

  test('shows that its beginning is missing', () => {
    expect(problems([link(2), link(3)])).toEqual([`2: its parent ${idOf(1).slice(0, 8)} is missing`]);
  });

  test('shows two snapshots of one number', () => {
    const twin = snapshot(1, idOf(0), idOf('twin'));
    expect(problems([link(0), link(1), twin])).toEqual([expect.stringContaining('1: it has the same number (1)')]);
  });

  test('shows a snapshot that names another parent than the one before it', () => {
    expect(problems([link(0), snapshot(1, idOf('other'))])).toEqual([expect.stringContaining('is missing')]);
  });

  test('shows a second beginning', () => {
    expect(problems([link(0), snapshot(1, null)])).toEqual(['1: it has no parent']);
    expect(problems([snapshot(0, idOf(7))])).toHaveLength(1);
    expect(problems([snapshot(1, null)])).toHaveLength(1);
  });

  test('shows a number that was skipped', () => {
    expect(problems([link(0), snapshot(2, idOf(0))])).toHaveLength(1);
  });
});
