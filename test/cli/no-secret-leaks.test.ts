/** Every byte that a life of an agent leaves behind, on its host, on the backends and on the terminal, is searched for its secrets. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { hkdf } from '../../src/crypto/hash.ts';
import { SLIP39_WORDS } from '../../src/crypto/slip39-words.ts';
import { wordsOf } from '../../src/crypto/words.ts';
import { formatOpenSsh, parseAgentKey } from '../../src/identity/agent-key.ts';
import { parseCodes } from '../../src/identity/paper-code.ts';
import { agentKey, newRoot, parseWordsText, recoveryKey, restoreIdentity, type Root } from '../../src/identity/root.ts';
import { parseWriterKey } from '../../src/identity/writer-key.ts';
import { lacks, seededRandom } from '../crypto/support.ts';
import { drawnText, scan, zbarimg } from '../identity/paper-scan.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';
import { leakSearch, type LeakSearch, type Secrets } from './leak-search.ts';
import { ROOT, type Ended } from './run.ts';

const noScanner = lacks('pdftoppm', '-v') || lacks('zbarimg', '--version');
const random = seededRandom('no secret leaks');
const other = newRoot(random);
const imported = parseAgentKey(Buffer.from(random.bytes(32)).toString('hex'));
const PASSPHRASE = 'Quartz9-violin_tundra7-Meadow.kestrel';
const WRONG_PASSPHRASE = 'Falcon3-oboe_desert8-Harbor.magpie';
/** Of an operator whom the agent lets restore. */
const operatorIdentity = restoreIdentity(newRoot(random), 'x25519');

let folder: string;
let home: AgentHome;
let words: string[];
let secrets: Secrets;
let search: LeakSearch;
/** What each command printed. */
const outputs: { command: string; text: string }[] = [];
/** Each file as it was after each command that wrote it: what the next one replaces was on the disk too. */
const versions = new Map<string, { file: string; mode: number; bytes: Buffer }>();
const keep = (args: readonly string[], { stdout, stderr }: Ended): void => {
  outputs.push({ command: args.join(' '), text: `${stdout}\n${stderr}` });
  keepFiles();
};

function keepFiles(): void {
  for (const file of filesBelow(folder)) {
    const { mode, ino, size, mtimeNs } = statSync(join(folder, file), { bigint: true });
    const version = `${file} ${ino} ${mtimeNs} ${size}`;
    if (versions.has(version)) continue;
    versions.set(version, { file, mode: Number(mode & 0o7777n), bytes: readFileSync(join(folder, file)) });
  }
}

/** What Node compiles would lie beside the sources; this puts it where it is searched too. Always the same words: no chance finding, now or then. */
const newHome = (name: string, { warm = true } = {}) =>
  agentHome(join(folder, name), {
    ended: keep,
    seed: name,
    warm,
    env: { NODE_COMPILE_CACHE: join(folder, 'compiled') },
  });

/** Files that may hold a secret, and which; all of them have mode 0600. */
const MEANT: Readonly<Record<string, readonly string[]>> = {
  'ada/words.txt': ['words'],
  // Of PDFs, the text that they draw. The QR codes are lines and areas: their text is nowhere.
  'ada/sheet.pdf': ['words'],
  'ada/again.pdf': ['words'],
  ...(noScanner ? {} : { 'ada/shares.pdf': ['share 1', 'share 2', 'share 3'] }),
  'ada/holdfast.identity.key': ['identity/0', 'identity/1', 'imported'], // one after the other
  'ada/holdfast.identity.key.replaced-1': ['identity/0'],
  'ada/holdfast.identity.key.replaced-3': ['identity/1'],
  'ada/holdfast.writer.key': ['chunk id key', 'writer identity'],
  'ada/copy.key': ['imported'],
  'ada/restore.key': ['restore identity'],
  'ada/recovery.key': ['recovery/0'],
  'new/holdfast.identity.key': ['imported'],
  'new/holdfast.writer.key': ['chunk id key', 'writer identity'],
  'emergency/holdfast.identity.key': ['emergency'],
  // Made by this test, for the commands to read.
  'ada/passphrase': ['passphrase'],
  'ada/wrong-passphrase': ['wrong passphrase'],
  'ada/other.txt': ['words of another'],
  'ada/swapped.txt': ['words'],
  'ada/mistyped.txt': ['words'],
  'ada/short.txt': ['words'],
  'ada/unknown.txt': ['words'],
  'ada/own.hex': ['imported'],
  'ada/operator.key': ['operator'],
};

