/** The systemd service that watches a fleet. */
import { hostname } from 'node:os';
import { specifiers, unitQuoted } from '../../operations/schedule/schedule-systemd.ts';

/** Many times the pace of the rounds: a store that is slow for once is no reason to start anew. */
const WATCHDOG_SECONDS = 60;

export interface UnitOptions {
  config: string;
  /** Program and script. */
  program: readonly string[];
  env: Readonly<Record<string, string>>;
  /** Of the whole system. */
  isSystem: boolean;
  /** That messages to systemd come from the main process itself. */
  sendsItself: boolean;
  stopSeconds: number;
}

export function watchUnit({ config, program, env, isSystem, sendsItself, stopSeconds }: UnitOptions): string {
  const argv = [...program, 'fleet', 'watch', '--config', config];
  const environment = Object.entries(env).map(([key, value]) => `Environment=${unitQuoted(`${key}=${value}`)}\n`);
  const online = isSystem ? 'Wants=network-online.target\nAfter=network-online.target\n' : '';
  return `# holdfast fleet watch for ${config} on ${hostname()}. Save it as holdfast-watch.service.

[Unit]
Description=holdfast fleet watch (${specifiers(config)})
${online}StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=${sendsItself ? 'main' : 'all'}
ExecStart=${argv.map((arg, i) => unitQuoted(arg, i > 0)).join(' ')}
${environment.join('')}# It says that it is alive when every agent was looked at in time and what is known was written, not otherwise.
WatchdogSec=${WATCHDOG_SECONDS}
Restart=always
RestartSec=5
# It ends its commands itself; agents that one of them has started go on.
KillMode=process
TimeoutStopSec=${stopSeconds}

[Install]
WantedBy=${isSystem ? 'multi-user.target' : 'default.target'}
`;
}
