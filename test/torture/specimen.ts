/** A small repository of every kind of object, made in memory and taken apart: the valid inputs of the parsers. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import type { Backend } from '../../src/backend/backend.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { Mirror } from '../../src/backend/mirror.ts';
import { renderConfig } from '../../src/cli/config.ts';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { ageIdentityFromSeed, ageRecipientOf, openAge, sealAge } from '../../src/crypto/age.ts';
import { parseEnvelope } from '../../src/crypto/dsse.ts';
import { splitSecret } from '../../src/crypto/slip39.ts';
import { parseAgentKey } from '../../src/identity/agent-key.ts';
import { formatDevice } from '../../src/identity/device-key.ts';
import { formatCode } from '../../src/identity/paper-code.ts';
import { parseWordsText, recoveryKey, restoreIdentity } from '../../src/identity/root.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import { backup } from '../../src/operations/backup.ts';
import { init } from '../../src/operations/init.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { noProgress } from '../../src/progress.ts';
import { ANNOTATION_PAYLOAD_TYPE, SNAPSHOT_PAYLOAD_TYPE } from '../../src/repository/records/format.ts';
import { parseKey } from '../../src/repository/records/object-name.ts';
import { openRepository } from '../../src/repository/open.ts';

/** A file under the passphrase `a test passphrase`, at a work factor that costs nothing; made by age. */
async function vault(words: string): Promise<Buffer> {
  const { Encrypter } = await import('age-encryption');
  const writer = new Encrypter();
  writer.setPassphrase('a test passphrase');
  writer.setScryptWorkFactor(2);
  return Buffer.from(await writer.encrypt(words));
}