const WORDS = ['--words-file', 'words.txt'];
const passphraseFile = ['--passphrase-file', 'passphrase'];
const disk = (name: string) => join(folder, 'disks', name);

/** Everything below the folder: programs write files where one does not look for them. */
function filesBelow(top: string): string[] {
  return readdirSync(top, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(top, join(entry.parentPath, entry.name)))
    .sort();
}

/** What is searched of a file: of a PDF what it draws, besides its bytes. */
function contentOf(file: string, bytes: Buffer): Buffer {
  return file.endsWith('.pdf') ? Buffer.concat([bytes, Buffer.from(`\n${drawnText(bytes)}`)]) : bytes;
}

const isProgram = (file: string) => file.startsWith('compiled/');

/** The program's own sources: what they say is no secret. */
function programText(): string {
  const sources = ['src', 'bin', 'docs'].flatMap((name) =>
    filesBelow(join(ROOT, name)).map((file) => readFileSync(join(ROOT, name, file), 'utf8')),
  );
  return [...sources, wordlist.join('\n'), SLIP39_WORDS.join('\n')].join('\n');
}

async function live(): Promise<void> {
  mkdirSync(home.at('state'));
  writeFileSync(home.at('state', 'MEMORY.md'), '# memory\n');
  home.secret('passphrase', PASSPHRASE);
  home.secret('wrong-passphrase', WRONG_PASSPHRASE);
  home.secret('other.txt', wordsOf(other).join(' '));
  home.secret('operator.key', `${operatorIdentity}\n`);
  home.secret('own.hex', Buffer.from(imported.seed).toString('hex'));
  const { ageRecipientOf } = await import('../../src/crypto/age.ts');
  const operator = await ageRecipientOf(operatorIdentity);
  const done = async (...args: string[]) => {
    const { code, stderr, stdout } = await home.holdfast(...args);
    expect(code, `${args.join(' ')}: ${stderr}${stdout}`).toBe(0);
  };

  await done(...initArgs(disk), ...WORDS, '--paper', 'sheet.pdf');
  words = wordsOf(parseWordsText(readFileSync(home.at('words.txt'), 'utf8')));
  await done('backup', '--json');
  await done('paper', 'create', '--output', 'again.pdf', ...WORDS, '--json');
  if (!noScanner) await done('paper', 'create', '--output', 'shares.pdf', '--shares', '2of3', ...WORDS);
  await done('paper', 'verify', ...WORDS);
  await done('identity', 'export', '--format', 'recovery', '--output', 'recovery.key', ...WORDS, '--json');
  await done('identity', 'rotate', ...WORDS, '--json');
  await done('recipients', 'add', operator, ...WORDS);
  await done('identity', 'import', 'own.hex', ...WORDS);
  await done('identity', 'export', '--format', 'openssh', '--output', 'copy.key');
  await done('identity', 'export', '--format', 'age', '--output', 'restore.key', ...WORDS);
  const vault = ['--passphrase', '--output', 'vault.age', '--to-backends'];
  await done('identity', 'export', ...vault, ...WORDS, ...passphraseFile);
  await done('identity', 'show', '--json');
  await done('identity', 'log');
  writeFileSync(home.at('state', 'more.md'), 'more\n');
  await done('backup');
  await done('verify', '--level', 'chunks', ...WORDS);
  const drilled = ['lost-host', 'lost-paper', 'stolen-writer-key', 'rotated-key'];
  await done('drill', 'run', ...drilled, ...WORDS, '--vault', 'vault.age', ...passphraseFile, '--json');
}

