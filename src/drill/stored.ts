/** Drills on the backends, beside the snapshots: for whoever looks after the agent from elsewhere, and for when this host is gone. */
import { sha256Hex } from '../crypto/hash.ts';
import type { Warning } from '../entry.ts';
import type { SigningKey } from '../identity/agent-key.ts';
import { failedBackendWarnings, mishapWarnings, openMirror, type BackendAddress } from '../operations/backends.ts';
import { checkLogIsComplete, checkNotRevoked } from '../operations/host/continuity.ts';
import type { LocalFolders } from '../operations/host/local-state.ts';
import type { Seams } from '../operations/seams.ts';
import { openRepository, readStoredDrills, storeDrill, timestamp, type Access } from '../repository/repository.ts';
import { drillResultSchema, type DrillHistory, type KeptDrill } from './history.ts';
import type { DrillResult } from './result.ts';

export interface StoreOptions {
  backends: readonly BackendAddress[];
  access: Access;
  folders: LocalFolders;
}

/**
 * Puts the drill on every backend, signed. A backend that does not get it is told in the warnings, as incomplete; the next `sync` or `backup` brings it there.
 * @returns the key of the object. @throws `not_enough_backends`, `revoked`, …
 */
export async function storeDrillResult(
  { backends, access, folders, signer, host }: StoreOptions & { signer: SigningKey; host: string },
  result: DrillResult,
  seams: Seams,
): Promise<{ key: string; warnings: Warning[] }> {
  await using mirror = await openMirror(backends, seams);
  const repository = await openRepository(mirror, access, seams);
  checkLogIsComplete(repository.log, mirror, folders);
  checkNotRevoked(repository);
  // Normalised, so that the id of what is read again is that of the history.
  const plain = JSON.parse(JSON.stringify(result)) as Record<string, unknown>;
  const said = { time: timestamp(Date.parse(result.started)), host, result: plain };
  const { key } = await storeDrill(repository, said, signer, seams);
  return { key, warnings: [...mishapWarnings(mirror), ...failedBackendWarnings(mirror, { incomplete: true })] };
}

/** Those on the backends, oldest first, and keys of what is none that can be believed. */
export async function readDrillsOn(
  { backends, access, folders }: StoreOptions,
  seams: Seams,
): Promise<DrillHistory & { warnings: Warning[] }> {
  await using mirror = await openMirror(backends, seams);
  const repository = await openRepository(mirror, access, seams);
  checkLogIsComplete(repository.log, mirror, folders);
  const { drills, problems } = await readStoredDrills(repository, seams.signal);
  const history: DrillHistory = {
    drills: [],
    problems: problems.map(({ key, error }) => ({ file: key, message: error.message })),
  };
  for (const { key, record } of drills) {
    const parsed = drillResultSchema.safeParse(record.result);
    if (!parsed.success) {
      history.problems.push({ file: key, message: 'it is no drill that this holdfast can read' });
      continue;
    }
    const id = sha256Hex(Buffer.from(JSON.stringify(record.result)));
    const isCurrent = record.agent.publicKey === repository.keys.agent.publicKey;
    history.drills.push({ id, result: parsed.data as DrillResult, isCurrent });
  }
  history.drills.sort(byTime);
  return { ...history, warnings: [...mishapWarnings(mirror), ...failedBackendWarnings(mirror)] };
}

/** One list of both, each drill once. */
export function mergeDrills(kept: readonly KeptDrill[], stored: readonly KeptDrill[]): KeptDrill[] {
  const ids = new Set(kept.map(({ id }) => id));
  return [...kept, ...stored.filter(({ id }) => !ids.has(id))].toSorted(byTime);
}

const byTime = (a: KeptDrill, b: KeptDrill): number => Date.parse(a.result.started) - Date.parse(b.result.started);
