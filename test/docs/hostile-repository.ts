/** Repositories as no holdfast makes them: of an agent that lies, and of somebody who can write to its backend. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { sealAge } from '../../src/crypto/age.ts';
import { sha256Hex } from '../../src/crypto/hash.ts';
import { agentKey, restoreIdentity } from '../../src/identity/root.ts';
import { openMirror } from '../../src/operations/backends.ts';
import { type SnapshotRecord } from '../../src/repository/records/format.ts';
import { indexKey, packKey, type PackId } from '../../src/repository/records/object-name.ts';
import { sealIndex } from '../../src/repository/packs/index-object.ts';
import { openRepository, type Repository } from '../../src/repository/repository.ts';
import { run, seededRandom } from '../crypto/support.ts';
import { seams, type Lab } from './lab.ts';

const random = seededRandom('hostile repository');

/** The repository of `lab`, or a copy of it in `folder`. */
export async function withRepository<T>(
  lab: Lab,
  use: (repository: Repository) => Promise<T>,
  folder = lab.backends[0],
): Promise<T> {
  await using mirror = await openMirror([{ name: 'a', url: `file://${folder}` }], seams);
  const identities = [restoreIdentity(await lab.root(), 'x25519')];
  return await use(await openRepository(mirror, { kind: 'restore', identities }, seams));
}

/** Puts a snapshot of a manifest that no scan would make, signed all the same, into a copy of the repository of `lab`. */
export function commit(lab: Lab, folder: string, lines: readonly string[]): Promise<void> {
  const work = async (repository: Repository): Promise<void> => {
    const { index } = await repository.loadIndex();
    const writer = repository.writer(index, seams);
    const bytes = Buffer.from(`${lines.join('\n')}\n`);
    const chunk = writer.add(bytes, 'manifest');
    await writer.flush();
    const { handle, publicKey } = repository.keys.agent;
    const record: SnapshotRecord = {
      version: 1,
      critical: [],
      repository: repository.id,
      agent: { handle, publicKey },
      seq: 0,
      parent: null,
      time: '2026-01-31T23:59:59.000Z',
      host: 'host',
      sources: [{ root: '/' }],
      manifest: { chunks: [chunk], bytes: bytes.length, entries: lines.length },
      counts: { files: 1, folders: 1, symlinks: 0, bytes: 0 },
      tags: [],
      tool: 'test',
      config: '',
    };
    await writer.commit(record, agentKey(await lab.root(), 0));
  };
  return withRepository(lab, work, folder);
}

/** Somebody who can write to the backend and knows the public recipients puts other contents under the id of `real`. */
export function forge(lab: Lab, real: Uint8Array, fake: Uint8Array): Promise<void> {
  return withRepository(lab, async (repository) => {
    const { restore, writer } = repository.keys.recipients;
    const backend = lab.backends[0] ?? '';
    const name = repository.idOf(real);
    writeFileSync(join(lab.folder, name), fake);
    const tar = run('tar', ['-c', '-C', lab.folder, '--format', 'ustar', name]);
    const frame = zstdCompressSync(tar);
    const { bytes, payloadOffset } = await sealAge(frame, restore, random);
    const frames = [{ offset: 0, length: frame.length, tarBytes: tar.length }];
    const chunks = [{ id: name, frame: 0, offset: 512, length: fake.length }];
    const id = sha256Hex(bytes) as PackId;
    const { index } = await repository.loadIndex();
    const old = index.packs[index.locate(repository.idOf(real))?.pack ?? -1];
    mkdirSync(join(backend, 'packs', id.slice(0, 2)), { recursive: true });
    writeFileSync(join(backend, packKey(id)), bytes);
    rmSync(join(backend, packKey(old?.id ?? id)));
    const pack = { id, kind: 'data' as const, storedBytes: bytes.length, payloadOffset, frames, chunks };
    const context = { repository: repository.id, chunkIdKey: random.bytes(32), random };
    const sealed = await sealIndex([pack], { ...context, recipients: [...restore, ...writer] });
    writeFileSync(join(backend, indexKey(sha256Hex(sealed))), sealed);
  });
}
