/** From what the config says about running by itself to what operations take. */
import type { z } from 'zod';
import type { HookSettings } from '../operations/hooks.ts';
import type { NotifySettings } from '../operations/notify.ts';
import type { ScheduleSettings } from '../operations/schedule/schedule.ts';
import { HoldfastError, isHoldfastError } from '../errors.ts';
import { parseDuration } from '../units.ts';
import type { configSchema } from './config-schema.ts';
import type { LogSettings } from './run-log.ts';

/** A section is absent where the file has none. */
export interface OperatingConfig {
  hooks?: HookSettings;
  schedule?: ScheduleSettings;
  notify?: NotifySettings & { pingVerify?: string | undefined; pingDrill?: string | undefined };
  metrics?: { textfile: string };
  log?: LogSettings;
}

const HOOK_TIMEOUT = '5m';
const JITTER = '15m';

/** @throws `config_invalid` */
export async function operatingConfig(
  { state, schedule, notify, metrics, log, drill }: z.output<typeof configSchema>,
  resolvePath: (path: string) => string,
  file: string,
): Promise<OperatingConfig> {
  const { before = [], after = [], onError = [] } = state ?? {};
  const hasHooks = before.length + after.length + onError.length > 0;
  const timeoutMs = at(file, 'state.hookTimeout', () =>
    parseDuration(state?.hookTimeout ?? HOOK_TIMEOUT, 'config_invalid'),
  );
  if (schedule?.drill !== undefined && !drill)
    throw new HoldfastError('config_invalid', `${file}: \`schedule.drill\` needs a section \`drill\``, {
      hint: 'Say there how often there is to be a drill, for example `drill: { every: 30d }`.',
    });
  const isFile = log !== undefined && log.to.endsWith('.jsonl');
  return {
    ...(hasHooks && { hooks: { before, after, onError, timeoutMs } }),
    ...(schedule && { schedule: await scheduleSettings(schedule, file) }),
    ...(notify && {
      notify: { ...notify, pingFailure: notify.pingFailure ?? 'fail' },
    }),
    ...(metrics && { metrics: { textfile: resolvePath(metrics.textfile) } }),
    ...(log && { log: { to: isFile ? { file: resolvePath(log.to) } : log.to, level: log.level ?? 'info' } }),
  } as OperatingConfig;
}

/** Also of a config without the section: everything at its usual time. */
export async function scheduleSettings(
  raw: { [job: string]: string | undefined; jitter?: string | undefined },
  file: string,
): Promise<ScheduleSettings> {
  const { jitter = JITTER, ...given } = raw;
  const { OFF } = await import('../operations/schedule/schedule.ts');
  const { parseWhen } = await import('../operations/schedule/schedule-time.ts');
  const times = Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined);
  for (const [job, text] of times) if (text !== OFF) at(file, `schedule.${job}`, () => parseWhen(text));
  return {
    times: Object.fromEntries(times),
    jitterMs: at(file, 'schedule.jitter', () => parseDuration(jitter, 'config_invalid')),
  };
}

/** Says where in the file it is, if it fails. */
export function at<T>(file: string, key: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!isHoldfastError(error, 'config_invalid')) throw error;
    const { hint } = error;
    throw new HoldfastError('config_invalid', `${file}: \`${key}\` is not valid: ${error.message}`, {
      ...(hint !== undefined && { hint }),
    });
  }
}
