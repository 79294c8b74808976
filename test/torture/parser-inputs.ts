/**
 * The parsers, each with inputs that it takes. What lies behind a seal, a signature or a hash is mutated first and then sealed, signed and named, so that
 * the parser behind it is reached.
 */
import { createHmac } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { zstdCompressSync } from 'node:zlib';
import { Mirror } from '../../src/backend/mirror.ts';
import { hostKeyFingerprint, hostKeyType, knownKeys } from '../../src/backend/known-hosts.ts';
import { loadConfig } from '../../src/cli/config.ts';
import { ageRecipientOf, newAgeIdentity, openAge, parseAgeIdentityFile, sealAge } from '../../src/crypto/age.ts';
import { openWithPassphrase } from '../../src/crypto/age-passphrase.ts';
import { parseEnvelope, signEnvelope } from '../../src/crypto/dsse.ts';
import { hkdf, sha256Hex } from '../../src/crypto/hash.ts';
import type { Entry } from '../../src/entry.ts';
import { openAgentKey, parseAgentKey } from '../../src/identity/agent-key.ts';
import { parseDevice } from '../../src/identity/device-key.ts';
import { formatCode } from '../../src/identity/paper-code.ts';
import { parsePublicKey } from '../../src/identity/public-key.ts';
import { formatRecoveryKey, parseRecoveryKey, recoveryKeyOfGeneration } from '../../src/identity/recovery-key.ts';
import { parseRecoveryText, readShare } from '../../src/identity/recovery-text.ts';
import { parseWordsText } from '../../src/identity/root.ts';
import { verifySsh } from '../../src/identity/ssh-signature.ts';
import { SECRET_FILE_MAX_BYTES } from '../../src/identity/secret-file.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { readKnownSnapshots, readLocalState, ManifestCache } from '../../src/operations/host/local-state.ts';
import { readRuns } from '../../src/operations/host/runs.ts';
import { parseWhen } from '../../src/operations/schedule/schedule-time.ts';
import { decodeBreaker } from '../../src/policy/breaker.ts';
import { LineSplitter } from '../../src/lines.ts';
import { MANIFEST_LINE_MAX_BYTES } from '../../src/limits.ts';
import { openAnnotation } from '../../src/repository/records/annotation.ts';
import {
  ANNOTATION_PAYLOAD_TYPE,
  KEYS_TYPE,
  parseRecord,
  REPOSITORY_TYPE,
  secretsSchema,
  SNAPSHOT_PAYLOAD_TYPE,
} from '../../src/repository/records/format.ts';
import { openFrame } from '../../src/repository/packs/frame.ts';
import { readGrants } from '../../src/repository/keys/grants.ts';
import { openIndex } from '../../src/repository/packs/index-object.ts';
import { openKeys } from '../../src/repository/keys/keys.ts';
import { parseEntryLine } from '../../src/repository/records/manifest.ts';
import {
  annotationKey,
  keysRecordKey,
  parseKey,
  REPOSITORY_KEY,
  secretsKey,
  snapshotKey,
  type AnnotationId,
  type SnapshotId,
} from '../../src/repository/records/object-name.ts';
import { parseIndexLine, PackIndex } from '../../src/repository/packs/pack-index.ts';
import { openSnapshot } from '../../src/repository/records/snapshot.ts';
import { parseProfile, classifier } from '../../src/state/profile.ts';
import { Sqlite } from '../../src/state/sqlite.ts';
import { rawFromText } from '../../src/raw-path.ts';
import { parseDuration, parseMoment, parseSize } from '../../src/units.ts';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { createMemory } from '../../src/backend/memory.ts';
import { ROOT } from '../cli/run.ts';
import { makeSpecimen } from './specimen.ts';

export interface ParserInput {
  name: string;
  /** What the parser takes, at least one. */
  samples: readonly Uint8Array[];
  parse: (input: Buffer) => unknown;
  /** Each member may be changed on its own. */
  isJson?: boolean;
  /** How often it has its turn. Default 4; less for what is slow. */
  weight?: number;
}

const PASSPHRASE = 'a test passphrase';
const MiB = 2 ** 20;

