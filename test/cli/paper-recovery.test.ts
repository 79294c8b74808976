/** From the printed sheet back to the agent, as it happens: the real program, pdftoppm as the printer, zbarimg as the scanner, an empty machine. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { paperOf, type PaperFacts } from '../../src/identity/paper.ts';
import { renderPaper, type CodePlace, type PaperSize } from '../../src/identity/paper-pdf.ts';
import { parseWordsText } from '../../src/identity/root.ts';
import { lacks, seededRandom } from '../crypto/support.ts';
import { blackness, BLOTS, blotted, scan, zbarimg, type Scan } from '../identity/paper-scan.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';

const PASSPHRASE = 'tundra-7 violin Quartz lantern';

const lacksTools = lacks('pdftoppm', '-v') || lacks('zbarimg', '--version') || lacks('ssh-keygen', '-?');

interface Shown {
  publicKey: string;
  fingerprint: string;
  ssh: string;
}

/** An agent that was set up, has its sheet, and made a backup. */
interface Agent {
  home: AgentHome;
  disk: (name: string) => string;
  shown: Shown;
  repository: string;
  sheet: Scan[];
  /** What zbarimg prints of the sheet. */
  printed: string;
}

let folder: string;
const homes = { made: 0 };
/** A machine on which nothing was ever done. */
const emptyMachine = (): AgentHome => agentHome(join(folder, `machine-${homes.made++}`), { warm: true });
const readScan = (machine: AgentHome, printed: string) => machine.secret('scan.txt', printed);
/** The sheets that a command made, as the scanner has them. */
const scanned = (file: string) => scan(readFileSync(file));

/** The words, keys and shares of `name` are the same each time. */
async function newAgent(name: string, prepare: (home: AgentHome) => string[]): Promise<Agent> {
  const home = agentHome(join(folder, name), { seed: name, warm: true });
  const disk = (disc: string) => join(folder, `${name}-disks`, disc);
  fillState(home.at('state'));
  const extra = prepare(home);
  const made = await home.json<{ repository: string; warnings: unknown[] }>(
    0,
    ...initArgs(disk),
    ...['--words-file', 'words.txt', '--paper', 'sheet.pdf'],
    ...extra,
  );
  expect(made.warnings).toEqual([]);
  for (const file of ['words.txt', 'sheet.pdf']) expect(statSync(home.at(file)).mode & 0o777, file).toBe(0o600);
  await home.json(0, 'backup');
  const shown = await home.json<Shown>(0, 'identity', 'show');
  const sheet = scanned(home.at('sheet.pdf'));
  return { home, disk, shown, repository: made.repository, sheet, printed: zbarimg(sheet) };
}

function fillState(state: string): void {
  mkdirSync(join(state, 'memory', 'empty'), { recursive: true });
  writeFileSync(join(state, 'MEMORY.md'), '# memory\n');
  writeFileSync(join(state, 'memory', 'large'), Buffer.alloc(300_000, 'what happened '));
  writeFileSync(join(state, 'memory', 'run.sh'), '#!/bin/sh\n', { mode: 0o755 });
  symlinkSync('../MEMORY.md', join(state, 'memory', 'link'));
}

/** The machine is the agent's now: the same key, as ssh-keygen too sees it, and the same state. */
async function expectRecovered(machine: AgentHome, { home, shown }: Agent): Promise<void> {
  const now = await machine.json<Shown>(0, 'identity', 'show');
  expect(now).toEqual({ ...shown, file: machine.at('holdfast.identity.key') });
  const publicLine = execFileSync('ssh-keygen', ['-y', '-f', machine.at('holdfast.identity.key')], {
    encoding: 'utf8',
  });
  expect(publicLine.trim().split(' ').slice(0, 2)).toEqual(shown.ssh.split(' ').slice(0, 2));
  const { stdout, status } = spawnSync('diff', ['-r', '--no-dereference', home.at('state'), machine.at('state')], {
    encoding: 'utf8',
  });
  expect({ stdout, status }).toEqual({ stdout: `Only in ${machine.at('state')}: holdfast-restored.json\n`, status: 1 });
  expect(statSync(machine.at('state', 'memory', 'run.sh')).mode & 0o777).toBe(0o755);
  for (const file of ['holdfast.yaml', 'holdfast.identity.key', 'holdfast.writer.key'])
    expect(statSync(machine.at(file)).mode & 0o777, file).toBe(0o600);
}

interface Recovered {
  repository: string;
  agent: { publicKey: string };
  identity: { continuous: boolean };
  lost: unknown[];
  warnings: unknown[];
}

/** Recovers on the machine from one backend, and looks at the result. */
async function recoverOn(machine: AgentHome, agent: Agent, ...secret: string[]): Promise<void> {
  const from = ['--from', `file://${agent.disk('usb')}`, '--target', 'state'];
  const recovered = await machine.json<Recovered>(0, 'recover', ...from, ...secret);
  expect(recovered).toMatchObject({
    repository: agent.repository,
    agent: { publicKey: agent.shown.publicKey },
    identity: { continuous: true },
    lost: [],
    warnings: [],
  });
  await expectRecovered(machine, agent);
}

