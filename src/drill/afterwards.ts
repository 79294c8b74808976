/** What is tried with an agent that was brought back: tampering, a backup, a second copy of it, a thief with its writer key. */
import { join } from 'node:path';
import { HoldfastError, isSurvivable, throwIfAborted } from '../errors.ts';
import { openAge } from '../crypto/age.ts';
import { equalBytes, hex } from '../crypto/hash.ts';
import { readSecretText } from '../identity/secret-file.ts';
import { parseWriterKey, type WriterKey } from '../identity/writer-key.ts';
import type { RestoreSecret } from '../operations/access.ts';
import { openMirror } from '../operations/backends.ts';
import { findEntries } from '../operations/find.ts';
import { catFile, listEntries } from '../operations/look.ts';
import { restore } from '../operations/restore.ts';
import { verify } from '../operations/verify.ts';
import { rawForDisplay } from '../raw-path.ts';
import { openRepository, parseKey, type Access } from '../repository/repository.ts';
import type { Check } from './result.ts';
import { redacted, runIn, secretsIn } from './checks/commands.ts';
import { checkOf, type Scene } from './scene.ts';
import { backupFrom, recoverOn, withPast, type Simulated } from './simulate.ts';

/** Objects of each kind that a thief tries. */
const TRIED_MAX = 32;

/** Before the checks: something happens to the restored state. @throws `hook_failed` when the command fails */
export async function tamper(scene: Scene, command: string): Promise<void> {
  const secrets = await secretsIn(scene); // it may take the files away
  const { problem, output } = await runIn(scene, command);
  throwIfAborted(scene.seams.signal);
  if (problem === undefined) return;
  const shown = redacted(output, secrets);
  throw new HoldfastError('hook_failed', `the step tamper ${problem}${shown && `: ${shown}`}`, {
    hint: 'Run the command by itself; see `after` in the scenario.',
  });
}

/** The agent goes on as before: its next backup follows. */
export async function checkNextBackup(scene: Scene): Promise<Check> {
  // Which is not that of the recovery, after a step that has made one.
  const before = await withPast(scene, async ({ newest }) => newest);
  const { snapshot, backends, warnings } = await backupFrom(scene, scene.host, scene.view, scene.profile);
  const problems = backends.flatMap(({ name, state, error }) =>
    state === 'committed' || scene.sources.problem(name)
      ? []
      : [`backend ${name}: ${state}${error ? `, ${error.message}` : ''}`],
  );
  if (snapshot.parent !== before?.id) problems.push(`it follows ${snapshot.parent ?? 'none'}, and not ${before?.id}`);
  const told = `snapshot ${snapshot.id.slice(0, 8)} (number ${snapshot.seq}) follows number ${before?.record.seq}`;
  return checkOf('next-backup', problems, `${told}, on ${backends.map(({ name }) => name).join(', ')}`, {
    snapshot: snapshot.id,
    number: snapshot.seq,
    parent: snapshot.parent,
    warnings: warnings.map(({ message }) => message),
  });
}

/** Two copies that each make a backup before they see that of the other: both snapshots are kept, and the next run of either says so. */
export async function checkClones(scene: Scene): Promise<Check> {
  const { world, view, host, profile } = scene;
  const other = world.host('clone');
  await recoverOn(scene, other);
  const fork = await world.fork();
  const two = await backupFrom(scene, other, fork, profile); // which the other does not see
  const one = await backupFrom(scene, host, view, profile);
  for (const [name, overlay] of fork.overlays) {
    const target = view.overlays.get(name);
    if (!target || target.isLost) continue;
    const [from, to] = [await overlay.open(), await target.open()];
    for (const key of await overlay.written()) await to.put(key, await from.get(key), { ifAbsent: true });
  }
  const chain = await withPast(scene, async ({ snapshots }) =>
    snapshots.flatMap(({ id, problem }) => (problem === undefined ? [] : [{ id, problem }])),
  );
  const next = await backupFrom(scene, host, view, profile);
  const isSameNumber = one.snapshot.seq === two.snapshot.seq && one.snapshot.id !== two.snapshot.id;
  const told = next.warnings.find(({ code }) => code === 'forked');
  const shown = chain.find(({ id }) => id === one.snapshot.id || id === two.snapshot.id);
  const problems: string[] = [];
  if (!isSameNumber) problems.push('the two copies did not make snapshots of one number');
  if (!shown) problems.push('the list of snapshots does not show that two have one number');
  if (!told) problems.push('the next backup does not say that another copy is writing');
  return checkOf('clones', problems, `noticed: ${told?.message ?? ''}`, {
    number: one.snapshot.seq,
    snapshots: [one.snapshot.id, two.snapshot.id],
    chain: shown?.problem ?? null,
    warning: told?.message ?? null,
  });
}