/** On other machines: recovered, and an emergency that nobody meant. */
async function outlive(): Promise<void> {
  const machine = newHome('new');
  const place = ['--from', `file://${disk('usb')}`, '--target', 'state'];
  const recovered = await machine.holdfast('recover', ...place, '--words-file', home.at('words.txt'), '--json');
  expect(recovered).toMatchObject({ code: 0, stderr: '' });
  expect(await machine.holdfast('backup')).toMatchObject({ code: 0 });
  const rescuer = newHome('emergency');
  const key = ['--recovery-key', home.at('recovery.key')];
  const begun = await rescuer.holdfast('recover', '--emergency', ...key, '--from', `file://${disk('nas')}`);
  expect(begun).toMatchObject({ code: 0 });
}

/** Each is refused, as text and as JSON; what they are given is secret, or nearly. */
async function fail(): Promise<void> {
  const swapped = [...words];
  [swapped[9], swapped[10]] = [words[10]!, words[9]!];
  home.secret('swapped.txt', swapped.join('\n'));
  // As a file of `init`, with the checks of the rows.
  const text = readFileSync(home.at('words.txt'), 'utf8');
  home.secret('mistyped.txt', text.replace(words.slice(8, 10).join(' '), `${words[9]} ${words[8]}`));
  home.secret('unknown.txt', text.replace(`\n${words[4]} `, `\n${words[4]}ness `));
  home.secret('short.txt', words.slice(0, 23).join(' '));
  const place = ['--from', `file://${disk('nas')}`, '--target', 'elsewhere', '--config', 'elsewhere.yaml'];
  const phrase = words.join(' ');
  const commands: [code: number, ...args: string[]][] = [
    [12, 'recover', ...place, '--words-file', 'other.txt'],
    [12, 'recover', ...place, '--words-file', 'swapped.txt'],
    [12, 'recover', ...place, '--words-file', 'short.txt'],
    [12, 'recover', ...place, '--words-file', 'mistyped.txt'],
    [12, 'recover', ...place, '--words-file', 'unknown.txt'],
    [12, 'recover', ...place, '--words-file', 'words.txt', '--words-file', 'other.txt'],
    [12, 'recover', ...place, '--words-file', 'own.hex'],
    [12, 'recover', ...place, '--words-file', 'holdfast.identity.key'],
    [12, 'recover', ...place, '--identity-file', 'words.txt'],
    [12, 'recover', ...place, '--vault', 'vault.age', '--passphrase-file', 'wrong-passphrase'],
    [12, 'recover', ...place, '--stored-vault', '--passphrase-file', 'wrong-passphrase'],
    [2, 'recover', ...place, '--vault', 'words.txt', ...passphraseFile],
    [13, 'recover', '--emergency', '--recovery-key', 'words.txt', '--from', `file://${disk('nas')}`],
    [12, 'paper', 'verify', '--words-file', 'swapped.txt'],
    [12, 'paper', 'create', '--output', 'never.pdf', '--words-file', 'other.txt'],
    [12, 'identity', 'rotate', '--words-file', 'other.txt'],
    [12, 'identity', 'import', 'words.txt', ...WORDS],
    [2, 'identity', 'import', 'own.hex', ...WORDS],
    [12, 'identity', 'export', '--format', 'age', '--output', 'never.key', '--words-file', 'swapped.txt'],
    [12, 'recipients', 'remove', 'age1none', '--words-file', 'other.txt'],
  ];
  const withSecretArguments: typeof commands = [
    [2, 'recover', ...place, '--words-file', phrase],
    [2, 'recover', ...place, ...words],
    [2, 'paper', 'verify', ...words],
    [2, 'recipients', 'add', operatorIdentity, ...WORDS],
  ];
  const wrong: string[] = [];
  for (const [by, list] of [
    [home, commands],
    [newHome('ada', { warm: false }), withSecretArguments],
  ] as const) {
    for (const [code, ...args] of list) {
      for (const form of [[], ['--json']]) {
        const ended = await by.holdfast(...args, ...form);
        if (ended.code !== code)
          wrong.push(`${args.join(' ')}: ${ended.code}, not ${code}: ${ended.stdout}${ended.stderr}`);
      }
    }
  }
  expect(wrong).toEqual([]);
}

