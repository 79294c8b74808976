/** From the section `drill` of the config to what a drill takes. */
import type { z } from 'zod';
import type { ShadowSettings } from '../../drill/checks/shadow.ts';
import type { Handoff } from '../../drill/scene.ts';
import { parseDuration } from '../../units.ts';
import type { drillSection } from './schema.ts';
import { at } from '../operating-config.ts';

/** A config as `drill` uses it: paths absolute. */
export interface DrillSettings {
  everyMs: number;
  rtoMs: number | undefined;
  rpoMs: number | undefined;
  /** Names of scenarios, and why they are done without. */
  without: Readonly<Record<string, string>>;
  timeoutMs: number | undefined;
  commands: readonly string[];
  commandTimeoutMs: number;
  handoff: Handoff | undefined;
  shadow: ShadowSettings | undefined;
  /** Files or folders. */
  scenarios: readonly string[];
  ignore: readonly string[];
}

const EVERY = '90d';
const COMMAND_TIMEOUT = '5m';

/** Of a shadow of which nothing is said but the command. */
export const USUAL_SHADOW: Omit<ShadowSettings, 'argv'> = {
  withinMs: 60_000,
  checks: [],
  stopMs: 10_000,
  queues: [],
  mayChange: [],
};

/** @throws `config_invalid` */
export function drillSettings(
  raw: z.output<typeof drillSection>,
  resolvePath: (path: string) => string,
  file: string,
): DrillSettings {
  const ms = <T extends string | undefined>(key: 'every' | 'rto' | 'rpo' | 'timeout' | 'checkTimeout', text: T) =>
    text === undefined ? undefined : at(file, `drill.${key}`, () => parseDuration(text, 'config_invalid'));
  const { scenarios = [], handoff } = raw;
  return {
    everyMs: ms('every', raw.every ?? EVERY) ?? 0,
    rtoMs: ms('rto', raw.rto),
    rpoMs: ms('rpo', raw.rpo),
    without: raw.without ?? {},
    timeoutMs: ms('timeout', raw.timeout),
    commands: raw.checks ?? [],
    commandTimeoutMs: ms('checkTimeout', raw.checkTimeout ?? COMMAND_TIMEOUT) ?? 0,
    handoff: handoff && Object.fromEntries(Object.entries(handoff).filter(([, one]) => one !== undefined)),
    shadow: raw.shadow && shadowSettings(raw.shadow, resolvePath, file),
    scenarios: (typeof scenarios === 'string' ? [scenarios] : scenarios).map(resolvePath),
    ignore: raw.ignore ?? [],
  };
}

function shadowSettings(
  { command, ready, within, stop, queues, checks, mayChange }: NonNullable<z.output<typeof drillSection>['shadow']>,
  resolvePath: (path: string) => string,
  file: string,
): ShadowSettings {
  const ms = (key: 'within' | 'stop', text: string | undefined, usual: number) =>
    text === undefined ? usual : at(file, `drill.shadow.${key}`, () => parseDuration(text, 'config_invalid'));
  return {
    argv: ['/bin/sh', '-c', command],
    ready: ready as ShadowSettings['ready'],
    withinMs: ms('within', within, USUAL_SHADOW.withinMs),
    checks: checks ?? USUAL_SHADOW.checks,
    stopMs: ms('stop', stop, USUAL_SHADOW.stopMs),
    queues: queues?.map(resolvePath) ?? USUAL_SHADOW.queues,
    mayChange: mayChange ?? USUAL_SHADOW.mayChange,
  };
}
