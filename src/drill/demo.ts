/** `demo`: the main job on a sample agent in a temporary folder, told step by step. Everything it says was done and checked. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { HoldfastError } from '../errors.ts';
import { rawForDisplay, type RawPath } from '../raw-path.ts';
import { sha256Hex } from '../crypto/hash.ts';
import { sign, verify as verifySignature } from '../crypto/ed25519.ts';
import { parseAgentKey } from '../identity/agent-key.ts';
import { parseWordsText } from '../identity/root.ts';
import { readSecretText } from '../identity/secret-file.ts';
import { parseWriterKey } from '../identity/writer-key.ts';
import { backup, type BackupResult } from '../operations/backup.ts';
import { init } from '../operations/init.ts';
import { MARKER } from '../operations/host/continuity.ts';
import { recover } from '../operations/recover.ts';
import { secondsSince, type Seams } from '../operations/seams.ts';
import { readFile } from '../state/read-file.ts';
import { scan } from '../state/scan.ts';
import { letSampleAgentWork, makeSampleAgent } from './sample-agent.ts';

export interface DemoStep {
  name: string;
  /** One line of what happened. */
  detail: string;
  seconds: number;
}

export interface DemoResult {
  ok: boolean;
  snapshots: { id: string; seq: number; files: number; addedBytes: number; storedBytes: number }[];
  recovered: {
    /** The recovered key signs a challenge that verifies against the public key on record before the disaster. */
    identity: boolean;
    /** The recovered tree equals the one that was destroyed: paths, contents, modes, times, links. */
    state: boolean;
  };
  destroyed: { agent: boolean; backend: boolean };
  steps: DemoStep[];
  /** Set when it was asked to be kept. */
  folder?: string;
  seconds: number;
}

const HANDLE = 'demo-agent';

/**
 * @param options.keep leaves the folder for a look at it.
 * @param options.renderConfig the config text for a fresh set-up, as `init` writes it.
 */
export async function demo(
  options: { keep: boolean; host: string; tool: string; onStep?: (step: DemoStep) => void },
  seams: Seams,
): Promise<DemoResult> {
  const started = seams.clock.monotonic();
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-demo-'));
  try {
    const result = await run(folder, options, seams);
    return { ...result, ...(options.keep ? { folder } : {}), seconds: secondsSince(seams.clock, started) };
  } finally {
    if (!options.keep) await rm(folder, { recursive: true, force: true });
  }
}

