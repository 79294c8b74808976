/**
 * Makes fixtures/repositories/v1, the golden repository of format version 1. It has been run once and MUST NOT be run again for version 1: what
 * it made stands for the repositories that are out there, and every later holdfast must restore it. A new format version gets its own.
 *
 *     node_modules/.bin/node test/golden/generate.ts        as root, so that owners and unreadable files are in it
 *
 * Clock, random source and place are fixed, and a second run makes nearly the same bytes. Not surely: packs are sealed side by side, and an
 * index lists them in the order in which they are done; compressed bytes depend on the version of zstd.
 */
import { chownSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock, type Clock } from '../../src/clock.ts';
import { seededRandom } from '../crypto/support.ts';
import { makeLab } from '../docs/lab.ts';
import { makeNastyTree, noise, touch } from '../docs/nasty-tree.ts';
import { listTree, type Listed } from './listing.ts';

const HOME = fileURLToPath(new URL('../../fixtures/repositories/v1', import.meta.url));
const START_MS = Date.parse('2026-01-31T23:59:59.123Z');
const STEP_MS = 61_001;

/** Moves on with each look at it. */
export function steppingClock(): Clock {
  let now = START_MS - STEP_MS;
  return { ...systemClock, now: () => (now += STEP_MS) };
}

export interface Golden {
  repository: string;
  handle: string;
  /** As ssh-keygen prints it. */
  agent: string;
  snapshots: { id: string; seq: number; time: string; tags: string[]; entries: Listed[] }[];
}

async function generate(): Promise<void> {
  if (existsSync(HOME)) throw new Error(`${HOME} is there already, and is there to stay`);
  if (process.getuid?.() !== 0) throw new Error('must run as root');
  const folder = join(tmpdir(), 'holdfast-golden-v1'); // it is in the snapshots, as their source
  mkdirSync(folder);
  const lab = makeLab(folder, { clock: steppingClock(), random: seededRandom('golden repository v1') }, ['repository']);
  const { repository, agent } = await lab.init();
  const golden: Golden = { repository, handle: agent.handle, agent: agent.fingerprint, snapshots: [] };
  const take = async (...tags: string[]) => {
    const entries = listTree(lab.state);
    const { complete, warnings, snapshot } = await lab.backup(tags);
    if (!complete || warnings.length > 0) throw new Error(JSON.stringify(warnings));
    golden.snapshots.push({ id: snapshot.id, seq: snapshot.seq, time: snapshot.time, tags, entries });
  };
  const inState = (name: string) => join(lab.state, name);

  makeNastyTree(lab.state, 150_000);
  chownSync(inState('memory/log.jsonl'), 1234, 5678);
  await take('first');

  // An insertion in the middle of a file of several chunks, an appended log, a file gone, a folder new, a mode and a link changed.
  const big = readFileSync(inState('memory/big.bin'));
  writeFileSync(inState('memory/big.bin'), Buffer.concat([big.subarray(0, 9000), noise(100, 8), big.subarray(9000)]));
  writeFileSync(inState('memory/log.jsonl'), readFileSync(inState('memory/log.jsonl'), 'utf8') + '{"event":"tock"}\n');
  rmSync(inState('a'), { recursive: true });
  mkdirSync(inState('new folder'));
  writeFileSync(inState('new folder/same contents'), readFileSync(inState('memory/run.sh')));
  touch(lab.state, 1_768_000_000);
  await take('second', 'größe');

  // Nothing but a time.
  touch(lab.state, 1_769_000_000);
  await take();

  mkdirSync(HOME, { recursive: true });
  cpSync(lab.backends[0] ?? '', join(HOME, 'repository'), { recursive: true });
  rmSync(join(HOME, 'repository', 'tmp'), { recursive: true, force: true });
  writeFileSync(join(HOME, 'words.txt'), readFileSync(lab.wordsFile));
  writeFileSync(join(HOME, 'expected.json'), `${JSON.stringify(golden, undefined, 1)}\n`);
  writeFileSync(join(HOME, '.gitattributes'), '* -text\n');
  writeFileSync(
    join(HOME, 'README.md'),
    `# The golden repository of format version 1

Every later holdfast must restore it: \`test/golden/v1.test.ts\` does. It was made once, by \`test/golden/generate.ts\`, and is never made
again or changed. Its words are in \`words.txt\`: they protect nothing, this is test data. \`expected.json\` says what each snapshot holds.
`,
  );
  rmSync(folder, { recursive: true });
}

if (import.meta.main) await generate();