/** @param folder where the state and the keys are put. */
export async function makeSpecimen(folder: string) {
  const at = (...names: string[]) => join(folder, 'specimen', ...names);
  rmSync(at(), { recursive: true, force: true });
  mkdirSync(at('state', 'folder'), { recursive: true });
  for (let i = 0; i < 10; i++) writeFileSync(at('state', `note-${i}.md`), `note ${i} `.repeat(i * 100));
  writeFileSync(Buffer.from(at('state', 'not utf-8: \xff'), 'latin1'), 'x');
  symlinkSync('note-1.md', at('state', 'link'));
  chmodSync(at('state', 'note-2.md'), 0o600);
  const store: Backend = createMemory('specimen');
  const kept: Backend = { ...store, [Symbol.asyncDispose]: async () => {} };
  const seams: Seams = {
    clock: systemClock,
    random: systemRandom,
    progress: noProgress,
    openBackend: async () => kept,
  };
  const files = {
    identity: at('identity.key'),
    writerKey: at('writer.key'),
    config: at('holdfast.yaml'),
    words: at('words.txt'),
  };
  const folders = { state: at('local'), cache: at('cache') };
  const backends = [{ name: 'specimen', url: `file://${at('nowhere')}` }];
  const { identity: keyFile, writerKey: writerFile } = files;
  const config = renderConfig({
    handle: 'ada',
    identity: keyFile,
    writerKey: writerFile,
    root: at('state'),
    backends,
    require: 1,
  });
  await init(
    {
      handle: 'ada',
      backends,
      stateRoot: at('state'),
      kind: 'x25519',
      files,
      foldersOf: () => folders,
      configText: config,
    },
    seams,
  );
  const words = readFileSync(files.words, 'utf8');
  const identity = readFileSync(files.identity, 'utf8');
  const root = parseWordsText(words);
  const signer = parseAgentKey(identity);
  const writerKey = parseWriterKey(readFileSync(files.writerKey, 'utf8'));
  const restoreKey = restoreIdentity(root, 'x25519');
  const state = { root: at('state'), exclude: [], keepOut: [] };
  const result = await backup(
    {
      backends,
      writerKey,
      signer,
      state,
      require: 1,
      tags: ['a'],
      host: 'host',
      tool: 'holdfast/test',
      config,
      folders,
    },
    seams,
  );
  const { repositoryId, chunkIdKey, ageIdentity } = writerKey;
  const access = { kind: 'writer', repository: repositoryId, chunkIdKey, identity: ageIdentity } as const;
  const said = { snapshot: 'latest', note: 'a note', tags: { add: ['b'], remove: [] } };
  await annotateSnapshot({ backends, access, signer, folders, host: 'host', ...said }, seams);

  const content = new Map<string, Uint8Array>();
  for await (const { key } of store.list('')) content.set(key, Uint8Array.from(await store.get(key)));
  const of = (kind: string): [string, Uint8Array] => {
    const found = [...content].find(([key]) => parseKey(key)?.kind === kind);
    if (!found) throw new Error(`the specimen has no ${kind}`);
    return found;
  };
  const open = (kind: string) => openAge(of(kind)[1], [restoreKey]);
  const envelope = await open('snapshot');
  const indexPlain = await promisify(zstdDecompress)(await open('index'));
  const repository = await openRepository(
    new Mirror([{ name: 'specimen', backend: kept }]),
    { kind: 'restore', identities: [restoreKey] },
    { clock: systemClock },
  );
  const { index } = await repository.loadIndex();
  const [newest] = (await repository.snapshots()).snapshots;
  if (!newest) throw new Error('the specimen has no snapshot');
  const reader = repository.reader(index);
  const manifestChunks: Uint8Array[] = [];
  for await (const chunk of reader.inOrder(newest.record.manifest.chunks)) manifestChunks.push(Uint8Array.from(chunk));
  const manifest = Buffer.concat(manifestChunks);
  const body = (bytes: Uint8Array) =>
    Buffer.from(
      Buffer.from(bytes)
        .toString('utf8')
        .replace(/,"signatures":.*$/s, '}'),
    );
  const [keysKey, keysBytes] = of('keys');
  const first = JSON.parse(body(keysBytes).toString()) as { recovery: string };
  const follows = { ...first, seq: 1, previous: /-([0-9a-f]{64})\./.exec(keysKey)?.[1], change: 'recipients' };
  const hybrid = ageIdentityFromSeed(systemRandom.bytes(32), 'hybrid');
  const shares = splitSecret(root, [{ threshold: 2, count: 3 }], 1, systemRandom)[0] ?? [];
  return {
    root: { bytes: root, signers: [signer, recoveryKey(root, 0)] },
    content,
    signer,
    writerKey,
    restoreKey,
    words,
    manifest: manifest.toString('utf8').split('\n').filter(Boolean),
    /** Up to the line of the MAC. */
    indexPlain: indexPlain.subarray(0, indexPlain.lastIndexOf(0x0a, indexPlain.length - 2) + 1),
    snapshot: {
      id: result.snapshot.id,
      envelope: Buffer.from(envelope),
      payload: Buffer.from(parseEnvelope(envelope, SNAPSHOT_PAYLOAD_TYPE).payload),
    },
    annotation: Buffer.from(parseEnvelope(await open('annotation'), ANNOTATION_PAYLOAD_TYPE).payload),
    keys: {
      key: keysKey,
      body: body(keysBytes),
      follows: Buffer.from(JSON.stringify(follows)),
      repository: body(content.get('holdfast.json') ?? new Uint8Array()),
      secrets: Buffer.from(await open('secrets')),
    },
    /** What a frame of a pack holds, near enough: blocks of 512 bytes. */
    plain: Buffer.concat([manifest, Buffer.alloc(2048)]),
    paper: {
      config,
      identity,
      writerKey: readFileSync(files.writerKey, 'utf8'),
      device: formatDevice(signer, 0),
      shares,
      codes: [
        ...formatCode(
          {
            type: 'words',
            body: words
              .split('\n')
              .filter((line) => !line.startsWith('#'))
              .join(' ')
              .trim(),
          },
          1000,
        ),
        ...shares.flatMap((share) => formatCode({ type: 'share', body: share }, 1000)),
        ...formatCode({ type: 'age-key', body: restoreKey }, 1000),
        ...formatCode({ type: 'agent-key', body: Buffer.from(systemRandom.bytes(300)).toString('base64') }, 100),
      ],
      cache: readFileSync(
        join(folders.cache, readdirSync(folders.cache).find((name) => name.startsWith('manifest-')) ?? ''),
        'utf8',
      ),
      vault: await vault(words),
      hybrid: {
        identity: hybrid,
        file: (await sealAge(Buffer.from('post-quantum'), [await ageRecipientOf(hybrid)], systemRandom)).bytes,
      },
    },
  };
}