async function run(
  folder: string,
  options: { host: string; tool: string; onStep?: (step: DemoStep) => void },
  seams: Seams,
): Promise<Omit<DemoResult, 'seconds'>> {
  const steps: DemoStep[] = [];
  const step = async <T>(name: string, work: () => Promise<T> | T, tell: (value: T) => string): Promise<T> => {
    const before = seams.clock.monotonic();
    const value = await work();
    const done = { name, detail: tell(value), seconds: secondsSince(seams.clock, before) };
    steps.push(done);
    options.onStep?.(done);
    return value;
  };

  const agentHome = join(folder, 'agent');
  const state = join(agentHome, 'state');
  const paper = join(folder, 'paper.txt');
  const files = {
    identity: join(agentHome, 'identity.key'),
    writerKey: join(agentHome, 'writer.key'),
    config: join(agentHome, 'holdfast.yaml'),
  };
  const backends = ['nas', 'cloud'].map((name) => ({
    name,
    url: pathToFileURL(join(folder, name)).href,
  }));
  const foldersIn = (home: string) => () => ({ state: join(home, '.state'), cache: join(home, '.cache') });

  await step(
    'agent',
    async () => {
      await mkdir(agentHome);
      makeSampleAgent(state, HANDLE);
    },
    () => 'a sample agent: memory, tasks, a session log, a database',
  );
  const made = await step(
    'init',
    () =>
      init(
        {
          handle: HANDLE,
          backends,
          stateRoot: state,
          kind: 'x25519',
          files: { ...files, words: paper },
          foldersOf: foldersIn(agentHome),
          configText: '# made by the demo\n',
        },
        seams,
      ),
    ({ agent }) => `identity ${agent.fingerprint}; 24 words on paper, kept apart; a repository on two backends`,
  );
  const save = async (): Promise<BackupResult> =>
    backup(
      {
        backends,
        writerKey: parseWriterKey(await readSecretText(files.writerKey)),
        signer: parseAgentKey(await readSecretText(files.identity)),
        state: { root: state, exclude: [], keepOut: [] },
        require: backends.length,
        tags: [],
        host: options.host,
        tool: options.tool,
        config: '# made by the demo\n',
        folders: foldersIn(agentHome)(),
      },
      seams,
    );
  const told = (result: BackupResult) =>
    `snapshot ${result.snapshot.id.slice(0, 8)}: ${result.files.total} files, ${result.bytes.added} bytes new, ${result.bytes.stored} bytes stored on each of ${result.backends.filter((one) => one.state === 'committed').length} backends`;
  const first = await step('backup', save, told);
  await step(
    'work',
    () => letSampleAgentWork(state),
    () => 'the agent works on: new lines, a new row, a new memory, a task done',
  );
  const second = await step('backup again', save, told);

  const before = digestTree(state);
  const destroyed = await step(
    'disaster',
    async () => {
      await rm(agentHome, { recursive: true });
      await rm(join(folder, 'nas'), { recursive: true });
      return { agent: !existsSync(agentHome), backend: !existsSync(join(folder, 'nas')) };
    },
    ({ agent, backend }) =>
      `the agent's folder with its keys is ${agent ? 'gone' : 'STILL THERE'}, the backend nas is ${backend ? 'gone' : 'STILL THERE'}`,
  );

  const newHome = join(folder, 'new-machine');
  const newFiles = {
    identity: join(newHome, 'identity.key'),
    writerKey: join(newHome, 'writer.key'),
    config: join(newHome, 'holdfast.yaml'),
  };
  const recovered = await step(
    'recover',
    async () =>
      recover(
        {
          backends: backends.slice(1),
          secret: { kind: 'root', root: parseWordsText(await readSecretText(paper)) },
          snapshot: 'latest',
          target: join(newHome, 'state'),
          files: newFiles,
          foldersOf: foldersIn(newHome),
          renderConfig: (old) => ({ text: old, backends: backends.slice(1) }),
        },
        seams,
      ),
    (result) => `from the words and the backend cloud: ${result.files} files, identity ${result.agent.fingerprint}`,
  );
  const checks = await step(
    'check',
    async () => ({
      identity: await provesIdentity(newFiles.identity, made.agent.publicKey, seams),
      state: digestTree(join(newHome, 'state')) === before && recovered.snapshot.id === second.snapshot.id,
    }),
    ({ identity, state: same }) =>
      `the same key signs: ${identity ? 'yes' : 'NO'}; the same state, byte for byte: ${same ? 'yes' : 'NO'}`,
  );
  const snapshots = [first, second].map((result) => ({
    id: result.snapshot.id,
    seq: result.snapshot.seq,
    files: result.files.total,
    addedBytes: result.bytes.added,
    storedBytes: result.bytes.stored,
  }));
  const left = await readdir(folder);
  return {
    ok:
      checks.identity &&
      checks.state &&
      made.warnings.length === 0 &&
      [first, second, recovered].every(({ complete }) => complete) &&
      destroyed.agent &&
      destroyed.backend &&
      !left.includes('agent') &&
      !left.includes('nas'),
    snapshots,
    recovered: checks,
    destroyed,
    steps,
  };
}

/** A fresh challenge, signed with the key file and verified with the public key that was known before. */
async function provesIdentity(identityFile: string, publicKeyHex: string, seams: Seams): Promise<boolean> {
  const challenge = seams.random.bytes(32);
  const key = parseAgentKey(await readSecretText(identityFile));
  return verifySignature(sign(challenge, key.seed), challenge, Buffer.from(publicKeyHex, 'hex'));
}

/** Equal for two trees exactly when paths, types, contents, modes, times and link targets are equal. */
function digestTree(root: string): string {
  const lines: string[] = [];
  for (const item of scan(root)) {
    if (item.kind === 'problem') throw new HoldfastError('source_unreadable', item.warning.message);
    if (item.path === MARKER) continue; // what a recovery adds
    const common = [item.kind, item.path, item.mode, item.mtimeNs.toString()];
    if (item.kind === 'symlink') common.push(item.target);
    if (item.kind === 'file') {
      common.push(item.size, ...digestFile(root, item.path));
    }
    lines.push(JSON.stringify(common));
  }
  return sha256Hex(Buffer.from(lines.join('\n')));
}

/** A hash of each piece. @throws `source_unreadable` when it is not read to its end: what is not compared does not count as equal. */
function digestFile(root: string, path: RawPath): string[] {
  const parts: string[] = [];
  const reading = readFile(root, path);
  for (;;) {
    const step = reading.next();
    if (!step.done) parts.push(sha256Hex(step.value));
    else if (step.value.outcome === 'ok') return parts;
    else throw new HoldfastError('source_unreadable', `${rawForDisplay(path)} ${step.value.reason}`);
  }
}