export async function makeInputs(folder: string): Promise<ParserInput[]> {
  const {
    root,
    content,
    signer,
    writerKey,
    restoreKey,
    words,
    manifest,
    indexPlain,
    snapshot,
    annotation,
    keys,
    plain,
    paper,
  } = await makeSpecimen(folder);
  const identities = [restoreKey, writerKey.ageIdentity];
  const recipients = await Promise.all(identities.map(ageRecipientOf));
  const agent = Buffer.from(signer.publicKey).toString('hex');
  const repository = writerKey.repositoryId;
  const generations = [{ publicKey: agent, fromMs: -Infinity, untilMs: Infinity, lastSeq: Infinity, seq: 0 }];
  const seal = async (bytes: Uint8Array) => (await sealAge(bytes, recipients, systemRandom)).bytes;
  const text = (
    name: string,
    samples: readonly (string | Uint8Array)[],
    parse: (given: string) => unknown,
    more: Partial<ParserInput> = {},
  ): ParserInput => ({
    name,
    samples: samples.map((sample) => Buffer.from(sample)),
    // Longer ones are refused before, by whoever reads files.
    parse: (input) => parse(input.toString('utf8', 0, more.isJson ? input.length : SECRET_FILE_MAX_BYTES)),
    ...more,
  });
  const file = (
    name: string,
    samples: readonly (string | Uint8Array)[],
    as: string,
    parse: (path: string) => unknown,
    more: Partial<ParserInput> = {},
  ): ParserInput => ({
    name,
    samples: samples.map((sample) => Buffer.from(sample)),
    parse: (input) => {
      writeFileSync(join(folder, as), input);
      return parse(join(folder, as));
    },
    ...more,
  });
  const fixture = (name: string) => readFileSync(join(ROOT, 'fixtures/vectors/ssh', name));
  /** What the members of an object's record say, under the name that belongs to it. */
  const timeIn = (payload: Uint8Array): number => {
    try {
      const { time } = JSON.parse(Buffer.from(payload).toString('utf8')) as { time: string };
      return Number.isNaN(Date.parse(time)) ? 0 : Date.parse(time);
    } catch {
      return 0;
    }
  };
  const openSigned = async (payload: Uint8Array, type: string, envelope?: Uint8Array): Promise<void> => {
    const bytes = await seal(envelope ?? signEnvelope(type, payload, [signer]));
    const id = sha256Hex(payload);
    const expected = { generations, repository };
    const timeMs = Math.max(0, Math.min(timeIn(payload), 253_402_300_799_999));
    if (type === SNAPSHOT_PAYLOAD_TYPE) {
      const key = snapshotKey(timeMs, id as SnapshotId);
      await openSnapshot(bytes, { ...expected, id: id as SnapshotId, key }, identities);
    } else {
      const key = annotationKey(timeMs, id as AnnotationId);
      await openAnnotation(bytes, { ...expected, id: id as AnnotationId, key }, identities);
    }
  };
  /** Opens the repository with some objects in place of its own. */
  const openWith = async (changed: ReadonlyMap<string, Uint8Array>, without: readonly string[] = []): Promise<void> => {
    const store = createMemory('specimen');
    for (const [key, bytes] of content)
      if (!changed.has(key) && !without.includes(key)) await store.put(key, Uint8Array.from(bytes));
    for (const [key, bytes] of changed) await store.put(key, Uint8Array.from(bytes));
    const mirror = new Mirror([{ name: 'specimen', backend: store }]);
    await openKeys(mirror, { kind: 'restore', identities: [restoreKey] }, { clock: systemClock });
  };
  /** A signed record as its form wants it, whatever is in it: the signatures stand at the end of the line. */
  const signRaw = (record: Buffer, type: string): Buffer => {
    const envelope = JSON.parse(Buffer.from(signEnvelope(type, record, root.signers)).toString()) as {
      signatures: { keyid: string; sig: string }[];
    };
    const signatures = envelope.signatures.map(({ keyid, sig }) => ({ key: keyid, signature: sig }));
    return Buffer.from(`${record.toString('utf8').replace(/\}$/, '')},"signatures":${JSON.stringify(signatures)}}\n`);
  };
  const sealIndexPlain = async (body: Uint8Array): Promise<void> => {
    const mac = createHmac('sha256', hkdf(writerKey.chunkIdKey, 'index')).update(body).digest('hex');
    const object = await seal(zstdCompressSync(Buffer.concat([body, Buffer.from(`${JSON.stringify({ mac })}\n`)])));
    const packs = await openIndex(object, sha256Hex(object), {
      repository,
      chunkIdKey: writerKey.chunkIdKey,
      identities,
    });
    const index = new PackIndex();
    for (const pack of packs) index.addPack(pack);
  };
  const objectOf = (kind: string) =>
    [...content].flatMap(([key, bytes]) => (parseKey(key)?.kind === kind ? [bytes] : []));
  const sealed = [...content].flatMap(([key, bytes]) => (key.endsWith('.age') ? [bytes.subarray(0, 64 * 1024)] : []));
  const passphraseFile = paper.vault;
  const configs = [
    paper.config,
    readFileSync(join(ROOT, 'README.md'), 'utf8').match(/```yaml\n([\s\S]*?)```/)?.[1] ?? paper.config,
  ];
  const profiles = ['ants', 'openclaw', 'claude-code'].map((name) =>
    readFileSync(join(ROOT, 'src/state/profiles', `${name}.yaml`)),
  );
  const database = makeDatabase(join(folder, 'sample.sqlite'));
  const frame = zstdCompressSync(plain);
  const sqlite = new Sqlite(join(folder, 'captured'));

  return [
    { name: 'age file', samples: sealed, parse: (input) => openAge(input, identities) },
    {
      name: 'age file, post-quantum',
      samples: [paper.hybrid.file],
      parse: (input) => openAge(input, [paper.hybrid.identity]),
    },
    {
      name: 'age file under a passphrase',
      samples: [passphraseFile],
      parse: (input) => openWithPassphrase(input, PASSPHRASE, 12),
      weight: 2,
    },
    text('age key file', [`# created: x\n${await newAgeIdentity(systemRandom)}\n`], parseAgeIdentityFile),
    {
      name: 'snapshot record',
      samples: [snapshot.payload],
      parse: (input) => openSigned(input, SNAPSHOT_PAYLOAD_TYPE),
      isJson: true,
      weight: 8,
    },
    {
      name: 'snapshot envelope',
      samples: [snapshot.envelope],
      parse: (input) => openSigned(snapshot.payload, SNAPSHOT_PAYLOAD_TYPE, input),
      isJson: true,
    },
    {
      name: 'annotation record',
      samples: [annotation],
      parse: (input) => openSigned(input, ANNOTATION_PAYLOAD_TYPE),
      isJson: true,
    },
    {
      name: 'envelope',
      samples: [snapshot.envelope],
      parse: (input) => parseEnvelope(input, SNAPSHOT_PAYLOAD_TYPE),
      isJson: true,
    },
    {
      name: 'key record',
      samples: [keys.body],
      parse: (input) => {
        const record = signRaw(input, KEYS_TYPE);
        return openWith(new Map([[keysRecordKey(0, sha256Hex(record)), record]]), [keys.key]);
      },
      isJson: true,
      weight: 8,
    },
    {
      name: 'key record that follows',
      samples: [keys.follows],
      parse: (input) => {
        const record = signRaw(input, KEYS_TYPE);
        return openWith(new Map([[keysRecordKey(1, sha256Hex(record)), record]]));
      },
      isJson: true,
    },
    {
      name: 'repository record',
      samples: [keys.repository],
      parse: (input) => openWith(new Map([[REPOSITORY_KEY, signRaw(input, REPOSITORY_TYPE)]])),
      isJson: true,
    },
    {
      name: 'repository record as stored',
      samples: [content.get(REPOSITORY_KEY) ?? Buffer.alloc(0)],
      parse: (input) => openWith(new Map([[REPOSITORY_KEY, input]])),
      isJson: true,
    },
    {
      name: 'secrets',
      samples: [keys.secrets],
      parse: (input) => parseRecord(input, secretsSchema, 'the secrets object'),
      isJson: true,
    },
    {
      name: 'grant',
      samples: [
        Buffer.from(
          JSON.stringify({ version: 1, critical: [], repository, packs: { ['a'.repeat(64)]: 'b'.repeat(32) } }),
        ),
      ],
      parse: async (input) => {
        const object = await seal(input);
        const store = createMemory('grants');
        await store.put(secretsKey(sha256Hex(object)), Uint8Array.from(object));
        await readGrants(
          new Mirror([{ name: 'grants', backend: store }]),
          [sha256Hex(object)],
          repository,
          identities,
          undefined,
        );
      },
      isJson: true,
    },
    { name: 'index', samples: [indexPlain], parse: sealIndexPlain, weight: 8 },
    {
      name: 'index that grows',
      samples: [Buffer.from('\n'), Buffer.from('[1],'), Buffer.from('{"version":1,"repository":"')],
      parse: async (input) => {
        // A few are as large as may be; the others show the same in less time.
        const bytes = input.length % 8 === 1 ? 250 * MiB : 4 * MiB;
        const bomb = Buffer.alloc(bytes, input.length > 0 ? input : '\n');
        const object = await seal(zstdCompressSync(bomb));
        await openIndex(object, sha256Hex(object), { repository, chunkIdKey: writerKey.chunkIdKey, identities });
      },
      weight: 1,
    },
    text(
      'line of an index',
      indexPlain
        .toString('utf8')
        .split('\n')
        .filter((line) => line.startsWith('{"pack"')),
      (line) => {
        const index = new PackIndex();
        index.addPack(parseIndexLine(line));
      },
      { isJson: true },
    ),
    { name: 'frame of a pack', samples: [frame], parse: (input) => openFrame(input, plain.length) },
    {
      name: 'frame that grows',
      samples: [zstdCompressSync(Buffer.alloc(64 * MiB)), zstdCompressSync(Buffer.alloc(3 * MiB))],
      parse: (input) => openFrame(input, 2 * MiB),
    },
    text(
      'line of a manifest',
      manifest,
      (line) => {
        const entry: Entry = parseEntryLine(line);
        return entry;
      },
      { isJson: true, weight: 12 },
    ),
    {
      name: 'manifest',
      samples: [Buffer.from(`${manifest.join('\n')}\n`)],
      parse: (input) => {
        const splitter = new LineSplitter(MANIFEST_LINE_MAX_BYTES);
        for (const line of splitter.push(input)) parseEntryLine(line);
      },
    },
    {
      name: 'object of a repository',
      samples: [...objectOf('index'), ...objectOf('keys'), ...objectOf('secrets')],
      parse: (input) =>
        openWith(
          new Map([
            [secretsKey(sha256Hex(input)), input],
            [keysRecordKey(7, sha256Hex(input)), input],
          ]),
        ),
    },
    text('key of an object', [...content.keys()], parseKey),

    text('words file', [words], parseWordsText),
    text(
      'recovery text',
      [
        words,
        ...paper.shares,
        ...paper.codes,
        paper.codes.join('\n'),
        `${paper.codes.join('\nQR-Code:')}`,
        `${restoreKey}\n`,
      ],
      (given) => parseRecoveryText([given]),
    ),
    text('recovery texts', [paper.codes.join('\n')], (given) => parseRecoveryText(given.split('\n# '))),
    text('codes of the paper with their hashes', [words, restoreKey, paper.shares[0] ?? ''], (body) =>
      parseRecoveryText([
        formatCode({ type: 'words', body: body.trim() }, 1e9).join('\n'),
        formatCode({ type: 'share', body: body.trim() }, 1e9).join('\n'),
      ]),
    ),
    text('share', paper.shares, (given) => readShare(given.split(/\s+/))),
    text('writer key', [paper.writerKey], parseWriterKey),
    text('recovery key', [formatRecoveryKey(recoveryKeyOfGeneration(root.bytes, 0, repository))], parseRecoveryKey),
    text('agent key', [paper.identity, fixture('key'), fixture('key-pkcs8'), 'a'.repeat(64)], parseAgentKey),
    {
      name: 'agent key, decoded',
      samples: [pem(fixture('key')), pem(paper.identity)],
      parse: (input) => parseAgentKey(armored('OPENSSH PRIVATE KEY', input)),
    },
    {
      name: 'agent key under a passphrase',
      samples: [pem(fixture('key-ctr-1'))],
      parse: (input) => openAgentKey(armored('OPENSSH PRIVATE KEY', input), PASSPHRASE),
      weight: 2,
    },
    {
      name: 'agent key under a passphrase, PKCS#8',
      samples: [pem(fixture('key-pkcs8')), pem(fixture('key-pkcs8-sha512'))],
      parse: (input) => openAgentKey(armored('ENCRYPTED PRIVATE KEY', input), PASSPHRASE),
      weight: 2,
    },
    text('device key', [paper.device], parseDevice, { isJson: true }),
    text('public key', [fixture('key.pub'), agent], parsePublicKey),
    {
      name: 'signature',
      samples: [fixture('message.sig'), fixture('message.sha256.sig')],
      parse: (input) =>
        verifySsh(input.toString('latin1'), [fixture('message')], {
          namespace: 'file',
          publicKey: parsePublicKey(fixture('key.pub').toString()),
        }),
    },
    {
      name: 'signature, decoded',
      samples: [pem(fixture('message.sig'))],
      parse: (input) =>
        verifySsh(armored('SSH SIGNATURE', input), [fixture('message')], {
          namespace: 'file',
          publicKey: signer.publicKey,
        }),
    },
    text(
      'known_hosts',
      [
        `# c\nnas.example,192.168.1.* ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA\n@revoked [nas.example]:2222 ssh-rsa AAAA\n|1|c2FsdA==|aGFzaA== ssh-ed25519 AAAA\n*.example,!bad.example ssh-ed25519 AAAA\n`,
      ],
      (given) => {
        for (const { blob } of [
          ...knownKeys(given, 'nas.example', 22),
          ...knownKeys(given, 'a-host.with.a.name.that.is.long.example', 2222),
        ])
          hostKeyFingerprint(Buffer.from(hostKeyType(blob)));
      },
    ),

    file('config', configs, 'holdfast.yaml', loadConfig, { weight: 12 }),
    {
      name: 'profile',
      samples: profiles,
      parse: async (input) => classifier(await parseProfile(input, 'profile.yaml'))(rawFromText('a/b.md'), false),
      weight: 6,
    },
    text('duration', ['30d', '1h30m', '10 minutes'], parseDuration),
    text('size', ['5GiB', '100 MB', '1'], parseSize),
    text('moment', ['2026-01-31T23:59', '2 days ago', 'yesterday', '2026-01'], (given) =>
      parseMoment(given, 1_800_000_000_000),
    ),
    text('when', ['daily', '0 3 * * *', 'hourly', '*/5 * * * *', '03:30'], parseWhen),
    text('breaker', ['{"version":1,"state":"open","failures":3,"openedAtMs":1}'], decodeBreaker, { isJson: true }),
    file(
      'memory of the host',
      [
        '{"last":{"id":"' +
          'a'.repeat(64) +
          '","seq":3},"backends":["a"],"keys":{"seq":1,"id":"x","weight":2},"locked":{"a":1}}',
      ],
      'state.json',
      () => readLocalState({ state: folder, cache: folder }),
      { isJson: true },
    ),
    file(
      'known snapshots',
      [`{"${'a'.repeat(64)}":3}`],
      'snapshots.json',
      () => readKnownSnapshots({ state: folder, cache: folder }),
      { isJson: true },
    ),
    file('runs', ['{"backup":{"startedMs":1,"ok":true}}'], 'runs.json', readRuns, { isJson: true }),
    file('cache of the manifest', [paper.cache], `manifest-${snapshot.id}`, () => {
      using cache = ManifestCache.open({ state: folder, cache: folder }, snapshot.id);
      cache?.at(rawFromText('note-3.md'));
      cache?.end();
    }),
    file('SQLite database', [database], 'mutated.sqlite', (path) => sqlite.capture(rawFromText(path)), { weight: 2 }),
  ];
}

/** The bytes of a text between its lines of dashes. */
const pem = (file: string | Uint8Array): Buffer =>
  Buffer.from(
    Buffer.from(file)
      .toString('latin1')
      .replace(/-----.*-----/g, ''),
    'base64',
  );
const armored = (label: string, bytes: Uint8Array): string =>
  `-----BEGIN ${label}-----\n${(
    Buffer.from(bytes)
      .toString('base64')
      .match(/.{1,70}/g) ?? []
  ).join('\n')}\n-----END ${label}-----\n`;

function makeDatabase(path: string): Buffer {
  mkdirSync(join(path, '..'), { recursive: true });
  rmSync(path, { force: true });
  const db = new DatabaseSync(path);
  db.exec(
    'CREATE TABLE notes (n INTEGER PRIMARY KEY, note TEXT); CREATE INDEX by_note ON notes (note); CREATE VIEW v AS SELECT note FROM notes',
  );
  const insert = db.prepare('INSERT INTO notes (note) VALUES (?)');
  for (let i = 0; i < 200; i++) insert.run(`note ${i} ${'x'.repeat(i)}`);
  db.close();
  return readFileSync(path);
}