/** Every way to what is stored is tried with what a thief finds in the writer key file. */
export async function checkStolenKey(scene: Scene): Promise<Check> {
  const { host, view, world, snapshot } = scene;
  const thief = parseWriterKey(await readSecretText(host.files.writerKey));
  const secret: RestoreSecret = { kind: 'identities', identities: [thief.ageIdentity] };
  const common = { backends: view.addresses, secret, snapshot: 'latest' };
  const file = await someFile(scene);
  const ways: Record<string, () => Promise<unknown>> = {
    restore: () => restore({ ...common, target: join(world.folder, 'loot'), paths: [], heal: false }, view.seams),
    'restore with secrets': () =>
      restore({ ...common, target: join(world.folder, 'loot'), paths: [], heal: false, withSecrets: true }, view.seams),
    ls: () => listEntries({ ...common, path: '' }, view.seams),
    // Without secrets there is a list of none, for which nothing is opened.
    ...(snapshot.record.secrets && {
      'ls of secrets': () => listEntries({ ...common, path: '', secrets: true }, view.seams),
    }),
    cat: () => catFile({ ...common, path: file, write: async () => {} }, view.seams),
    find: () => findEntries({ ...common, patterns: ['*'], in: {} }, view.seams),
    // What the writer key does open, the indexes, used as far as they go.
    'list of files by the index': () => listByIndex(scene, thief),
  };
  const refused: Record<string, string> = {};
  const problems: string[] = [];
  const attempt = async (way: string, work: () => Promise<unknown>) => {
    try {
      await work();
      problems.push(`${way} is possible with the writer key alone`);
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      // Another failure proves nothing.
      if (error.code === 'wrong_key') refused[way] = error.message;
      else problems.push(`${way} was not refused, but failed: ${error.message}`);
    }
  };
  for (const [way, work] of Object.entries(ways)) await attempt(way, work);
  const tried: Record<string, number> = {};
  for (const [, overlay] of view.overlays) {
    if (overlay.isLost) continue;
    const backend = await overlay.open();
    const byKind = new Map<string, string[]>();
    for await (const { key } of backend.list('', { signal: view.seams.signal })) {
      const kind = parseKey(key)?.kind;
      if (kind !== 'pack' && kind !== 'identity') continue;
      byKind.set(kind, [...(byKind.get(kind) ?? []), key]);
    }
    for (const [kind, keys] of byKind) {
      for (const key of keys.slice(0, TRIED_MAX)) {
        const bytes = await backend.get(key, undefined, { signal: view.seams.signal });
        await attempt(`opening ${key}`, () => openAge(bytes, [thief.ageIdentity]));
        delete refused[`opening ${key}`];
        tried[kind] = (tried[kind] ?? 0) + 1;
      }
    }
    break; // the others hold the same
  }
  const objects = Object.entries(tried).map(([kind, count]) => `${count} of ${kind}`);
  const what = `${Object.keys(refused).length} ways refused (${Object.keys(refused).join(', ')}), and no object opens: ${objects.join(', ')}`;
  return checkOf('writer-key', problems, what, { ...refused, ...tried });
}

async function listByIndex({ view: { addresses, seams } }: Scene, thief: WriterKey): Promise<number> {
  await using mirror = await openMirror(addresses, seams);
  const access: Access = {
    kind: 'writer',
    repository: thief.repositoryId,
    agent: hex(thief.agentPublicKey),
    chunkIdKey: thief.chunkIdKey,
    identity: thief.ageIdentity,
  };
  const repository = await openRepository(mirror, access, seams);
  const { index } = await repository.loadIndex(seams.signal);
  const snapshot = await repository.findSnapshot('latest', seams.signal);
  let entries = 0;
  for await (const _ of repository.entries(snapshot, repository.reader(index), seams.signal)) entries++;
  return entries;
}

async function someFile({ past, snapshot }: Scene): Promise<string> {
  for await (const entry of past.entries(snapshot)) if (entry.type === 'file') return rawForDisplay(entry.path);
  return 'none';
}

/** Each damaged object was met, named, and stored again. */
export async function checkHealed(scene: Scene, { damaged }: Simulated): Promise<Check> {
  const { view, secret, snapshot, world, recovered } = scene;
  const named = new Map<string, string>();
  const note = (healed: readonly { backend: string; key: string }[], by: string) => {
    for (const { backend, key } of healed) if (!named.has(`${backend} ${key}`)) named.set(`${backend} ${key}`, by);
  };
  note(recovered.healed, 'recover');
  const isNamed = ({ backend, key }: Simulated['damaged'][number]) => named.has(`${backend} ${key}`);
  for (const [i, one] of damaged.entries()) {
    if (isNamed(one) || parseKey(one.key)?.kind !== 'pack') continue;
    const target = join(world.folder, `healed-${i}`);
    // The list of files is read for any path; a name that could be taken for a glob means all.
    const paths = [one.path ?? (await someFile(scene))].filter((path) => /^[\w./-]+$/.test(path));
    const what = { snapshot: snapshot.id, target, paths, from: one.backend, withSecrets: true };
    const { healed } = await restore({ backends: view.addresses, secret, ...what }, view.seams);
    note(healed, `restore --from ${one.backend}`);
  }
  if (!damaged.every(isNamed)) {
    const access = { kind: 'restore', secret } as const;
    const found = await verify({ backends: view.addresses, access, level: 'listing', repair: true }, view.seams);
    note(
      found.damaged.filter(({ repaired }) => repaired),
      'verify --repair',
    );
  }
  const problems: string[] = [];
  for (const one of damaged) {
    if (!isNamed(one)) problems.push(`the damage of ${one.key} on backend ${one.backend} was not noticed`);
    else if (!(await isAsOnOthers(scene, one))) problems.push(`${one.key} on backend ${one.backend} was not healed`);
  }
  const told = damaged.map(
    ({ backend, key }) => `${key} on ${backend}: by ${named.get(`${backend} ${key}`) ?? 'none'}`,
  );
  return checkOf('damage', problems, `${damaged.length} damaged objects named and healed`, { healed: told });
}

async function isAsOnOthers({ view }: Scene, { backend, key }: Simulated['damaged'][number]): Promise<boolean> {
  const [own, ...others] = [backend, ...[...view.overlays.keys()].filter((name) => name !== backend)];
  const read = async (name: string | undefined) => {
    const overlay = view.overlays.get(name ?? '');
    return overlay?.isLost ? undefined : (await overlay?.open())?.get(key);
  };
  const bytes = await read(own);
  for (const name of others) {
    const copy = await read(name).catch(() => undefined);
    if (bytes && copy && equalBytes(bytes, copy)) return true;
  }
  return false;
}
