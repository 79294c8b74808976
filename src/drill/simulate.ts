/** What happens to the agent before it is brought back: the disaster, in the world of the drill. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Overlay } from '../backend/overlay.ts';
import { isHoldfastError, isSurvivable, type HoldfastError } from '../errors.ts';
import { parseAgentKey } from '../identity/agent-key.ts';
import { readSecretText } from '../identity/secret-file.ts';
import { parseWriterKey } from '../identity/writer-key.ts';
import type { RestoreSecret } from '../operations/access.ts';
import { backup, type BackupResult } from '../operations/backup.ts';
import type { LocalState } from '../operations/host/local-state.ts';
import type { SeenSnapshot } from '../operations/looking/open-look.ts';
import { recover, type RecoverResult } from '../operations/recover.ts';
import { rotateIdentity } from '../operations/rotate.ts';
import type { StateOptions } from '../operations/saving/save-tree.ts';
import type { RawPath } from '../raw-path.ts';
import { loadProfile, scaffoldJudge, type Profile } from '../state/profile.ts';
import { DEFAULT_PROFILE, isProfileName } from '../state/profile-names.ts';
import { Past } from './past.ts';
import type { Check } from './result.ts';
import type { Case } from './scenario.ts';
import { checkOf, nameOf, type DrillOptions } from './scene.ts';
import type { Host, Sources, View, World } from './world.ts';

/** The scenario has nothing to prove here, and does not count as passed. */
export class NotRunnable extends Error {}

/** Before there is anything recovered. */
export interface Stage {
  options: DrillOptions;
  case: Case;
  sources: Sources;
  world: World;
  view: View;
  secret: RestoreSecret;
  /** The last snapshot that this host had made when the scenario began. */
  remembered: LocalState['last'] | undefined;
}

/** What was done, as far as checks ask for it. */
export interface Simulated {
  /** Backends that were taken away. */
  lost: Set<string>;
  /** Objects that were damaged, each on one backend, and a file that needs what is damaged. */
  damaged: { backend: string; key: string; path?: RawPath | undefined }[];
  /** The newest snapshot of before, where it was made useless. */
  spoiled?: SeenSnapshot;
  rotatedTo?: string;
  checks: Check[];
  told: string[];
}

/** @throws NotRunnable */
export async function simulate(stage: Stage): Promise<Simulated> {
  const done: Simulated = { lost: new Set(), damaged: [], checks: [], told: [] };
  for (const step of stage.case.scenario.simulate) {
    switch (step.step) {
      case 'lose':
        lose(stage, step.backends, done);
        break;
      case 'damage':
        if (step.what === 'one-each') await damageOneEach(stage, done);
        else await damageNewest(stage, done);
        break;
      case 'hide':
        await withPast(stage, async ({ newest }) => {
          if (!newest) throw new NotRunnable('there is no snapshot');
          for (const overlay of stage.view.overlays.values()) overlay.hide(newest.key);
          done.told.push(`${nameOf(newest)} is hidden`);
        });
        break;
      case 'rotate':
        await rotate(stage, done);
        break;
      case 'crash':
        await crash(stage, done);
        break;
    }
  }
  return done;
}

function lose({ view, case: { backend }, sources }: Stage, which: 'each' | 'others' | string[], done: Simulated): void {
  const names = [...view.overlays.keys()];
  const lost =
    which === 'each' ? [backend] : which === 'others' ? names.filter((name) => name !== backend) : [...which];
  for (const name of lost) {
    const overlay = view.overlays.get(name ?? '');
    if (!overlay) throw new NotRunnable(`there is no backend ${name}`);
    overlay.lose();
    done.lost.add(overlay.name);
  }
  const left = names.filter((name) => !done.lost.has(name));
  if (done.lost.size === 0) throw new NotRunnable('there is one backend only: nothing can be taken away beside it');
  if (left.length === 0)
    throw new NotRunnable(
      names.length === 1
        ? 'there is one backend only: without it nothing is left to recover from'
        : 'it takes every backend away: nothing is left to recover from',
    );
  const cut = left.find((name) => sources.problem(name));
  done.told.push(`${[...done.lost].join(', ')} cannot be reached${cut === undefined ? '' : `, nor can ${cut}`}`);
}