/** Where the codes lie on a sheet of this agent: the places depend on what is printed, and not on the secrets. */
async function codePlaces(
  { home, disk, shown, repository }: Agent,
  over: Partial<PaperFacts> = {},
  size: PaperSize = 'a4',
): Promise<CodePlace[]> {
  const root = parseWordsText(readFileSync(home.at('words.txt'), 'utf8'));
  const facts: PaperFacts = {
    handle: 'ada',
    agentPublicKey: shown.publicKey,
    origin: 'derived',
    repository,
    backends: ['nas', 'usb'].map((name) => ({ name, url: `file://${disk(name)}` })),
    kind: 'x25519',
    tool: 'holdfast/0.1.0',
    time: 0,
    ...over,
  };
  return (await renderPaper(await paperOf(root, facts, seededRandom('places')), { size })).codes;
}

/** So that a blot is known to lie on a code: in three of its corners are squares of 7 modules, black in the middle, with white around them. */
function expectCodesAt(pages: readonly Scan[], places: readonly CodePlace[]): void {
  for (const { page, x, y, edge, modules } of places) {
    const module = edge / modules;
    const isBlack = (column: number, row: number) =>
      blackness(pages[page]!, x + column * module, y + row * module, 2 * module, 2 * module);
    const far = modules - 7;
    for (const [column, row] of [
      [0, 0],
      [far, 0],
      [0, far],
    ] as const)
      expect(isBlack(column + 2.5, row + 2.5)).toBeGreaterThan(0.95);
    expect([isBlack(-3, 0), isBlack(0, -3), isBlack(modules + 1, 0), isBlack(0, modules + 1)]).toEqual([0, 0, 0, 0]);
  }
}

const codesIn = (scannedText: string) =>
  scannedText
    .split(/^QR-Code:/m)
    .slice(1)
    .sort();

beforeAll(() => {
  folder = temporaryFolder();
});
afterAll(() => removeFolder(folder));

describe.skipIf(lacksTools)('on an empty machine', () => {
  let agent: Agent;
  beforeAll(async () => {
    agent = await newAgent('ada', () => []);
  });

  it('what zbarimg printed of the sheet brings back identity and state', async () => {
    const machine = emptyMachine();
    await recoverOn(machine, agent, '--words-file', readScan(machine, agent.printed));
    await machine.json(0, 'backup'); // it goes on where it was
  });

  it('so it does with a tenth of each code blanked, wherever it is', async () => {
    const places = await codePlaces(agent);
    expect(places).toHaveLength(2);
    expectCodesAt(agent.sheet, places);
    const clean = codesIn(agent.printed);
    expect(clean).toHaveLength(2);
    let printed = '';
    for (const [where, blot] of Object.entries(BLOTS)) {
      const pages = blotted(agent.sheet, places, blot);
      expect(pages.every(({ pixels }, i) => Buffer.compare(pixels, agent.sheet[i]!.pixels) === 0)).toBe(false);
      printed = zbarimg(pages);
      expect(codesIn(printed), where).toEqual(clean);
    }
    const machine = emptyMachine();
    await recoverOn(machine, agent, '--words-file', readScan(machine, printed));
  });

  it('one code of the sheet is enough for the state, and then the identity is said to be unproved', async () => {
    const machine = emptyMachine();
    const ageKey = codesIn(agent.printed).find((code) => code.includes('AGE-SECRET-KEY-'));
    const file = machine.secret('scan.txt', `QR-Code:${ageKey}`);
    const recovered = await machine.json<Recovered>(
      0,
      ...['recover', '--from', `file://${agent.disk('nas')}`, '--target', 'state', '--words-file', file],
    );
    expect(recovered).toMatchObject({ identity: { continuous: false }, warnings: [{ code: 'identity_not_proved' }] });
    await expectRecovered(machine, agent);
  });

  it('any two of three pages of shares do, also when they are stained; one page does not, and says how many lack', async () => {
    const { home } = agent;
    const shares = { threshold: 2, count: 3 };
    await home.json(0, 'paper', 'create', '--output', 'shares.pdf', '--shares', '2of3', '--words-file', 'words.txt');
    const pages = scanned(home.at('shares.pdf'));
    const places = await codePlaces(agent, { shares });
    expectCodesAt(pages, places);
    const [first, second, third] = blotted(pages, places, [0.83, 0.83]).map((page) => zbarimg([page]));

    const one = emptyMachine();
    const from = ['--from', `file://${agent.disk('nas')}`, '--target', 'state'];
    const before = readdirSync(one.folder);
    const error = await one.refused(12, 'recover', ...from, '--words-file', one.secret('one.txt', first!));
    expect(error.code).toBe('bad_words');
    expect(`${error.message} ${error.hint}`).toMatch(/\b(2|two|one more|1 more)\b/i);
    expect(readdirSync(one.folder).toSorted()).toEqual([...before, 'one.txt'].toSorted());

    for (const [a, b] of [
      [first, third],
      [third, second],
    ]) {
      const machine = emptyMachine();
      const files = [machine.secret('a.txt', a!), machine.secret('b.txt', b!)];
      await recoverOn(machine, agent, ...files.flatMap((file) => ['--words-file', file]));
    }
  });

  it('a vault file does, and one that lies on the backends; another passphrase does not', async () => {
    const { home } = agent;
    const passphrase = ['--passphrase-file', home.secret('passphrase', `${PASSPHRASE}\n`)];
    const words = ['--words-file', 'words.txt'];
    await home.json(
      0,
      ...['identity', 'export', '--passphrase', '--output', 'vault.age', '--to-backends', ...words, ...passphrase],
    );
    expect(readFileSync(home.at('vault.age'), 'latin1')).toMatch(/^age-encryption\.org\/v1\n-> scrypt /);
    const machine = emptyMachine();
    cpSync(home.at('vault.age'), machine.at('vault.age'));
    await recoverOn(machine, agent, '--vault', 'vault.age', ...passphrase);
    await recoverOn(emptyMachine(), agent, '--stored-vault', ...passphrase);
    const wrong = emptyMachine();
    const from = ['--from', `file://${agent.disk('nas')}`, '--target', 'state'];
    const guess = wrong.secret('guess', 'tundra-7 violin Quartz lanterns\n');
    const error = await wrong.refused(12, 'recover', ...from, '--stored-vault', '--passphrase-file', guess);
    expect(error.code).toBe('wrong_key');
    expect(readdirSync(wrong.folder).toSorted()).toEqual(['guess', 'tmp']);
  });
});

