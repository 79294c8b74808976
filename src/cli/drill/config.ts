/** From the section `drill` of the config to what a drill takes. */
import type { z } from 'zod';
import type { Handoff } from '../../drill/scene.ts';
import { parseDuration } from '../../units.ts';
import type { drillSection } from './schema.ts';
import { at } from '../operating-config.ts';

/** A config as `drill` uses it: paths absolute. */
export interface DrillSettings {
  everyMs: number;
  rtoMs: number | undefined;
  rpoMs: number | undefined;
  commands: readonly string[];
  commandTimeoutMs: number;
  handoff: Handoff | undefined;
  /** Files or folders. */
  scenarios: readonly string[];
  ignore: readonly string[];
}

const EVERY = '90d';
const COMMAND_TIMEOUT = '5m';

/** @throws `config_invalid` */
export function drillSettings(
  raw: z.output<typeof drillSection>,
  resolvePath: (path: string) => string,
  file: string,
): DrillSettings {
  const ms = <T extends string | undefined>(key: 'every' | 'rto' | 'rpo' | 'checkTimeout', text: T) =>
    text === undefined ? undefined : at(file, `drill.${key}`, () => parseDuration(text, 'config_invalid'));
  const { scenarios = [], handoff } = raw;
  return {
    everyMs: ms('every', raw.every ?? EVERY) ?? 0,
    rtoMs: ms('rto', raw.rto),
    rpoMs: ms('rpo', raw.rpo),
    commands: raw.checks ?? [],
    commandTimeoutMs: ms('checkTimeout', raw.checkTimeout ?? COMMAND_TIMEOUT) ?? 0,
    handoff: handoff && Object.fromEntries(Object.entries(handoff).filter(([, one]) => one !== undefined)),
    scenarios: (typeof scenarios === 'string' ? [scenarios] : scenarios).map(resolvePath),
    ignore: raw.ignore ?? [],
  };
}