function secretsOf(root: Root): Secrets {
  const writer = parseWriterKey(readFileSync(home.at('holdfast.writer.key'), 'utf8'));
  const emergency = parseAgentKey(readFileSync(join(folder, 'emergency', 'holdfast.identity.key'), 'utf8'));
  const shares = noScanner ? [] : parseCodes(zbarimg(scan(readFileSync(home.at('shares.pdf'))))).codes;
  expect(shares).toHaveLength(noScanner ? 0 : 3);
  const generations = [0, 1, 2].flatMap((n): [string, Uint8Array][] => [
    [`identity/${n}`, agentKey(root, n).seed],
    [`recovery/${n}`, recoveryKey(root, n).seed],
  ]);
  return {
    phrases: {
      words,
      'words of another': wordsOf(other),
      ...Object.fromEntries(shares.map(({ body }, i) => [`share ${i + 1}`, body.split(' ')])),
    },
    keys: {
      root,
      'root of another': other,
      restore: hkdf(root, 'restore'),
      'chunk id key': writer.chunkIdKey,
      imported: imported.seed,
      emergency: emergency.seed,
      ...Object.fromEntries(generations),
    },
    texts: {
      'restore identity': restoreIdentity(root, 'x25519'),
      'restore identity, post-quantum': restoreIdentity(root, 'hybrid'),
      'writer identity': writer.ageIdentity,
      operator: operatorIdentity,
      passphrase: PASSPHRASE,
      'wrong passphrase': WRONG_PASSPHRASE,
    },
  };
}

beforeAll(async () => {
  folder = temporaryFolder();
  home = newHome('ada');
  await live();
  await outlive();
  await fail();
  secrets = secretsOf(parseWordsText(readFileSync(home.at('words.txt'), 'utf8')));
  search = leakSearch(secrets, programText());
}, 120_000);
afterAll(() => removeFolder(folder));

describe('after a life with init, backups, paper, rotation, export, recovery and mistakes', () => {
  it('only the files that are meant to hold a secret hold one, and they are for their owner alone', () => {
    const files = filesBelow(folder);
    expect(files.length).toBeGreaterThan(100);
    for (const part of ['compiled/', 'ada/xdg/state/', 'ada/xdg/cache/', 'disks/nas/packs/', 'disks/usb/vault/'])
      expect(files.filter((file) => file.startsWith(part)).length, part).toBeGreaterThan(0);
    const holding: Record<string, Set<string>> = {};
    for (const { file, mode, bytes } of versions.values()) {
      const found = search(contentOf(file, bytes), { program: isProgram(file) });
      if (found.length === 0) continue;
      expect(mode, file).toBe(0o600);
      for (const name of found) (holding[file] ??= new Set()).add(name);
    }
    const told = Object.entries(holding).map(([file, names]) => [file, [...names].sort()]);
    expect(Object.fromEntries(told)).toEqual(MEANT);
  });

  it('no output holds one', () => {
    expect(outputs.length).toBeGreaterThan(50);
    const telling = outputs.flatMap(({ command, text }) => search(Buffer.from(text)).map((name) => [name, command]));
    expect(telling).toEqual([]);
  });

  it('nothing is left in the folder for temporary files', () => {
    for (const name of ['ada', 'new', 'emergency']) expect(readdirSync(join(folder, name, 'tmp'))).toEqual([]);
    expect(filesBelow(folder).filter((file) => /\.holdfast-/.test(file))).toEqual([]);
  });
});

/** What people type in haste: the secret itself where a file, or nothing, is expected. */
describe('a secret as an argument is not repeated', () => {
  const place = () => ['recover', '--from', `file://${disk('nas')}`, '--target', 'elsewhere'];
  const phrase = () => words.join(' ');
  const identity = () => secrets.texts['restore identity']!;
  it.each<[string, () => string[]]>([
    ['the words, with a flag that is none', () => [...place(), `--words=${phrase()}`]],
    ['the words, with a flag that is none, apart', () => [...place(), '--words', phrase()]],
    ['the words as the command', () => [phrase()]],
    ['the words as --words-file', () => [...place(), '--words-file', phrase()]],
    ['the words as --vault', () => [...place(), '--vault', phrase(), ...passphraseFile]],
    ['the age key as --identity-file', () => [...place(), '--identity-file', identity()]],
    ['the passphrase after --passphrase', () => ['identity', 'export', `--passphrase=${PASSPHRASE}`, '--output', 'x']],
  ])('%s', async (_, args) => {
    for (const form of [[], ['--json']]) {
      const { code, stdout, stderr } = await newHome('ada', { warm: false }).holdfast(...args(), ...form);
      expect(code).not.toBe(0);
      expect(search(Buffer.from(`${stdout}\n${stderr}`))).toEqual([]);
    }
  });
});