describe.skipIf(lacksTools)('an agent that brought its own key, in a file under a passphrase,', () => {
  let agent: Agent;
  let ownKey: string;
  beforeAll(async () => {
    agent = await newAgent('bea', (home) => {
      const args = ['-q', '-t', 'ed25519', '-C', 'ada', '-N', PASSPHRASE, '-a', '1', '-f', home.at('own')];
      execFileSync('ssh-keygen', args);
      ownKey = readFileSync(home.at('own.pub'), 'utf8').trim();
      const passphrase = home.secret('passphrase', PASSPHRASE);
      return ['--identity', 'own', '--passphrase-file', passphrase, '--paper-size', 'letter'];
    });
  });

  /** The agent with a backend that has lost the key. */
  const withoutKey = (): Agent => {
    const disk = join(folder, `without-key-${homes.made++}`);
    cpSync(agent.disk('usb'), disk, { recursive: true });
    rmSync(join(disk, 'identity'), { recursive: true });
    return { ...agent, disk: () => disk };
  };

  it('is the agent with that key', () => {
    expect(agent.shown.ssh.split(' ').slice(0, 2)).toEqual(ownKey.split(' ').slice(0, 2));
  });

  it('comes back from the sheet alone, with the key on it, though no backend has the key any more', async () => {
    const without = withoutKey();
    const places = await codePlaces(
      agent,
      { origin: 'imported', agentKeyFile: readFileSync(agent.home.at('holdfast.identity.key')) },
      'letter',
    );
    expect(codesIn(agent.printed)).toHaveLength(places.length);
    expectCodesAt(agent.sheet, places);
    for (const printed of [agent.printed, zbarimg(blotted(agent.sheet, places, [0.83, 0.83]))]) {
      const machine = emptyMachine();
      await recoverOn(machine, without, '--words-file', readScan(machine, printed));
    }
  });

  it('comes back from two pages of shares, and where no backend has the key any more, with the page of the key', async () => {
    const { home } = agent;
    await home.json(0, 'paper', 'create', '--output', 'shares.pdf', '--shares', '2of3', '--words-file', 'words.txt');
    const texts = scanned(home.at('shares.pdf')).map((page) => zbarimg([page]));
    const shares = texts.filter((text) => /# holdfast\/\d+ share /.test(text));
    expect(shares).toHaveLength(3);
    const two = [shares[2]!, shares[0]!];
    const given = (machine: AgentHome, scans: readonly string[]) =>
      scans.flatMap((text, i) => ['--words-file', machine.secret(`scan-${i}.txt`, text)]);
    const machine = emptyMachine();
    await recoverOn(machine, agent, ...given(machine, two));
    const without = withoutKey();
    const place = ['--from', `file://${without.disk('usb')}`, '--target', 'state'];
    const lacking = emptyMachine();
    await lacking.refused(13, 'recover', ...place, ...given(lacking, two));
    expect(existsSync(lacking.at('state'))).toBe(false);
    const keyPages = texts.filter((text) => /# holdfast\/\d+ agent-key /.test(text) && !shares.includes(text));
    const other = emptyMachine();
    await recoverOn(other, without, ...given(other, [...two, ...keyPages]));
  });
});
