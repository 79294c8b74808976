/**
 * Makes fixtures/repositories/v1-all, a golden repository with every kind of object of format version 1 and every kind of entry, after a life of
 * changes of keys, loss, forgetting and pruning. As with `generate.ts`: it has been run once and MUST NOT be run again for version 1.
 *
 *     node_modules/.bin/node test/golden/generate-all.ts        as root, on a file system with extended attributes and holes
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { Encrypter } from 'age-encryption';
import { ageRecipientOf, newAgeIdentity } from '../../src/crypto/age.ts';
import { parseAgentKey } from '../../src/identity/agent-key.ts';
import { restoreIdentity } from '../../src/identity/root.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import { openMirror } from '../../src/operations/backends.ts';
import { forget } from '../../src/operations/forget.ts';
import { prune } from '../../src/operations/prune.ts';
import { addRecipient } from '../../src/operations/recipients.ts';
import { repair } from '../../src/operations/repair.ts';
import { rotateIdentity } from '../../src/operations/rotate.ts';
import { verify } from '../../src/operations/verify.ts';
import {
  annotate,
  beginRun,
  timestamp,
  openRepository,
  packKey,
  parseKey,
  putVault,
} from '../../src/repository/repository.ts';
import { seededRandom } from '../crypto/support.ts';
import { makeLab, seams } from '../docs/lab.ts';
import { noise, touch } from '../docs/nasty-tree.ts';
import { linksIn, xattrsIn } from '../state/tools.ts';
import { steppingClock } from './generate.ts';
import { listTree, type Listed } from './listing.ts';

const HOME = fileURLToPath(new URL('../../fixtures/repositories/v1-all', import.meta.url));
export const VAULT_PASSPHRASE = 'a golden passphrase';

export interface GoldenAll {
  repository: string;
  handle: string;
  /** The public key after the rotation, hexadecimal. */
  agent: string;
  /** Those that are listed, and the one that was forgotten last and can be put back; oldest first. */
  snapshots: {
    id: string;
    seq: number;
    tags: string[];
    note: string | null;
    state: 'listed' | 'held';
    /** Given up. */
    lost: string[];
    entries: Listed[];
    links: string[];
    xattrs: string[];
    rows: unknown[];
  }[];
  /** Paths that the snapshots keep apart. */
  secrets: string[];
}

export const rowsOf = (file: string): unknown[] => {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    return database.prepare('SELECT * FROM memories ORDER BY id').all();
  } finally {
    database.close();
  }
};