/** In order of what a recovery needs: packs, indexes, the record of the snapshot. */
async function damageOneEach(stage: Stage, done: Simulated): Promise<void> {
  const usable = [...stage.view.overlays].filter(([name, { isLost }]) => !isLost && !stage.sources.problem(name));
  if (usable.length < 2) throw new NotRunnable('it needs two backends: one alone has no second copy to heal from');
  await withPast(stage, async (past) => {
    const { newest } = past;
    if (!newest) throw new NotRunnable('there is no snapshot');
    const packs = new Set((await past.needsOf(newest)).flatMap((need) => need.packs.map(({ key }) => key)));
    const indexes = await past.indexesOf(packs);
    const objects: string[] = [];
    for (const key of [...packs, ...indexes, newest.key]) if (await isOnAll(usable, key)) objects.push(key);
    for (const [i, [name, overlay]] of usable.entries()) {
      const key = objects[i];
      if (key === undefined) break; // the rest are whole
      const place = packs.has(key) ? await past.placeIn(newest, key) : undefined;
      await overlay.damage(key, place?.at);
      done.damaged.push({ backend: name, key, path: place?.path });
    }
    done.told.push(...done.damaged.map(({ backend, key }) => `${key} is damaged on ${backend}`));
  });
}

/** What one lacks anyway would be lost for good. */
async function isOnAll(usable: readonly (readonly [string, Overlay])[], key: string): Promise<boolean> {
  for (const [, overlay] of usable) if (!(await (await overlay.open()).head(key))) return false;
  return true;
}

/** Packs of the newest snapshot that an older one does without. */
async function damageNewest(stage: Stage, done: Simulated): Promise<void> {
  await withPast(stage, async (past) => {
    const [newest, ...older] = past.snapshots.toReversed();
    if (!newest) throw new NotRunnable('there is no snapshot');
    if (older.length === 0) throw new NotRunnable('there is one snapshot only, and none older to fall back to');
    const packsOf = async (snapshot: SeenSnapshot) =>
      new Set((await past.needsOf(snapshot)).flatMap(({ packs }) => packs.map(({ key }) => key)));
    const needed = await packsOf(newest);
    for (const snapshot of older) {
      const kept = await packsOf(snapshot);
      const own = [...needed].filter((key) => !kept.has(key));
      if (own.length === 0) continue;
      for (const overlay of stage.view.overlays.values()) {
        if (overlay.isLost) continue;
        for (const key of own) {
          await overlay.damage(key).catch((error: unknown) => {
            if (!isSurvivable(error)) throw error; // this backend has not even got it
          });
        }
      }
      done.spoiled = newest;
      done.told.push(`${own.length} packs that ${nameOf(newest)} needs are damaged on every backend`);
      return;
    }
    throw new NotRunnable('all snapshots have the same contents: what spoils the newest spoils all');
  });
}

/** The agent lives on for a moment, with another key. */
async function rotate(stage: Stage, done: Simulated): Promise<void> {
  const { world, view, secret } = stage;
  const host = world.host('before');
  await recoverOn(stage, host);
  const { agent, previous, entry } = await rotateIdentity(
    {
      backends: view.addresses,
      secret,
      files: host.files,
      writerKey: parseWriterKey(await readSecretText(host.files.writerKey)),
      folders: host.folders,
    },
    view.seams,
  );
  const made = await backupFrom(stage, host, view);
  done.rotatedTo = agent.publicKey;
  done.told.push(`the agent was given the key ${agent.fingerprint} in place of ${previous.fingerprint}`);
  const problems = agent.publicKey === previous.publicKey ? ['the key is the one of before'] : [];
  if (made.snapshot.parent === null) problems.push('the snapshot after the rotation follows none');
  done.checks.push(
    checkOf('rotation', problems, `snapshot ${made.snapshot.id.slice(0, 8)} is signed by the new key`, {
      previous: previous.fingerprint,
      now: agent.fingerprint,
      identityLogEntry: entry.seq,
      by: entry.by,
      snapshot: made.snapshot.id,
      parent: made.snapshot.parent,
    }),
  );
}

