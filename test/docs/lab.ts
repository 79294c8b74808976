/** An agent with its repository in a folder of its own: what the tests of documents and of the golden repository stand on. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { parseAgentKey, type SigningKey } from '../../src/identity/agent-key.ts';
import { parseWordsText, type Root } from '../../src/identity/root.ts';
import { readSecretFile } from '../../src/identity/secret-file.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { backup, type BackupResult } from '../../src/operations/backup.ts';
import { init, type InitResult } from '../../src/operations/init.ts';
import { restore, type RestoreResult } from '../../src/operations/restore.ts';
import type { SecretOptions } from '../../src/operations/saving/secret-manifest.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { noProgress } from '../../src/progress.ts';

export interface Lab {
  /** Holds `state`, the backends, `keys` and what holdfast remembers. */
  folder: string;
  /** The tree that is backed up. */
  state: string;
  wordsFile: string;
  /** Folders of the backends, in order. */
  backends: readonly string[];
  init(options?: { kind?: 'x25519' | 'hybrid'; importedKey?: SigningKey }): Promise<InitResult>;
  backup(tags?: readonly string[], secret?: SecretOptions): Promise<BackupResult>;
  restore(target: string, snapshot?: string): Promise<RestoreResult>;
  root(): Promise<Root>;
}

export const seams: Seams = { clock: systemClock, random: systemRandom, progress: noProgress };

/** @param folder exists and is removed by the caller. */
export function makeLab(folder: string, given: Partial<Seams> = {}, backendNames: readonly string[] = ['a']): Lab {
  const its = { ...seams, ...given };
  const state = join(folder, 'state');
  mkdirSync(state, { recursive: true });
  const key = (name: string) => join(folder, 'keys', name);
  const files = {
    identity: key('identity.key'),
    writerKey: key('writer.key'),
    config: key('holdfast.yaml'),
    words: key('words.txt'),
  };
  const folders = { state: join(folder, 'local'), cache: join(folder, 'cache') };
  const backends = backendNames.map((name) => ({ name, url: `file://${join(folder, name)}` }));
  const root = async () => parseWordsText(Buffer.from(await readSecretFile(files.words)).toString());
  return {
    folder,
    state,
    wordsFile: files.words,
    backends: backendNames.map((name) => join(folder, name)),
    root,
    init: ({ kind = 'x25519', importedKey } = {}) =>
      init(
        {
          handle: 'lab',
          backends,
          stateRoot: state,
          importedKey,
          kind,
          files,
          foldersOf: () => folders,
          configText: 'agent: {handle: lab}\n',
        },
        its,
      ),
    backup: (tags = [], secret) =>
      backup(
        {
          backends,
          writerKey: parseWriterKey(readFileSync(files.writerKey, 'utf8')),
          signer: parseAgentKey(readFileSync(files.identity, 'utf8')),
          state: { root: state, exclude: [], keepOut: [], special: 'keep', secret },
          require: backends.length,
          tags,
          host: 'lab-host',
          tool: 'holdfast/0.1.0',
          config: 'agent: {handle: lab}\n',
          folders,
        },
        its,
      ),
    restore: async (target, snapshot = 'latest') =>
      restore({ backends, secret: { kind: 'root', root: await root() }, snapshot, target, paths: [] }, its),
  };
}