async function generate(): Promise<void> {
  if (existsSync(HOME)) throw new Error(`${HOME} is there already, and is there to stay`);
  if (process.getuid?.() !== 0) throw new Error('must run as root');
  const folder = join(tmpdir(), 'holdfast-golden-v1-all');
  mkdirSync(folder);
  const random = seededRandom('golden repository v1, all of it');
  const its = { ...seams, clock: { ...steppingClock(), sleep: async () => {} }, random };
  const lab = makeLab(folder, its, ['repository']);
  const { repository: id, agent } = await lab.init();
  const root = await lab.root();
  const secret = { kind: 'root', root } as const;
  const backends = [{ name: 'repository', url: `file://${lab.backends[0]}` }];
  const folders = { state: join(folder, 'local'), cache: join(folder, 'cache') };
  const files = { identity: join(folder, 'keys/identity.key'), writerKey: join(folder, 'keys/writer.key') };
  const signer = () => parseAgentKey(readFileSync(files.identity, 'utf8'));
  const writerKey = () => parseWriterKey(readFileSync(files.writerKey, 'utf8'));
  const access = { kind: 'restore', identities: [restoreIdentity(root, 'x25519')] } as const;
  const host = 'lab-host';
  const at = (name: string) => join(lab.state, name);
  const secretPatterns = { patterns: ['/credentials/'], handling: 'apart' } as const;
  const taken: GoldenAll['snapshots'] = [];
  let touched = 1_760_000_000;
  const take = async (...tags: string[]) => {
    touch(lab.state, (touched += 100_000));
    const entries = listTree(lab.state);
    const [links, xattrs, rows] = [linksIn(lab.state), xattrsIn(lab.state), rowsOf(at('memory.sqlite'))];
    const { complete, warnings, snapshot } = await lab.backup(tags, secretPatterns);
    if (!complete || warnings.length > 0) throw new Error(JSON.stringify(warnings));
    const one = { id: snapshot.id, seq: snapshot.seq, tags, note: null, lost: [], entries, links, xattrs, rows };
    taken.push({ ...one, state: 'listed' });
    return snapshot.id;
  };
  const goldenOf = (of: string) => {
    const one = taken.find((other) => other.id === of);
    if (!one) throw new Error(`no snapshot ${of}`);
    return one;
  };
  const open = async () => openRepository(await openMirror(backends, its), access, its);
  const forgetOne = async (snapshot: string) => {
    const rules = {};
    const protect: string[] = [];
    const said = { backends, access, signer: signer(), folders, host, snapshots: [snapshot], rules, protect };
    const { complete, forgotten } = await forget({ ...said, dryRun: false }, its);
    if (!complete || forgotten.length !== 1) throw new Error('not forgotten');
  };
  const pruneNow = async (graceMs: number) => {
    const keeper = { state: join(folder, 'keeper'), cache: join(folder, 'keeper') };
    const limits = { graceMs, settleMs: 0, waitMs: 0, repackBytes: 2 ** 30, presumeOver: [], dryRun: false };
    const result = await prune({ backends, secret, foldersOf: () => keeper, host: 'keeper', ...limits }, its);
    if (!result.complete) throw new Error(JSON.stringify(result.warnings));
    return result;
  };

  // Every kind of entry.
  for (const name of ['notes/deep', 'credentials', 'empty']) mkdirSync(at(name), { recursive: true });
  for (const name of ['MEMORY.md', 'notes/one', 'notes/deep/two', 'größe 🦊']) writeFileSync(at(name), `${name}\n`);
  writeFileSync(at('log.jsonl'), '{"event":"tick"}\n'.repeat(50));
  writeFileSync(at('credentials/token'), 'a golden token\n', { mode: 0o600 });
  linkSync(at('notes/one'), at('notes/the same as one'));
  symlinkSync('notes/one', at('link'));
  execFileSync('mkfifo', [at('pipe')]);
  execFileSync('mknod', [at('null'), 'c', '1', '3']);
  execFileSync('setfattr', ['-n', 'user.note', '-v', 'golden', at('MEMORY.md')]);
  const database = new DatabaseSync(at('memory.sqlite'));
  database.exec("CREATE TABLE memories (id INTEGER PRIMARY KEY, said TEXT); INSERT INTO memories VALUES (1, 'first')");
  const remember = (number: number) => {
    database.prepare('INSERT INTO memories (said) VALUES (?)').run(`number ${number}`);
  };

  // Forgotten, pruned, and a pack rewritten of which less than half is needed after that.
  writeFileSync(at('notes/gone'), noise(24_000, 1));
  writeFileSync(at('notes/stays'), noise(5000, 2));
  const gone = await take('gone');
  rmSync(at('notes/gone'));
  const holes = openSync(at('holes'), 'w');
  writeSync(holes, noise(4096, 3), 0, 4096, 1_048_576);
  closeSync(holes);
  truncateSync(at('holes'), 3_145_728);
  remember(2);
  const named = await take('named');
  await annotateSnapshot(
    {
      backends,
      access,
      signer: signer(),
      folders,
      host,
      snapshot: named,
      tags: { add: ['kept'], remove: [] },
      note: 'said',
    },
    its,
  );
  Object.assign(goldenOf(named), { tags: ['named', 'kept'], note: 'said' });
  await forgetOne(gone);
  const condemned = await pruneNow(7 * 86_400_000);
  const swept = await pruneNow(0);
  if (condemned.repacked.packs === 0 || swept.deleted.packs === 0)
    throw new Error(JSON.stringify({ condemned, swept }));
  taken.splice(0, 1);

  // One that lacks a file.
  writeFileSync(at('notes/doomed'), noise(3000, 4));
  const lossy = await take('lossy');
  const doomed = goldenOf(lossy);
  {
    const repository = await open();
    const { index } = await repository.loadIndex();
    const snapshot = (await repository.snapshots()).snapshots.find((one) => one.id === lossy);
    if (!snapshot) throw new Error('no snapshot');
    for await (const entry of repository.entries(snapshot, repository.reader(index))) {
      if (entry.path !== 'notes/doomed' || entry.type !== 'file') continue;
      const pack = index.packs[index.locate(entry.chunks[0] as never)?.pack ?? -1];
      if (pack) rmSync(join(lab.backends[0] ?? '', packKey(pack.id)));
    }
  }
  rmSync(at('notes/doomed'));
  const level = 'chunks';
  const cut = await repair(
    {
      backends,
      access: { kind: 'restore', secret },
      level,
      folders,
      signer: signer(),
      host,
      forgetDamaged: true,
      dryRun: false,
    },
    its,
  );
  if (!cut.complete) throw new Error(JSON.stringify(cut));
  doomed.lost = ['notes/doomed'];

  // A recipient, a vault, another key of the agent.
  const added = await newAgeIdentity(random);
  const recipient = await ageRecipientOf(added);
  await addRecipient({ backends, secret, folders, repository: id, recipient }, its);
  await rotateIdentity({ backends, secret, files, writerKey: writerKey(), folders }, its);
  const words = readFileSync(lab.wordsFile);
  const vault = new Encrypter();
  vault.setPassphrase(VAULT_PASSPHRASE);
  vault.setScryptWorkFactor(2);
  await putVault((await open()).mirror, await vault.encrypt(words), undefined);

  remember(3);
  const held = await take('held');
  remember(4);
  const last = await take('last');
  const said = { snapshot: last, time: timestamp(its.clock.now()), host, acknowledged: true } as const;
  await annotate(await open(), said, signer(), its);
  database.close();
  await forgetOne(held);
  goldenOf(held).state = 'held';
  await pruneNow(7 * 86_400_000);
  for (const deep of ['objects', 'chunks', 'restore'] as const) {
    const by = { kind: 'restore', secret } as const;
    const found = await verify({ backends, access: by, level: deep, folders, signer: signer(), host }, its);
    if (!found.complete || found.damaged.length > 0) throw new Error(JSON.stringify(found));
  }
  // A host that was switched off in the midst of a backup.
  await beginRun(await open(), { kind: 'write', host: 'switched-off', after: [] }, signer(), its);

  mkdirSync(HOME, { recursive: true });
  cpSync(lab.backends[0] ?? '', join(HOME, 'repository'), { recursive: true });
  rmSync(join(HOME, 'repository', 'tmp'), { recursive: true, force: true });
  writeFileSync(join(HOME, 'words.txt'), words);
  writeFileSync(join(HOME, 'added.key'), `${added}\n`);
  const { handle } = agent;
  const publicKey = (await open()).state.keys.agent.publicKey;
  const secrets = ['credentials', 'credentials/token'];
  const golden: GoldenAll = { repository: id, handle, agent: publicKey, snapshots: taken, secrets };
  writeFileSync(join(HOME, 'expected.json'), `${JSON.stringify(golden, undefined, 1)}\n`);
  writeFileSync(join(HOME, '.gitattributes'), '* -text\n');
  writeFileSync(
    join(HOME, 'README.md'),
    `# A golden repository of format version 1 with all there is

Every later holdfast must read it: \`test/golden/v1-all.test.ts\` does. It was made once, by \`test/golden/generate-all.ts\`, and is never made
again or changed. Its words are in \`words.txt\`, the age key of an added recipient in \`added.key\`: they protect nothing, this is test data.
\`expected.json\` says what each snapshot holds.
`,
  );
  rmSync(folder, { recursive: true });
  const kinds = new Set(
    execFileSync('find', [join(HOME, 'repository'), '-type', 'f', '-printf', '%P\\n'], { encoding: 'utf8' })
      .split('\n')
      .map((key) => parseKey(key)?.kind),
  );
  process.stdout.write(`${[...kinds].join(' ')}\n`);
}

if (import.meta.main) await generate();
