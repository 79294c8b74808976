/** The drills that this host keeps of the agent of a config. */
import type { Warning } from '../../entry.ts';
import { hostname } from 'node:os';
import { HoldfastError, isSurvivable } from '../../errors.ts';
import { drillDue, keepDrill, readDrills, type DrillHistory } from '../../drill/history.ts';
import { WITHIN } from '../../drill/doctor.ts';
import { storeDrillResult, type StoreOptions } from '../../drill/stored.ts';
import type { Seams } from '../../operations/seams.ts';
import type { DrillResult } from '../../drill/result.ts';
import type { Config } from '../config.ts';
import { accessOf, localFolders, readSigner, readWriterKey, readWriterKeyIfAny } from '../context.ts';

/** Nothing where this host has no writer key, and so does not know which repository it is. */
export async function readKeptDrills(config: Required<Pick<Config, 'agent'>>): Promise<DrillHistory> {
  const writerKey = await readWriterKeyIfAny(config.agent);
  if (!writerKey) return { drills: [], problems: [] };
  const { state } = localFolders(process.env, writerKey.repositoryId);
  return readDrills(state, writerKey.agentPublicKey);
}

/** Whether a drill is due, by what this host keeps of them. */
export async function drillDueOf(config: Config & Required<Pick<Config, 'agent'>>, nowMs: number) {
  const everyMs = config.drill?.everyMs ?? WITHIN.drillMs;
  return { ...drillDue(await readKeptDrills(config), everyMs, nowMs), everyMs };
}

/**
 * Keeps a drill in the history of this host, signed with the agent's key.
 * @returns its id, or what kept it from being kept
 */
export async function keep(config: Config, result: DrillResult): Promise<{ id: string } | { warning: Warning }> {
  try {
    if (!config.agent) throw new HoldfastError('missing_key', 'the config names no agent');
    const writerKey = await readWriterKey(config.agent);
    const { state } = localFolders(process.env, writerKey.repositoryId);
    return { id: keepDrill(state, result, await readSigner(config.agent)).id };
  } catch (error) {
    if (!isSurvivable(error)) throw error;
    // Without an agent in the config there is no history, and that is nothing new.
    const incomplete = config.agent !== undefined;
    const message = `the drill is not in the history: ${error.message}`;
    return { warning: { code: 'drill_not_kept', message, incomplete } };
  }
}

type Reachable = Required<Pick<Config, 'agent' | 'backends'>>;

/** For drills on the backends, with the writer key of this host. @throws `missing_key` */
export async function storeOptions({ agent, backends }: Reachable): Promise<StoreOptions> {
  const writerKey = await readWriterKey(agent);
  return { backends, access: accessOf(writerKey), folders: localFolders(process.env, writerKey.repositoryId) };
}

/** @returns the key of the object (null for none), and what is missing */
export async function store(
  config: Config & Required<Pick<Config, 'backends'>>,
  result: DrillResult,
  seams: Seams,
): Promise<{ stored: string | null; warnings: Warning[] }> {
  try {
    const { agent, backends } = config;
    if (!agent) throw new HoldfastError('missing_key', 'the config names no agent');
    const options = { ...(await storeOptions({ agent, backends })), signer: await readSigner(agent), host: hostname() };
    const { key, warnings } = await storeDrillResult(options, result, seams);
    return { stored: key, warnings };
  } catch (error) {
    if (!isSurvivable(error)) throw error;
    const message = `the drill is not on the backends: ${error.message}`;
    return { stored: null, warnings: [{ code: 'drill_not_stored', message, incomplete: true }] };
  }
}
