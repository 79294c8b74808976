/**
 * Backs up a state and restores it in one process, to be run with a small heap: `memory-child.ts STATE FOLDER`, where FOLDER is empty. Prints
 * one JSON document: what both said, and the most memory that the process held (bytes).
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { parseAgentKey } from '../../src/identity/agent-key.ts';
import { parseWordsText } from '../../src/identity/root.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { backup } from '../../src/operations/backup.ts';
import { init } from '../../src/operations/init.ts';
import { restore } from '../../src/operations/restore.ts';
import { noProgress } from '../../src/progress.ts';

const [state = '', folder = ''] = process.argv.slice(2);
const at = (name: string) => join(folder, name);
const seams = { clock: systemClock, random: systemRandom, progress: noProgress };
const backends = [{ name: 'nas', url: `file://${at('nas')}` }];
const folders = { state: at('local'), cache: at('cache') };
const files = { identity: at('id.key'), writerKey: at('writer.key'), config: at('config'), words: at('words') };
const text = (path: string) => readFileSync(path, 'utf8');

mkdirSync(folder, { recursive: true });
const foldersOf = () => folders;
const common = { handle: 'ada', stateRoot: state, kind: 'x25519', configText: '' } as const;
await init({ ...common, backends, files, foldersOf }, seams);
const saved = await backup(
  {
    backends,
    writerKey: parseWriterKey(text(files.writerKey)),
    signer: parseAgentKey(text(files.identity)),
    state: { root: state, exclude: [], keepOut: [] },
    require: 1,
    tags: [],
    host: 'test-host',
    tool: 'holdfast/test',
    config: '',
    folders,
  },
  seams,
);
const secret = { kind: 'root', root: parseWordsText(text(files.words)) } as const;
const restored = await restore({ backends, secret, snapshot: 'latest', target: at('restored'), paths: [] }, seams);
console.log(JSON.stringify({ saved, restored, peakBytes: process.resourceUsage().maxRSS * 1024 }));
