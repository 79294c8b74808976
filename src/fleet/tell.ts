/** Telling a person about the fleet, by the webhook that also hears of backups. */
import type { Warning } from '../entry.ts';
import { Notifier, type NotifySettings } from '../operations/notify.ts';
import type { Seams } from '../operations/seams.ts';
import type { Told } from './guarded-run.ts';

/** What is told when there is nobody to tell becomes a warning, except that a breaker opened, which its caller is told anyhow. */
export function tellBy(
  notify: Pick<NotifySettings, 'webhook'> | undefined,
  { clock, random }: Pick<Seams, 'clock' | 'random'>,
): (event: Told) => Promise<Warning[]> {
  const { webhook } = notify ?? {};
  return async ({ kind, agent, message, exitCode }) => {
    if (webhook === undefined) {
      if (kind === 'breaker_opened') return [];
      return [{ code: 'nobody_told', message: `nobody was told (set notify.webhook in the config): ${message}` }];
    }
    return new Notifier({ webhook, pingFailure: 'fail' }, { clock, random }).tell({
      ...{ agent, event: kind, outcome: 'failed', ...(exitCode !== undefined && { exitCode }), snapshot: null },
      ...{ error: { code: kind, message }, warnings: [], seconds: 0, time: new Date(clock.now()).toISOString() },
    });
  };
}