describe('the search itself finds', () => {
  const line = () => words.slice(4, 8);
  const seed = () => secrets.keys['identity/2']!;
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
  const utf16 = (text: string) => Buffer.from(text, 'utf16le');
  /** A pair that the program does not say by itself. */
  const pair = () => {
    const at = words.findIndex((_, i) => search(Buffer.from(words.slice(i, i + 2).join(' '))).length > 0);
    return words.slice(at, at + 2);
  };
  const planted: Readonly<Record<string, [string, () => string | Uint8Array]>> = {
    'two words': ['words', () => `error: ${pair().join(' ')}?`],
    'two words in capitals, on two lines': ['words', () => pair().join('\r\n\t').toUpperCase()],
    'two words with a line end as JSON has it': ['words', () => JSON.stringify({ text: pair().join('\n') })],
    'three words in a list': ['words', () => JSON.stringify(line().slice(0, 3))],
    'three words by their first letters': [
      'words',
      () =>
        line()
          .map((word, i) => `${i + 5}. ${word.slice(0, 4)}`)
          .join(' | '),
    ],
    'words in any order': ['words', () => [...new Set(words)].toSorted().slice(0, 12).join(' and ')],
    'words of two bytes a character': ['words', () => utf16(line().join(','))],
    'words of another agent': ['words of another', () => wordsOf(other).join(' ')],
    'the root as it is': ['root', () => Buffer.concat([Buffer.from('x'), secrets.keys['root']!, Buffer.from('y')])],
    'the root in hexadecimal': ['root', () => `root=${Buffer.from(secrets.keys['root']!).toString('hex')}`],
    'a seed in capital hexadecimal': ['identity/2', () => Buffer.from(seed()).toString('hex').toUpperCase()],
    'a seed in base64': ['identity/2', () => base64(seed())],
    'a seed in base64 of other letters': ['identity/2', () => Buffer.from(seed()).toString('base64url')],
    'a seed within something in base64, 1': ['identity/2', () => base64(Buffer.concat([Buffer.from('{'), seed()]))],
    'a seed within something in base64, 2': [
      'identity/2',
      () => base64(Buffer.concat([Buffer.from('{"'), seed(), seed()])),
    ],
    'a seed as an array of bytes': ['identity/2', () => JSON.stringify({ data: [...seed()] }, undefined, 2)],
    'a seed in a key file': [
      'identity/2',
      () => formatOpenSsh({ seed: seed(), publicKey: publicKeyOf(seed()) }, 'ada', random),
    ],
    'a passphrase': ['passphrase', () => `the passphrase "${PASSPHRASE}" is wrong`],
    'an age key in small letters': ['restore identity', () => secrets.texts['restore identity']!.toLowerCase()],
  };

  it.each(Object.entries(planted))('%s', (_, [name, leak]) => {
    const file = join(folder, 'planted');
    writeFileSync(file, leak());
    expect(search(readFileSync(file))).toEqual([name]);
  });

  it('a leak among compiled code', () => {
    const [file = ''] = filesBelow(folder).filter(isProgram);
    const code = readFileSync(join(folder, file));
    for (const leak of [words.join(' '), JSON.stringify(words)])
      expect(search(Buffer.concat([code, Buffer.from(leak), code]), { program: true })).toEqual(['words']);
    expect(search(code, { program: true })).toEqual([]);
  });

  it('nothing where nothing is', () => {
    expect(search(Buffer.from([...words].reverse().slice(0, 6).join(' ')))).toEqual([]);
    expect(search(random.bytes(100_000))).toEqual([]);
    expect(search(Buffer.from(programText()), { program: true })).toEqual([]);
  });
});
