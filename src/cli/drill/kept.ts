/** The drills that this host keeps of the agent of a config. */
import type { Warning } from '../../entry.ts';
import { HoldfastError, isSurvivable } from '../../errors.ts';
import { keepDrill, readDrills, type DrillHistory } from '../../drill/history.ts';
import type { DrillResult } from '../../drill/result.ts';
import type { Config } from '../config.ts';
import { localFolders, readSigner, readWriterKey, readWriterKeyIfAny } from '../context.ts';

/** Nothing where this host has no writer key, and so does not know which repository it is. */
export async function readKeptDrills(config: Required<Pick<Config, 'agent'>>): Promise<DrillHistory> {
  const writerKey = await readWriterKeyIfAny(config.agent);
  if (!writerKey) return { drills: [], problems: [] };
  const { state } = localFolders(process.env, writerKey.repositoryId);
  return readDrills(state, writerKey.agentPublicKey);
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
    return { warning: { code: 'drill_not_kept', message: `the drill is not in the history: ${error.message}` } };
  }
}
