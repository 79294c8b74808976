/** The status page in a browser, before a real store: somebody logs in, trips a breaker, resets it, and it was so. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/cli/config.ts';
import { agentSpecs } from '../../../src/cli/fleet/agents.ts';
import { openFleet, type Fleet } from '../../../src/cli/fleet/context.ts';
import { serveSources } from '../../../src/cli/fleet/serve-context.ts';
import type { FleetLook } from '../../../src/cli/fleet/serve/looks.ts';
import { startFleetServer, type FleetServer, type ServeSources } from '../../../src/cli/fleet/serve/server.ts';
import { systemClock, systemRandom } from '../../../src/clock.ts';
import { listEvents } from '../../../src/fleet/events.ts';
import { noChromium, openChromium, type Tab } from '../chromium.ts';
import { removeFolder, temporaryFolder } from '../../state/trees.ts';
import { troubledLook } from './views.ts';

const TOKEN = 'token-of-the-test-0123456789abcdefghij';
const seams = { clock: systemClock, random: systemRandom, progress: () => {} };

describe.skipIf(noChromium)('the page', () => {
  const folder = temporaryFolder();
  let tab: Tab & AsyncDisposable;
  let fleet: Fleet;
  let real: ServeSources;
  let server: FleetServer;
  /** Instead of what the store says. */
  let look: ServeSources['look'] | undefined;

  const serve = (port: number) =>
    startFleetServer(
      { ...real, look: (signal) => (look ?? real.look)(signal) },
      {
        ...{ listen: { host: '127.0.0.1', port }, hosts: [], openMetrics: false, watcherWithinMs: 60_000 },
        ...{ token: TOKEN, tokenFileShown: join(folder, 'token'), hostName: 'fleet-1', ...seams },
      },
    );
  beforeAll(async () => {
    const path = join(folder, 'holdfast.yaml');
    writeFileSync(
      path,
      `fleet: {store: ${join(folder, 'fleet.sqlite')}, agents: {ada: {live: {command: "echo well"}}, bob: {live: {command: "exit 3"}, critical: true}}}\n`,
      { mode: 0o600 },
    );
    const config = await loadConfig(path);
    const env = { PATH: process.env['PATH'], XDG_STATE_HOME: folder };
    fleet = openFleet(config, { env, ...seams, reporter: 'page' });
    const usage = () => ({ cpuSeconds: 0, residentBytes: 1 });
    real = serveSources(
      config,
      fleet,
      agentSpecs(config, env, seams),
      { env, version: '0', usage, log: () => {} },
      seams,
    );
    server = await serve(0);
    tab = await openChromium();
  });
  afterAll(async () => {
    await tab[Symbol.asyncDispose]();
    await server.close();
    await fleet[Symbol.asyncDispose]();
    removeFolder(folder);
  });

  const click = (selector: string) => tab.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
  const fill = (id: string, text: string) =>
    tab.evaluate(`document.getElementById(${JSON.stringify(id)}).value = ${JSON.stringify(text)}`);
  const stateOf = async (agent: string) => (await fleet.breakers.look(agent)).state;
  const login = async () => {
    await tab.goto(server.url);
    await fill('token', TOKEN);
    await tab.leadsOn(() => click('main form button'));
  };

  test('takes the token, trips a breaker with a reason, resets it, and the store says so', async () => {
    await tab.goto(server.url);
    expect(await tab.text()).toContain(join(folder, 'token'));
    await fill('token', 'wrong');
    await tab.leadsOn(() => click('main form button'));
    expect(await tab.text()).toContain('That is not the token.');
    expect(await tab.text()).not.toContain('bob');
    await login();
    expect(await tab.text()).toMatch(/1 of 2 agents needs a look[\s\S]*Nobody watches[\s\S]*bob[\s\S]*does not run/);
    expect(await tab.evaluate('document.cookie')).toBe('');

    await tab.leadsOn(() => click('a[href$="/agents/bob"]'));
    await click('#trip summary');
    await click('#trip button'); // the browser wants a reason first
    expect(await stateOf('bob')).toMatchObject({ kind: 'closed' });
    await fill('reason', 'disk is <b>full</b>');
    await tab.leadsOn(() => click('#trip button'));
    expect(await stateOf('bob')).toEqual({ kind: 'forced-open', reason: 'disk is <b>full</b>' });
    expect(await tab.text()).toMatch(/forced-open[\s\S]*trip on the page: disk is <b>full<\/b>/);

    await click('#reset summary');
    await click('#reset button'); // nor without the tick
    expect(await stateOf('bob')).toMatchObject({ kind: 'forced-open' });
    await click('#reset input[type=checkbox]');
    await tab.leadsOn(() => click('#reset button'));
    expect(await stateOf('bob')).toEqual({ kind: 'closed', failures: 0 });
    const events = await listEvents(fleet.store, { agent: 'bob', kind: 'breaker' });
    expect(events.map(({ message }) => message)).toEqual([
      'trip on the page: disk is <b>full</b>, now forced-open',
      'reset on the page, now closed',
    ]);
    expect(tab.dialogs).toEqual([]);
    expect(tab.requests.every((url) => url.startsWith(server.url) || url.startsWith('data:'))).toBe(true);
    expect(tab.complaints.filter((line) => !line.includes('401'))).toEqual([]);
    await tab.leadsOn(() => click('header form button'));
    expect(await tab.text()).toContain('Log in');
  });

  /** A server that has not looked yet. */
  const shows = async (made: FleetLook) => {
    look = () => Promise.resolve(made);
    await server.close();
    server = await serve(0);
    await login();
  };

  test('fits a telephone and a wide screen, with forty agents', async () => {
    await shows(troubledLook());
    for (const width of [360, 768, 1000, 1400]) {
      const size = { width, height: 800, deviceScaleFactor: 1, mobile: width < 600 };
      await tab.command('Emulation.setDeviceMetricsOverride', size);
      expect(await tab.evaluate('document.documentElement.scrollWidth <= innerWidth'), String(width)).toBe(true);
    }
    await tab.command('Emulation.clearDeviceMetricsOverride');
    const text = await tab.text();
    expect(text.indexOf('router')).toBeLessThan(text.indexOf('planner'));
    expect(text.indexOf('planner')).toBeLessThan(text.indexOf('worker-01'));
  });

  test('is read without JavaScript, and is fetched again all the same', async () => {
    await tab.command('Emulation.setScriptExecutionDisabled', { value: true });
    await shows(troubledLook());
    expect(await tab.text()).toContain('5 of 40 agents need a look');
    expect(await tab.evaluate(`document.querySelector('noscript meta')?.content`)).toBe('20');
    await tab.command('Emulation.setScriptExecutionDisabled', { value: false });
  });

  // The last one: from here on the time of the browser is not that of the world.
  test('looks again by itself, and says so when nobody answers any more', async () => {
    const until = async (expression: string) => {
      const later = { policy: 'pauseIfNetworkFetchesPending', budget: 1000 };
      while (!(await tab.evaluate<boolean>(expression))) await tab.command('Emulation.setVirtualTimePolicy', later);
    };
    const calm = troubledLook();
    const agents = calm.view.agents.filter(({ name }) => name.startsWith('worker'));
    await shows({ ...calm, view: { ...calm.view, agents, watcher: null } });
    expect(await tab.text()).toContain('All 34 agents are healthy');
    const { port } = server;
    const title = `document.querySelector('h1')?.textContent`; // none while it is loaded anew
    await server.close();
    await until(`document.body.classList.contains('old')`);
    expect(await tab.text()).toMatch(/The server does not answer\. What is shown is from/);
    expect(await tab.evaluate(title)).toBe('All 34 agents are healthy');
    server = await serve(port); // which does not know the session
    await until(`${title} === 'Log in'`);
  });
});
