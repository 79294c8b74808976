/** What `demo` tells is true; and when something went wrong it does not tell that all is well. */
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openBackend } from '../../src/backend/open.ts';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { demo, type DemoResult } from '../../src/drill/demo.ts';
import { formatOpenSsh, parseAgentKey } from '../../src/identity/agent-key.ts';
import { agentKey, formatWordsFile, newRoot, parseWordsText } from '../../src/identity/root.ts';
import { HoldfastError } from '../../src/errors.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { noProgress } from '../../src/progress.ts';
import { FaultyBackend, type Fault } from '../faulty-backend.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';

let place: string;
beforeEach(() => {
  place = temporaryFolder();
  vi.stubEnv('TMPDIR', place);
});
afterEach(() => {
  vi.unstubAllEnvs();
  removeFolder(place);
});

/** The folder of the demo that is running, or was told to keep it. */
const folder = (): string => {
  const [name, ...others] = readdirSync(place);
  expect(others).toEqual([]);
  return join(place, name ?? 'nothing');
};
const at = (...names: string[]) => join(folder(), ...names);
const filesBelow = (root: string) =>
  readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

interface Options {
  keep?: boolean;
  after?: (step: string) => void;
  seams?: Partial<Seams>;
}

function runDemo({ keep = false, after = () => undefined, seams = {} }: Options = {}): Promise<DemoResult> {
  return demo(
    { keep, host: 'test-host', tool: 'holdfast/test', onStep: ({ name }) => after(name) },
    { clock: systemClock, random: systemRandom, progress: noProgress, ...seams },
  );
}

describe('a demo where all goes well', () => {
  it('tells that the agent is back, and leaves nothing', async () => {
    const told: string[] = [];
    const seen: Record<string, string[]> = {};
    const result = await runDemo({
      after: (step) => {
        told.push(step);
        seen[step] = readdirSync(folder()).toSorted();
      },
    });
    expect(result).toMatchObject({
      ok: true,
      recovered: { identity: true, state: true },
      destroyed: { agent: true, backend: true },
      snapshots: [{ seq: 0 }, { seq: 1 }],
    });
    expect(result.steps.map(({ name }) => name)).toEqual(told);
    expect(told).toEqual(['agent', 'init', 'backup', 'work', 'backup again', 'disaster', 'recover', 'check']);
    expect(seen['backup again']).toEqual(['agent', 'cloud', 'nas', 'paper.txt']);
    expect(seen['disaster']).toEqual(['cloud', 'paper.txt']);
    expect(seen['check']).toEqual(['cloud', 'new-machine', 'paper.txt']);
    expect(result.folder).toBeUndefined();
    expect(readdirSync(place)).toEqual([]);
  });

  it('with keep: the old agent and its backend are gone, the new one is there, and the words are on the paper alone', async () => {
    const result = await runDemo({ keep: true });
    expect(result).toMatchObject({ ok: true, folder: folder() });
    expect(readdirSync(folder()).toSorted()).toEqual(['cloud', 'new-machine', 'paper.txt']);
    const paper = at('paper.txt');
    const root = parseWordsText(readFileSync(paper, 'utf8'));
    // The paper is that of this agent: its key is the one that was recovered.
    const recovered = parseAgentKey(readFileSync(at('new-machine', 'identity.key'), 'utf8'));
    expect(Buffer.from(recovered.publicKey)).toEqual(Buffer.from(agentKey(root, 0).publicKey));
    const words = /\b[a-z]+ +[a-z]+ +[a-z]+ +[a-z]+$/m.exec(readFileSync(paper, 'utf8'))?.[0].split(/ +/) ?? [];
    expect(words).toHaveLength(4);
    const phrase = new RegExp(words.join('\\s+'));
    const withWords = filesBelow(place).filter((path) => phrase.test(readFileSync(path, 'latin1')));
    expect(withWords).toEqual([paper]);
    for (const path of filesBelow(folder())) expect(readFileSync(path).includes(Buffer.from(root)), path).toBe(false);
    expect(existsSync(at('new-machine', 'state', 'memory', '2026-01-08.md'))).toBe(true);
  });
});

