/** `repair`: stores again what one backend has whole and another has not; and, when told to, gives up what is lost on all. */
import type { Warning } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import {
  beginRun,
  cutOut,
  endRun,
  isLost,
  scrub,
  type CutOut,
  type Damage,
  type Loss,
  type Repository,
  type ScrubLevel,
} from '../repository/repository.ts';
import { agentKeyOf } from './access.ts';
import type { BackendAddress } from './backends.ts';
import { beginHostRun } from './begin-run.ts';
import type { LocalFolders } from './host/local-state.ts';
import { takeLock } from './host/lock.ts';
import { openToVerify, remembered, type VerifyAccess } from './open-verifying.ts';
import { findRollback } from './host/rollback.ts';
import { secondsSince, type Seams } from './seams.ts';
import { notLookedAt, repairAll, unreadWarnings } from './verify.ts';

export interface RepairOptions {
  backends: readonly BackendAddress[];
  /** The writer's key serves to heal at `listing` and `objects`; the rest needs the restore secret. */
  access: VerifyAccess;
  level: ScrubLevel;
  /** Cut out what is lost on every backend. Needs the restore secret. */
  forgetDamaged: boolean;
  /** Only say what would be done. */
  dryRun: boolean;
  folders?: LocalFolders | undefined;
  /** The agent's key; without it that which the restore secret gives. */
  signer?: SigningKey | undefined;
  host: string;
}

export interface RepairResult {
  dryRun: boolean;
  level: ScrubLevel;
  /** All that was found; `repaired` is false in a dry run, after which all of it is damaged still. */
  damaged: Damage[];
  /** Objects stored again (or, in a dry run, that could be, if the copy on another backend is whole where it was not read). */
  healed: { backend: string; key: string }[];
  /** What is (or was) whole on no backend. */
  loss: Loss;
  /** What was cut out; null when nothing was. */
  forgotten: CutOut | null;
  /** What is damaged still (or, in a dry run, would be). */
  left: Damage[];
  warnings: Warning[];
  seconds: number;
  complete: boolean;
}

/** @throws `missing_key` to cut out without the restore secret, `not_enough_backends` while a backend is out of reach that may have it, … */
export async function repair(options: RepairOptions, seams: Seams): Promise<RepairResult> {
  const started = seams.clock.monotonic();
  const { level, dryRun, forgetDamaged, access } = options;
  if (forgetDamaged && access.kind === 'writer') {
    throw new HoldfastError('missing_key', 'what is lost only the restore secret can tell', {
      hint: 'Give the words at the prompt or with --words-file, or an age identity.',
    });
  }
  const cutsOut = forgetDamaged && !dryRun && access.kind === 'restore';
  using _lock = cutsOut && options.folders ? takeLock(options.folders.state, 'repair') : undefined;
  await using opened = await openToVerify(options.backends, access, { repair: !dryRun }, seams);
  const { mirror, repository } = opened;
  const signer = cutsOut ? (options.signer ?? (await agentKeyOf(repository, access.secret, seams.signal))) : undefined;
  // What is stored again relies on what is there, and is in no index for a moment: no deletion may come in between.
  const warnings: Warning[] = [];
  const mayBeLate = () => warnings.some(({ code }) => code === 'not_healed');
  await using _run = signer && (await begin(repository, { ...options, signer, mayBeLate }, seams));
  seams.progress({ type: 'phase', name: 'verifying' });
  const how = { level, ...remembered(options, seams).how };
  const found = await scrub(repository, how);
  let loss = found.loss;
  if (!dryRun) {
    seams.progress({ type: 'phase', name: 'repairing' });
    loss = await repairAll(repository, found, how, warnings);
  }
  const isAllThere = mirror.states().every(({ state }) => state === 'ok');
  const rollback = findRollback(repository, found, options.folders, isAllThere);
  const damaged = [...opened.damaged, ...found.damaged, ...rollback.damaged];
  warnings.push(...unreadWarnings(found), ...rollback.warnings);
  notLookedAt(repository, damaged, warnings);
  const isHealed = (one: Damage) => (dryRun ? !isLost(one) : one.repaired);
  const healed = damaged.filter(isHealed).map(({ backend, key }) => ({ backend, key }));
  let left = damaged.filter((one) => !isHealed(one));

  let forgotten: CutOut | null = null;
  const everywhere = left.filter(isLost);
  if (signer && everywhere.length > 0) {
    const away = mirror.states().find(({ error }) => error);
    if (away || found.unread.length > 0) {
      const what = away ? `backend ${away.name}` : (found.unread[0]?.key ?? 'an object');
      throw new HoldfastError('not_enough_backends', `${what} cannot be read now, and may have what seems to be lost`, {
        hint: 'Nothing was cut out. Bring it back first; if the backend is gone for good, take it out of the config.',
      });
    }
    seams.progress({ type: 'phase', name: 'cutting out what is lost' });
    forgotten = await cutOut(repository, everywhere, { signer, host: options.host, seams });
    // Not taken for granted: what is said to be whole now is looked at.
    const known = new Set<string>(found.packs.ids);
    const after = await scrub(repository, { ...how, isDue: (_backend, pack) => !known.has(pack) });
    const rolledBack = findRollback(repository, after, options.folders, true);
    left = [...after.damaged, ...rolledBack.damaged, ...opened.damaged.filter(({ repaired }) => !repaired)];
    // That it could not be healed is said by its being cut out.
    const isCutOut = ({ code, message }: Warning) =>
      code === 'not_healed' && everywhere.some(({ key }) => message.startsWith(`${key} `));
    warnings.splice(0, warnings.length, ...warnings.filter((warning) => !isCutOut(warning)));
  }
  return {
    ...{ dryRun, level, damaged, healed, loss, forgotten, left, warnings },
    seconds: secondsSince(seams.clock, started),
    complete: !warnings.some(({ incomplete }) => incomplete),
  };
}

async function begin(
  repository: Repository,
  {
    folders,
    signer,
    host,
    mayBeLate,
  }: Pick<RepairOptions, 'folders' | 'host'> & { signer: SigningKey; mayBeLate: () => boolean },
  seams: Seams,
): Promise<AsyncDisposable> {
  const said = { kind: 'write', host } as const;
  const run = folders
    ? await beginHostRun(repository, { folders, signer, ...said }, seams)
    : await beginRun(repository, { ...said, after: [] }, signer, seams);
  return {
    [Symbol.asyncDispose]: async () => {
      if (!mayBeLate()) await endRun(repository, run, seams.signal);
    },
  };
}