/** A backup dies between the packs and the index that names them. */
async function crash(stage: Stage, done: Simulated): Promise<void> {
  const { world, view } = stage;
  const host = world.host('before');
  await recoverOn(stage, host);
  const before = await withPast(stage, async (past) => past.snapshots.map(({ id }) => id));
  writeFileSync(join(host.state, 'holdfast-drill.bin'), view.seams.random.bytes(64 * 1024), { mode: 0o600 });
  const overlays = [...view.overlays.values()].filter(({ isLost }) => !isLost);
  for (const overlay of overlays) overlay.dieAt((key) => key.startsWith('index/'));
  let death: HoldfastError | undefined;
  try {
    await backupFrom(stage, host, view);
  } catch (error) {
    if (!isSurvivable(error)) throw error;
    death = error;
  }
  for (const overlay of overlays) overlay.bringBack();
  const left = await overlays[0]?.written();
  const after = await withPast(stage, async (past) => past.snapshots.map(({ id }) => id));
  const problems: string[] = [];
  if (!death) problems.push('the backup ended as if nothing had happened');
  if (!left?.some((key) => key.startsWith('packs/'))) problems.push('it died before it had written anything');
  if (after.join() !== before.join()) problems.push('the snapshots that are presented are not those of before');
  done.told.push(`a backup died after ${left?.length ?? 0} objects`);
  done.checks.push(
    checkOf(
      'crash',
      problems,
      `the backup died after ${left?.length ?? 0} objects; all ${after.length} snapshots are there`,
      {
        error: death?.message ?? null,
        objectsLeft: left ?? [],
        snapshots: after.length,
      },
    ),
  );
}

/** Recovers the agent to a machine of the world, with its secrets. */
export function recoverOn(
  { options, view, secret }: Pick<Stage, 'options' | 'view' | 'secret'>,
  host: Host,
  snapshot = 'latest',
): Promise<RecoverResult> {
  const { addresses } = view;
  return recover(
    {
      backends: addresses,
      secret,
      snapshot,
      target: host.state,
      withSecrets: true,
      files: host.files,
      foldersOf: () => host.folders,
      renderConfig: (_old, handle) => ({ text: options.renderConfig(host, handle, addresses), backends: addresses }),
    },
    view.seams,
  );
}

/** A backup of the state that was restored there, to the backends as `view` has them. */
export async function backupFrom(
  { options }: Pick<Stage, 'options'>,
  host: Host,
  view: View,
  profile?: Profile,
): Promise<BackupResult> {
  const reachable = [...view.overlays].filter(([, { isLost }]) => !isLost).map(([name]) => name);
  return backup(
    {
      backends: view.addresses.filter(({ name }) => reachable.includes(name)),
      writerKey: parseWriterKey(await readSecretText(host.files.writerKey)),
      signer: parseAgentKey(await readSecretText(host.files.identity)),
      state: stateOf(
        host,
        profile ?? options.profile ?? (await loadProfile(options.state?.profile ?? DEFAULT_PROFILE)),
      ),
      require: 1,
      tags: [],
      host: `${options.hostname} (drill: ${host.name})`,
      tool: options.tool,
      config: options.renderConfig(host, options.record.handle ?? 'agent', view.addresses),
      folders: host.folders,
    },
    view.seams,
  );
}

function stateOf(host: Host, profile: Profile): StateOptions {
  const { name, cache, secret, logs } = profile;
  return {
    root: host.state,
    exclude: cache,
    keepOut: [],
    secret: { patterns: secret, handling: 'apart' },
    profile: name,
    appendOnly: logs,
    isScaffold: scaffoldJudge(profile),
  };
}

/** The profile that the snapshot was made with; that of the user where it has its name. */
export async function profileOf(snapshot: SeenSnapshot, own: Profile | undefined): Promise<Profile> {
  const name = snapshot.record.sources[0]?.profile ?? DEFAULT_PROFILE;
  if (own?.name === name) return own;
  try {
    return await loadProfile(isProfileName(name) ? name : DEFAULT_PROFILE);
  } catch (error) {
    if (!isHoldfastError(error, 'config_invalid')) throw error;
    return own ?? loadProfile(DEFAULT_PROFILE);
  }
}

export async function withPast<T>(
  { options, view, secret }: Pick<Stage, 'options' | 'view' | 'secret'>,
  work: (past: Past) => Promise<T>,
): Promise<T> {
  await using past = await openPast({ options, view, secret });
  return await work(past);
}

export function openPast({ options, view, secret }: Pick<Stage, 'options' | 'view' | 'secret'>): Promise<Past> {
  const { repository } = options.record;
  return Past.open(view, secret, repository === undefined ? undefined : { repository });
}