describe('a demo where something goes wrong does not tell that all is well', () => {
  /** Not ok, or an error that says why; either way nothing is left. */
  async function expectNotWell(options: Options): Promise<void> {
    const result = await runDemo(options).catch((error: unknown) => {
      expect(error).toBeInstanceOf(HoldfastError);
      return undefined;
    });
    if (result) expect(result).toMatchObject({ ok: false });
    expect(readdirSync(place)).toEqual([]);
  }

  const cloudObjects = (kind: string) => filesBelow(at('cloud', kind));
  const flip = (path: string) => {
    const bytes = readFileSync(path);
    const middle = bytes.length >> 1;
    bytes[middle] = (bytes[middle] ?? 0) ^ 1;
    writeFileSync(path, bytes);
  };
  const faults: Record<string, [step: string, plant: () => void]> = {
    'the state changes after the last snapshot': [
      'backup again',
      () => appendFileSync(at('agent', 'state', 'MEMORY.md'), 'more'),
    ],
    'an empty folder appears after the last snapshot': [
      'backup again',
      () => mkdirSync(at('agent', 'state', 'workspace', 'another')),
    ],
    'the agent is still there after the disaster': ['disaster', () => mkdirSync(at('agent'))],
    'the backend is still there after the disaster': ['disaster', () => mkdirSync(at('nas'))],
    'an index is lost': ['disaster', () => rmSync(cloudObjects('index')[0] ?? '')],
    'the words are those of another agent': [
      'disaster',
      () => writeFileSync(at('paper.txt'), formatWordsFile(newRoot(systemRandom)), { mode: 0o600 }),
    ],
    'the other backend is lost too': ['disaster', () => rmSync(at('cloud'), { recursive: true })],
    'a recovered file has other bytes': ['recover', () => flip(at('new-machine', 'state', 'agent.sqlite'))],
    'a recovered file is missing': ['recover', () => rmSync(at('new-machine', 'state', 'HEARTBEAT.md'))],
    'a file comes back that was not there': ['recover', () => writeFileSync(at('new-machine', 'state', 'extra'), '')],
    'a recovered time is another': [
      'recover',
      () => {
        const path = at('new-machine', 'state', 'HEARTBEAT.md');
        writeFileSync(path, readFileSync(path));
      },
    ],
    'the recovered key is another': [
      'recover',
      () => {
        const key = agentKey(newRoot(systemRandom), 0);
        writeFileSync(at('new-machine', 'identity.key'), formatOpenSsh(key, 'x', systemRandom), { mode: 0o600 });
      },
    ],
    'the agent is put back from a copy': ['recover', () => cpSync(at('new-machine'), at('agent'), { recursive: true })],
  };
  it.each(Object.entries(faults))('%s', async (_, [when, plant]) => {
    let planted = false;
    await expectNotWell({
      after: (step) => {
        if (step !== when) return;
        plant();
        planted = true;
      },
    });
    expect(planted).toBe(true);
  });

  it('the last snapshot is lost', async () => {
    let first: string[] = [];
    await expectNotWell({
      after: (step) => {
        if (step === 'backup') first = cloudObjects('snapshots');
        if (step !== 'disaster') return;
        const [last = ''] = cloudObjects('snapshots').filter((path) => !first.includes(path));
        rmSync(last);
      },
    });
    expect(first).toHaveLength(1);
  });

  const storage: Record<string, [after: string, backend: string, fault: Fault]> = {
    'a backend refuses the repository record': ['agent', 'nas', { effect: 'fail', on: 'put', key: 'holdfast.json' }],
    'a backend refuses the first packs': ['init', 'nas', { effect: 'fail', on: 'put', key: /^packs/, times: Infinity }],
    'a backend refuses the last snapshot': ['work', 'nas', { effect: 'fail', on: 'put', key: /^snapshots/ }],
    'the backend that will be left refuses it': ['work', 'cloud', { effect: 'fail', on: 'put', key: /^snapshots/ }],
    'the backend that is left is out of order': ['disaster', 'cloud', { effect: 'fail', on: 'get', key: /^packs/ }],
    'what is left comes back damaged': ['disaster', 'cloud', { effect: 'flip', key: /^packs/, times: Infinity }],
  };
  it.each(Object.entries(storage))('%s', async (_, [when, name, fault]) => {
    const faulty: FaultyBackend[] = [];
    let armed = false;
    await expectNotWell({
      after: (step) => {
        armed ||= step === when;
      },
      seams: {
        openBackend: async (address, how) => {
          const backend = await openBackend(address, how);
          if (!armed || address.name !== name) return backend;
          faulty.push(new FaultyBackend(backend, { name, plan: [fault] }));
          return faulty.at(-1) as FaultyBackend;
        },
      },
    });
    expect(faulty.some(({ operations }) => operations.some(({ effect }) => effect === fault.effect))).toBe(true);
  });
});
