/** `init`: root, identity, writer key and a repository on every backend. */
import { rm, stat } from 'node:fs/promises';
import type { Warning } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import { ageRecipientOf, newAgeIdentity, type AgeKind } from '../crypto/age.ts';
import { hex } from '../crypto/hash.ts';
import { wordsOf } from '../crypto/words.ts';
import type { Mirror } from '../backend/mirror.ts';
import { fingerprint, formatOpenSsh, type SigningKey } from '../identity/agent-key.ts';
import {
  agentKey,
  formatWordsFile,
  newRoot,
  recoveryCommitmentOf,
  recoveryKey,
  restoreIdentity,
  type Root,
} from '../identity/root.ts';
import { paperOf } from '../identity/paper.ts';
import { checkAbsent, writeSecretFile } from '../identity/secret-file.ts';
import { formatWriterKey } from '../identity/writer-key.ts';
import { createRepository, HANDLE, parseKey, REPOSITORY_KEY, timestamp } from '../repository/repository.ts';
import { failedBackendWarnings, openMirror, type BackendAddress } from './backends.ts';
import { writeLocalState, type LocalFolders } from './host/local-state.ts';
import { writePaper, type PaperSize } from './paper.ts';
import type { Seams } from './seams.ts';

export interface InitOptions {
  handle: string;
  backends: readonly BackendAddress[];
  stateRoot: string;
  /** The agent's own key, read from `files.identity`, which stays where it is; without it one is derived from the new root and written there. */
  importedKey?: SigningKey | undefined;
  /** False when the imported key is to be written to `files.identity`, for the file it came from is encrypted. Default true. */
  keepsIdentityFile?: boolean | undefined;
  /** Of the restore identity: X25519, or ML-KEM-768 with X25519. */
  kind: AgeKind;
  files: { identity: string; writerKey: string; config: string; words?: string | undefined };
  /** The recovery document, as PDF. `tool`: `holdfast/<version>`. */
  paper?: { file: string; size: PaperSize; tool: string } | undefined;
  /** Where what this host remembers of the repository goes. */
  foldersOf: (repository: string) => LocalFolders;
  /** The text of the config file. */
  configText: string;
}

export interface InitResult {
  repository: string;
  agent: { handle: string; publicKey: string; fingerprint: string; origin: 'derived' | 'imported' };
  /** What to compare with when the words are typed again one day: the fingerprint of the recovery key. */
  recovery: string;
  recipients: string[];
  /** Names of those that hold the repository. */
  backends: string[];
  /** Backends that dropped out on the way. */
  warnings: Warning[];
  files: { config: string; identity: string; writerKey: string; words: string | null; paper: string | null };
  /** Secret: the 24 words, to be shown once. Absent when they went to a file or on paper. */
  words?: string[];
}

/**
 * Everything is checked before the first byte is written, and what was made is taken away again when a later step fails.
 * @throws `exists` when a file or repository is in the way, `source_unreadable`, `backend_unavailable`
 */
