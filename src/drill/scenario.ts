/** Scenarios: what is lost, how the agent is brought back, and what is checked then, as data (scenarios/*.yaml, or files of the user's). docs/drill.md explains the format. */
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HoldfastError, messageOf } from '../errors.ts';
import { CONFIG_MAX_BYTES } from '../limits.ts';
import { parseDuration } from '../units.ts';
import { parseYamlFile } from '../yaml-file.ts';
import type { CheckName, ScenarioData } from './scenario-schema.ts';

export type Scenario = Readonly<ScenarioData>;

/** Those that come with holdfast, in the order in which they run. */
export const BUILT_IN_SCENARIOS = [
  'lost-host',
  'lost-backend',
  'lost-all-but',
  'damaged-object',
  'older-snapshot',
  'lost-paper',
  'stolen-writer-key',
  'rotated-key',
  'crash-in-backup',
  'clone-beside-original',
  'shadow',
] as const;

/** A scenario as it runs once: one that is for each backend runs for each. */
export interface Case {
  /** `lost-host`, `lost-backend:nas`. */
  name: string;
  scenario: Scenario;
  /** The backend it is for. */
  backend?: string;
}

/** Those that come with holdfast. */
export function builtInScenarios(): Promise<Scenario[]> {
  const file = (name: string) => fileURLToPath(new URL(`./scenarios/${name}.yaml`, import.meta.url));
  return Promise.all(BUILT_IN_SCENARIOS.map((name) => loadScenario(file(name))));
}

/** Those of a file, or of every .yaml file in a folder. @throws `config_invalid` naming file and line */
export async function loadScenarios(path: string): Promise<Scenario[]> {
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder) return [await loadScenario(path)];
  const names = (await readdir(path)).filter((name) => /\.ya?ml$/.test(name)).toSorted();
  if (names.length === 0) throw invalid(path, 'there is no scenario (.yaml) in it');
  return Promise.all(names.map((name) => loadScenario(join(path, name))));
}

async function loadScenario(file: string): Promise<Scenario> {
  try {
    return await parseScenario(await readStart(file), file);
  } catch (cause) {
    if (cause instanceof HoldfastError) throw cause;
    throw invalid(file, `the scenario cannot be read: ${messageOf(cause)}`, 'Correct the path, or put the file there.');
  }
}

/** No more of it than tells that it is too long: it may have no end. */
async function readStart(file: string): Promise<Uint8Array> {
  await using handle = await open(file, 'r');
  const buffer = new Uint8Array(CONFIG_MAX_BYTES + 1);
  let length = 0;
  for (let got = -1; length < buffer.length && got !== 0; length += got)
    got = (await handle.read(buffer, length, buffer.length - length)).bytesRead;
  return buffer.subarray(0, length);
}

/** @param file for messages. @throws `config_invalid` naming file and line */
export async function parseScenario(bytes: Uint8Array, file: string): Promise<Scenario> {
  const rules = async () => {
    const { knownScenarioKeys: knownKeys, scenarioSchema: schema } = await import('./scenario-schema.ts');
    return { schema, knownKeys };
  };
  const scenario = await parseYamlFile(bytes, { file, whole: 'the scenario', hint: FORMAT_HINT, rules });
  for (const [name, duration = '0s'] of Object.entries(scenario.objectives ?? {})) {
    try {
      parseDuration(duration, 'config_invalid');
    } catch (error) {
      throw invalid(file, `\`objectives.${name}\` is not valid: ${messageOf(error)}`);
    }
  }
  if (scenario.each === undefined) {
    const step = scenario.simulate.find((one) => one.step === 'lose' && typeof one.backends === 'string');
    if (step) throw invalid(file, '`backends: each` and `others` need `each: backend` at the top');
  }
  return scenario;
}

const FORMAT_HINT = 'docs/drill.md has the format of a scenario.';

function invalid(place: string, what: string, hint = FORMAT_HINT): HoldfastError {
  return new HoldfastError('config_invalid', `${place}: ${what}`, { hint });
}

/**
 * The cases that are asked for.
 * @param names of scenarios, or of cases; all when empty. Later scenarios take the place of earlier ones of the same name.
 * @throws `usage` for a name that there is not
 */
export function selectCases(
  scenarios: readonly Scenario[],
  names: readonly string[],
  backends: readonly string[],
): Case[] {
  const byName = new Map(scenarios.map((scenario) => [scenario.name, scenario]));
  const all = [...byName.values()].flatMap((scenario): Case[] =>
    scenario.each === undefined
      ? [{ name: scenario.name, scenario }]
      : backends.map((backend) => ({ name: `${scenario.name}:${backend}`, scenario, backend })),
  );
  const isIt = (name: string) => (one: Case) => one.name === name || one.scenario.name === name;
  const unknown = names.find((name) => !all.some(isIt(name)));
  if (unknown !== undefined) {
    throw new HoldfastError('usage', `there is no scenario ${JSON.stringify(unknown)}`, {
      hint: `There are: ${all.map(({ name }) => name).join(', ')}.`,
    });
  }
  return names.length === 0 ? all : all.filter((one) => names.some((name) => isIt(name)(one)));
}

/** Whether it starts the agent: it is run where something says how, and not otherwise. */
export const startsShadow = ({ after }: Pick<Scenario, 'after'>): boolean =>
  after.some(({ step }) => step === 'shadow');

/** Whether the scenario has the check. */
export function hasCheck({ checks }: Pick<Scenario, 'checks'>, name: CheckName): boolean {
  if (checks === 'all') return true;
  return 'only' in checks ? checks.only.includes(name) : !checks.except.includes(name);
}
