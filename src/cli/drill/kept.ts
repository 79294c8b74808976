/** The drills that this host keeps of the agent of a config. */
import { readDrills, type DrillHistory } from '../../drill/history.ts';
import type { Config } from '../config.ts';
import { localFolders, readWriterKeyIfAny } from '../context.ts';

/** Nothing where this host has no writer key, and so does not know which repository it is. */
export async function readKeptDrills(config: Required<Pick<Config, 'agent'>>): Promise<DrillHistory> {
  const writerKey = await readWriterKeyIfAny(config.agent);
  if (!writerKey) return { drills: [], problems: [] };
  const { state } = localFolders(process.env, writerKey.repositoryId);
  return readDrills(state, writerKey.agentPublicKey);
}
