import { hostname } from 'node:os';
import * as Flags from '@oclif/core/flags';
import { HoldfastCommand } from '../../base-command.ts';
import { agentSpecs, checkNames } from '../../fleet/agents.ts';
import { openFleet, ownPath } from '../../fleet/context.ts';
import { DEFAULT_SERVE, isLoopback, serveSettings } from '../../fleet/serve-config.ts';
import { serveSources } from '../../fleet/serve-context.ts';
import { serveToken } from '../../fleet/serve/token.ts';
import { toJson } from '../../output.ts';
import { lines } from '../../render.ts';

interface Ended {
  ended: 'interrupted';
}

export default class FleetServe extends HoldfastCommand<typeof FleetServe, Ended> {
  static override summary = 'Serve metrics, health and a status page of the fleet. A service.';
  static override description =
    'Listens on this host alone, unless it is told otherwise. /metrics is for Prometheus, /health/live, /health/ready and /health/progress for whoever watches the watcher, /api/status is `fleet status --json`, and / is a page on which breakers are tripped and reset. All but the health needs the token, which is in a file that is made at the first start. Ends on SIGTERM and SIGINT.';
  static override examples = [
    'holdfast fleet serve',
    'holdfast fleet serve --listen 127.0.0.1:9000 --token-file /etc/holdfast/fleet.token',
  ];
  static override flags = {
    listen: Flags.string({
      summary: `Where; default \`fleet.serve.listen\`, else ${DEFAULT_SERVE.listen}. Port 0 is any that is free.`,
      helpValue: 'ADDRESS:PORT',
    }),
    'token-file': Flags.string({
      summary:
        'A file with the token, mode 0600; default `fleet.serve.tokenFile`, else one below the XDG state folder.',
      helpValue: 'FILE',
    }),
    remote: Flags.boolean({ summary: 'That other machines may ask. It is no HTTPS: put a proxy before it.' }),
  };
  protected override readonly tellsItself = true;

  protected override async work(): Promise<Ended> {
    const { listen, remote, json, quiet, 'token-file': named } = this.flags;
    const config = await this.loadConfig();
    const flags = { listen, remote: remote || undefined, tokenFile: named };
    const settings = serveSettings(config.fleet?.serve ?? DEFAULT_SERVE, flags);
    checkNames(config, []);
    const agents = agentSpecs(config, process.env, this.seams);
    const tokenFile = settings.tokenFile ?? ownPath(process.env, config.path, 'token');
    const token = await serveToken(tokenFile, { random: this.random, make: settings.tokenFile === undefined });
    const { clock, random, signal } = this;
    await using fleet = openFleet(config, { env: process.env, clock, random, reporter: `page@${hostname()}` });
    const log = (line: string) => void (quiet || process.stderr.write(lines(line)));
    const usage = () => {
      const { user, system } = process.cpuUsage();
      return { cpuSeconds: (user + system) / 1e6, residentBytes: process.memoryUsage.rss() };
    };
    const host = { env: process.env, version: this.config.version, usage, log };
    const { startFleetServer } = await import('../../fleet/serve/server.ts');
    const server = await startFleetServer(serveSources(config, fleet, agents, host, this.seams), {
      ...{ ...settings, token, hostName: hostname(), clock, random },
      ...(isLoopback(settings.listen.host) && { tokenFileShown: tokenFile }),
    });
    const { url, port } = server;
    const ready = json
      ? toJson({ url, port, tokenFile }, {})
      : lines(`The fleet is at ${url}`, `The token to log in with is in ${tokenFile}`, 'Ends with Ctrl-C or SIGTERM.');
    await this.stdout(Buffer.from(ready));
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    await server.close();
    return { ended: 'interrupted' };
  }

  protected override text(): string {
    return '';
  }
}
