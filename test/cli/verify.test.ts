/** `verify` and `repair` as a user sees them. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { RepairResult } from '../../src/operations/repair.ts';
import type { RestoreResult } from '../../src/operations/restore.ts';
import type { VerifyResult } from '../../src/operations/verify.ts';
import { seededRandom } from '../crypto/support.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { agentHome, initArgs, type AgentHome } from './agent-home.ts';

const random = seededRandom('cli verify');
let home: AgentHome;
beforeAll(async () => {
  home = agentHome(temporaryFolder(), { warm: true });
  mkdirSync(home.at('state'));
  writeFileSync(home.at('state', 'first'), random.bytes(20_000));
  const args = [...initArgs((name) => home.at(name)), '--words-file', 'words.txt'];
  expect(await home.holdfast(...args)).toMatchObject({ code: 0 });
  expect(await home.holdfast('backup')).toMatchObject({ code: 0 });
  writeFileSync(home.at('state', 'second'), random.bytes(30_000));
  expect(await home.holdfast('backup')).toMatchObject({ code: 0 });
});
afterAll(() => removeFolder(home.folder));
const secret = ['--words-file', 'words.txt'];

/** The packs of a backend, the largest (of `second`) first. */
const packsOn = (name: string): string[] =>
  readdirSync(home.at(name, 'packs'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted((a, b) => readFileSync(b).length - readFileSync(a).length);

it('a rolling check says what was not reached, and never that it was verified', async () => {
  const some = await home.holdfast('verify', '--level', 'objects', '--budget', '1B');
  expect(some).toMatchObject({ code: 0, stderr: '' });
  expect(some.stdout).toMatch(/^stopped: the budget is used up, 7 packs NOT reached \(objects\): .* 1 pack read/m);
  expect(some.stdout).toMatch(/^packs found whole at this level so far: 1 of 8, 7 packs never$/m);
  expect(some.stdout).toMatch(/^1 of 8 packs were read; if 1 % of packs were damaged, .* with 12 % probability$/m);
  expect(some.stdout).not.toMatch(/^verified/m);
  const rest = await home.json<VerifyResult>(0, 'verify', '--level', 'objects', '--max-age', '30d');
  expect(rest).toMatchObject({ level: 'objects', damaged: [], confidence: null });
  expect(rest.coverage).toMatchObject({ verified: 8, total: 8, read: 7, left: 0, withinMaxAge: 8 });
  expect(rest.recorded).toMatch(/^verified\//);
  expect((await home.refused(2, 'verify', '--level', 'objects', '--budget', 'much')).message).toContain('duration');
  expect((await home.refused(2, 'verify', '--budget', '10m')).hint).toContain('--level objects');
});

it('a restore that is thrown away is a verification', async () => {
  const text = await home.holdfast('verify', '--level', 'restore', ...secret);
  expect(text).toMatchObject({ code: 0, stderr: '' });
  expect(text.stdout).toMatch(/^restored snapshot \w{8} from nas: 2 files, 48\.8 KiB, compared and removed, in /m);
  expect(text.stdout).toMatch(/^restored snapshot \w{8} from usb: /m);
  expect(
    readdirSync(home.at('xdg', 'cache'), { recursive: true }).filter((name) => String(name).includes('scratch')),
  ).toEqual([]);
});

it('what did I lose? is answered, the rest restores, and what is lost can be given up', async () => {
  for (const name of ['nas', 'usb']) rmSync(packsOn(name)[0] ?? '');
  const found = await home.holdfast('verify', ...secret);
  expect(found.code).toBe(13);
  expect(found.stdout).toMatch(/^What is lost: 0 damaged objects whole on another backend; 1 whole on none$/m);
  expect(found.stdout).toMatch(
    /^ {2}snapshot \w{8} \(number 1, .*\): 1 file \(29\.3 KiB\) cannot be restored: second$/m,
  );
  expect(found.stdout).toContain('holdfast repair --forget-damaged --dry-run');
  expect((await home.holdfast('verify')).stdout).toContain('told with the restore secret');

  const dry = await home.holdfast('repair', '--forget-damaged', '--dry-run', ...secret);
  expect(dry.code).toBe(13);
  expect(dry.stdout).toContain('nothing was changed');
  const cut = await home.json<RepairResult>(0, 'repair', '--forget-damaged', ...secret);
  expect(cut).toMatchObject({ left: [], forgotten: { packs: 1, indexes: 1, lost: [{ seq: 1, paths: ['second'] }] } });
  const after = await home.holdfast('verify', '--level', 'chunks', ...secret);
  expect(after).toMatchObject({ code: 0, stderr: '' });
  expect(after.stdout).toMatch(/^known loss: snapshot \w{8} lacks 1 file; given up on /m);
  expect((await home.holdfast('snapshots')).stdout).toMatch(/lost\n.*\n.* 1 file\n$/);
  const restored = await home.json<RestoreResult>(3, 'restore', '--target', 'out', ...secret);
  expect(restored).toMatchObject({ files: 1, lost: [], knownLost: ['second'] });
  expect(readFileSync(home.at('out', 'first'))).toEqual(readFileSync(home.at('state', 'first')));
});

it('what one backend lost is stored again from the other', async () => {
  const [pack = ''] = packsOn('usb');
  const bytes = readFileSync(pack);
  writeFileSync(
    pack,
    bytes.map((byte, i) => (i === 300 ? byte ^ 1 : byte)),
  );
  writeFileSync(home.at('usb', 'holdfast.json'), '{}\n');
  const found = await home.json<VerifyResult>(13, 'verify', '--level', 'objects');
  expect(found.damaged.map(({ backend, key, elsewhere }) => [backend, key, elsewhere])).toEqual([
    ['usb', 'holdfast.json', ['nas']],
  ]);
  const dry = await home.holdfast('repair', '--dry-run');
  expect(dry.code).toBe(13);
  expect(dry.stdout).toMatch(/^would be stored again from another backend: /m);
  expect(dry.stdout).not.toContain('nothing is damaged any more');
  expect(readFileSync(pack)).not.toEqual(bytes);
  const { stdout, code } = await home.holdfast('repair');
  expect(stdout).toMatch(/^stored again from another backend: 2 objects$/m);
  expect(stdout).toMatch(/^nothing is damaged any more, in .* s, as far as level objects tells$/m);
  expect(code).toBe(0);
  expect(readFileSync(pack)).toEqual(bytes);
});

it('a copy that was not read is not said to be whole, and what turns out to be lost is told with the next step', async () => {
  writeFileSync(home.at('state', 'third'), random.bytes(40_000));
  expect(await home.holdfast('backup')).toMatchObject({ code: 0 });
  const [key = ''] = packsOn('nas').map((path) => path.slice(home.at('nas').length + 1));
  const bytes = readFileSync(home.at('nas', key));
  rmSync(home.at('nas', key));
  writeFileSync(
    home.at('usb', key),
    bytes.map((byte, i) => (i === 300 ? byte ^ 1 : byte)),
  );
  const found = await home.holdfast('verify');
  expect(found.code).toBe(13);
  expect(found.stdout).toMatch(/the object is missing \(there on usb, not read\)/);
  expect(found.stdout).toMatch(/^What is lost: .* 1 there on another, not read; 0 whole on none$/m);
  const dry = await home.holdfast('repair', '--dry-run', '--level', 'listing');
  expect(dry.code).toBe(13);
  expect(dry.stdout).toMatch(/^of them only where the copy that was not read is whole: 1 object$/m);
  const tried = await home.holdfast('verify', '--repair');
  expect(tried.code).toBe(13);
  expect(tried.stdout).not.toMatch(/whole on usb|there on usb/);
  expect(tried.stdout).toMatch(/^DAMAGED usb packs/m);
  expect(tried.stdout).toContain('repair --forget-damaged');
  expect((await home.holdfast('repair', '--level', 'listing')).stdout).toContain('repair --forget-damaged');
  const told = await home.holdfast('verify', '--repair', ...secret);
  expect(told.stdout).not.toContain('is told with the restore secret');
  for (const name of ['nas', 'usb']) writeFileSync(home.at(name, key), bytes);
  expect(await home.holdfast('verify')).toMatchObject({ code: 0 });
});