export async function init(options: InitOptions, seams: Seams): Promise<InitResult> {
  const { files } = options;
  const { random } = seams;
  if (!HANDLE.test(options.handle)) {
    throw new HoldfastError(
      'usage',
      'the handle must be 1 to 64 characters without white space and control characters',
    );
  }
  await checkState(options.stateRoot);
  const { paper } = options;
  const identity = options.importedKey && options.keepsIdentityFile !== false ? undefined : files.identity;
  const toWrite = [files.words, paper?.file, identity, files.writerKey, files.config];
  for (const path of toWrite) if (path !== undefined) await checkAbsent(path);
  await using mirror = await openMirror(options.backends, seams, { create: true });
  await checkBackends(mirror, seams.signal);

  const root = newRoot(random);
  const agent = options.importedKey ?? agentKey(root, 0);
  const recovery = recoveryKey(root, 0);
  const restoreRecipient = await ageRecipientOf(restoreIdentity(root, options.kind));
  const writerIdentity = await newAgeIdentity(random);
  const keyFile = Buffer.from(formatOpenSsh(agent, options.handle, random));
  const id = hex(random.bytes(16));
  const chunkIdKey = random.bytes(32);
  const made: string[] = [];
  const write = async (path: string, text: Uint8Array) => {
    await writeSecretFile(path, text);
    made.push(path);
  };
  try {
    if (files.words !== undefined)
      await write(files.words, Buffer.from(wordsFile(root, options.handle, agent, recovery)));
    if (paper) {
      const facts = {
        handle: options.handle,
        agentPublicKey: hex(agent.publicKey),
        origin: options.importedKey ? ('imported' as const) : ('derived' as const),
        repository: id,
        backends: options.backends,
        kind: options.kind,
        tool: paper.tool,
        time: seams.clock.now(),
        agentKeyFile: options.importedKey ? keyFile : undefined,
      };
      await writePaper(paper.file, await paperOf(root, facts, random), paper.size);
      made.push(paper.file);
    }
    if (identity !== undefined) await write(identity, keyFile);
    const writerKey = {
      repositoryId: id,
      agentPublicKey: agent.publicKey,
      chunkIdKey,
      ageIdentity: writerIdentity,
      created: timestamp(seams.clock.now()),
    };
    await write(files.writerKey, Buffer.from(formatWriterKey(writerKey)));
    await write(files.config, Buffer.from(options.configText));
    // Last of all: from here on there is a repository, and everything that belongs to it is in its place.
    await createRepository(mirror, {
      id,
      chunkIdKey,
      handle: options.handle,
      agent,
      origin: options.importedKey ? 'imported' : 'derived',
      recovery,
      next: agentKey(root, 1).publicKey,
      nextRecovery: recoveryCommitmentOf(root, 1),
      restoreRecipients: [restoreRecipient],
      writer: { identity: writerIdentity, recipient: await ageRecipientOf(writerIdentity) },
      agentKeyFile: keyFile,
      clock: seams.clock,
      random,
      signal: seams.signal,
    });
    const holders = mirror.live().map(({ name }) => name);
    writeLocalState(options.foldersOf(id), { last: null, backends: holders });
    return {
      repository: id,
      agent: {
        handle: options.handle,
        publicKey: hex(agent.publicKey),
        fingerprint: fingerprint(agent.publicKey),
        origin: options.importedKey ? 'imported' : 'derived',
      },
      recovery: fingerprint(recovery.publicKey),
      recipients: [restoreRecipient],
      backends: holders,
      warnings: failedBackendWarnings(mirror, { incomplete: true }),
      files: {
        config: files.config,
        identity: files.identity,
        writerKey: files.writerKey,
        words: files.words ?? null,
        paper: paper?.file ?? null,
      },
      ...(files.words === undefined && !paper ? { words: wordsOf(root) } : {}),
    };
  } catch (error) {
    for (const path of made) await rm(path, { force: true });
    throw error;
  }
}

function wordsFile(root: Root, handle: string, agent: SigningKey, recovery: SigningKey): string {
  return formatWordsFile(
    root,
    `agent: ${handle}`,
    `agent key: ${fingerprint(agent.publicKey)}`,
    `recovery key: ${fingerprint(recovery.publicKey)}`,
  );
}

async function checkState(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (!found?.isDirectory()) {
    throw new HoldfastError('source_unreadable', `the state ${JSON.stringify(path)} is no folder that can be read`, {
      hint: "Give the folder that holds the agent's state with --state.",
    });
  }
}

/** Every backend must be there, and hold at most what an interrupted `init` left. */
async function checkBackends(mirror: Mirror, signal: AbortSignal | undefined): Promise<void> {
  for (const { error } of mirror.states()) if (error) throw error;
  for (const { name, backend } of mirror.live()) {
    for await (const { key } of backend.list('', { signal })) {
      if (key === REPOSITORY_KEY) {
        const hint = (await isEmpty(backend.list('snapshots/', { signal })))
          ? `Nothing was changed. It holds no snapshot: if an init that failed left it, remove ${REPOSITORY_KEY} there, and repeat; else choose another address.`
          : 'Nothing was changed. Choose another address, or recover the agent that it belongs to.';
        throw new HoldfastError('exists', `backend ${name} already holds a repository`, { hint });
      }
      const kind = parseKey(key)?.kind;
      if (kind && !['keys', 'secrets', 'identity', 'vault'].includes(kind)) {
        throw new HoldfastError('exists', `backend ${name} holds the remains of a repository: ${key}`, {
          hint: 'Nothing was changed. Choose a new or empty place.',
        });
      }
      if (!kind) {
        throw new HoldfastError('exists', `backend ${name} is not empty: it holds ${key}`, {
          hint: 'Nothing was changed. Choose a new or empty place.',
        });
      }
    }
  }
}

async function isEmpty(listing: AsyncIterable<unknown>): Promise<boolean> {
  for await (const _ of listing) return false;
  return true;
}
