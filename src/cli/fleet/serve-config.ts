/** From `fleet.serve` and `fleet.alerts` of the config to what server and rules take. */
import { isIPv4, isIPv6 } from 'node:net';
import { HoldfastError } from '../../errors.ts';
import { DEFAULT_ALERTS, type AlertThresholds } from '../../fleet/alerts.ts';
import { durationAt, shareOf, type RawFleet } from './config-value.ts';

export interface ServeSettings {
  listen: Address;
  /** Names under which it may be asked. */
  hosts: readonly string[];
  /** An absolute path; absent for the one that is made. */
  tokenFile?: string;
  /** That /metrics needs no token. */
  openMetrics: boolean;
  watcherWithinMs: number;
}

export interface Address {
  /** Digits. */
  host: string;
  /** 0: any that is free. */
  port: number;
}

export interface ServeConfig {
  listen: string;
  remote: boolean;
  hosts: readonly string[];
  tokenFile?: string;
  openMetrics: boolean;
  watcherWithinMs: number;
}

export const DEFAULT_SERVE: ServeConfig = {
  listen: '127.0.0.1:8790',
  remote: false,
  hosts: [],
  openMetrics: false,
  watcherWithinMs: 60_000,
};

/** @throws `config_invalid` */
export function serveConfig(
  { serve = {}, alerts = {} }: Pick<RawFleet, 'serve' | 'alerts'>,
  resolvePath: (path: string) => string,
  file: string,
): { serve: ServeConfig; alerts: AlertThresholds } {
  const ms = (place: string, text: string) => durationAt(file, place, text);
  const share = (text: string | undefined, usual: number) => (text === undefined ? usual : shareOf(text));
  const seconds = (key: 'stuck' | 'backupAge' | 'verifyAge' | 'drillAge', usual: number) => {
    const text = alerts[key];
    return text === undefined ? usual : ms(`fleet.alerts.${key}`, text) / 1000;
  };
  return {
    serve: {
      listen: serve.listen ?? DEFAULT_SERVE.listen,
      remote: serve.remote ?? false,
      hosts: serve.hosts ?? [],
      ...(serve.tokenFile !== undefined && { tokenFile: resolvePath(serve.tokenFile) }),
      openMetrics: serve.openMetrics ?? false,
      watcherWithinMs:
        serve.watcherWithin === undefined
          ? DEFAULT_SERVE.watcherWithinMs
          : ms('fleet.serve.watcherWithin', serve.watcherWithin),
    },
    alerts: {
      job: alerts.job ?? DEFAULT_ALERTS.job,
      stuckSeconds: seconds('stuck', DEFAULT_ALERTS.stuckSeconds),
      queueDepth: alerts.queueDepth ?? DEFAULT_ALERTS.queueDepth,
      errorRatio: share(alerts.errorRate, DEFAULT_ALERTS.errorRatio),
      unhealthyRatio: share(alerts.unhealthy, DEFAULT_ALERTS.unhealthyRatio),
      backupSeconds: seconds('backupAge', DEFAULT_ALERTS.backupSeconds),
      verifySeconds: seconds('verifyAge', DEFAULT_ALERTS.verifySeconds),
      drillSeconds: seconds('drillAge', DEFAULT_ALERTS.drillSeconds),
    },
  };
}

/**
 * What the server goes by, flags before config.
 * @throws `usage` when the address is none, or not loopback and nobody said that it may be another
 */
export function serveSettings(
  config: ServeConfig,
  flags: { listen?: string | undefined; remote?: boolean | undefined; tokenFile?: string | undefined },
): ServeSettings {
  const listen = parseAddress(flags.listen ?? config.listen);
  const tokenFile = flags.tokenFile ?? config.tokenFile;
  if (!isLoopback(listen.host)) {
    if (!(flags.remote ?? config.remote))
      throw new HoldfastError('usage', `${listen.host} can be reached from other machines`, {
        hint: 'Listen on 127.0.0.1 and use `ssh -L`, or say that this is meant with --remote or `fleet.serve.remote: true`.',
      });
    if (config.openMetrics)
      throw new HoldfastError('usage', '`fleet.serve.openMetrics` is for loopback only', {
        hint: 'Take it out of the config, and give Prometheus the token: `authorization: {credentials_file: …}`.',
      });
  }
  const { hosts, openMetrics, watcherWithinMs } = config;
  return { listen, hosts, openMetrics, watcherWithinMs, ...(tokenFile !== undefined && { tokenFile }) };
}

/** @throws `usage` */
export function parseAddress(text: string): Address {
  const [, bracketed, bare, digits = ''] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bare === 'localhost' ? '127.0.0.1' : (bare ?? bracketed ?? '');
  const port = Number(digits);
  const isAddress = bracketed === undefined ? isIPv4(host) : isIPv6(host);
  if (isAddress && digits !== '' && port <= 65535) return { host, port };
  throw new HoldfastError('usage', `not an address to listen on: ${JSON.stringify(text.slice(0, 60))}`, {
    hint: 'Write ADDRESS:PORT, for example 127.0.0.1:8790 or [::1]:8790; port 0 is any that is free.',
  });
}

export function isLoopback(host: string): boolean {
  return host === '::1' || host.startsWith('127.');
}
