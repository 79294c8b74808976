/** Scenarios, commands and moments that nobody wishes for: a drill says what is so, ends, and leaves nothing. */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import type { DrillResult } from '../../src/drill/result.ts';
import type { DrillOptions } from '../../src/drill/scene.ts';
import { processesIn } from '../../src/drill/processes.ts';
import { failure } from '../crypto/support.ts';
import { FakeClock } from '../fake-clock.ts';
import { makeAgent } from '../operations/support.ts';
import { BUILT_IN, census, checkIn, drilledAgent, failures, scenarioIn, scenarioOf } from './support.ts';

const agent = await drilledAgent();
afterAll(() => agent[Symbol.asyncDispose]());
const worlds = `${agent.folder}-worlds`;

/** A drill of one scenario, of which `rest` is what follows the title. */
async function own(rest: string, over: Partial<DrillOptions> = {}, seams = {}): Promise<DrillResult> {
  const scenario = await scenarioOf(`name: own\ntitle: mine\n${rest}\n`);
  return agent.drill(['own'], { scenarios: [...BUILT_IN, scenario], ...over }, seams);
}

const tamper = (run: string): string => `after: [{ step: tamper, run: ${JSON.stringify(run)} }]`;

describe('a scenario of the user', () => {
  test('may go through a step again', async () => {
    const result = await own(
      'simulate: [{ step: rotate }, { step: crash }]\nafter: [{ step: clone }, { step: backup }]\nchecks: { only: [chain] }',
    );
    expect(failures(result)).toEqual({});
    const names = scenarioIn(result, 'own').checks.map(({ name }) => name);
    expect(names).toEqual(['rotation', 'crash', 'chain', 'clones', 'next-backup']);
  });

  test('of which no check has anything to look at was not run', async () => {
    const result = await own('checks: { only: [commands] }');
    expect(result).toMatchObject({ ok: false, scenarios: [], notRun: [{ name: 'own' }] });
    expect(result.notRun[0]?.why).toContain('commands: the config names none');
  });

  test('that takes the folders of the world away fails, and the next one runs', async () => {
    const scenario = await scenarioOf(
      `name: own\ntitle: mine\n${tamper('cd / && rm -r "$HOLDFAST_DRILL_STATE" && touch "$HOLDFAST_DRILL_STATE"')}\n`,
    );
    const result = await agent.drill(['own', 'lost-host'], { scenarios: [scenario, ...BUILT_IN] });
    expect(failures(result)).toEqual({ own: ['recovery'] });
    expect(scenarioIn(result, 'own').error).toMatchObject({ code: 'io', message: expect.stringContaining('ENOTDIR') });
  });

  test('that puts pipes in the place of files does not have the drill wait for who writes to them', async () => {
    const pipes = 'for f in sessions/current.jsonl "$HOLDFAST_DRILL_IDENTITY"; do rm "$f" && mkfifo "$f"; done';
    const result = await own(`${tamper(pipes)}\nchecks: { only: [identity, files, parse] }`);
    expect(failures(result)).toEqual({ own: ['identity', 'files'] });
  });
});

describe('what a drill has not proved', () => {
  test('an agent without one file is none that came back', async () => {
    await using nobody = await makeAgent({ storage: 'folders', fill: () => {} });
    await nobody.backup();
    const result = await agent.drill(['lost-host', 'older-snapshot'], {
      backends: nobody.addresses,
      secrets: { words: { kind: 'root', root: nobody.root } },
      ...{ record: {}, state: undefined },
    });
    expect(failures(result)).toEqual({ 'lost-host': ['files'] });
    expect(checkIn(result, 'lost-host', 'files').detail).toContain('holds not one file');
  });

  test('a snapshot that is dated to come is not fresh: a clock is wrong', async () => {
    const clock = new FakeClock(Date.parse('2020-01-01T00:00:00Z'));
    const own = await scenarioOf('name: own\ntitle: mine\nchecks: { only: [freshness] }\nobjectives: { rpo: 24h }\n');
    const result = await agent.drill(['own'], { scenarios: [own] }, { clock });
    expect(failures(result)).toEqual({ own: ['freshness'] });
    expect(checkIn(result, 'own', 'freshness').detail).toMatch(/is dated .* from now: a clock is wrong/);
  });

  test('a backend that is gone beside the one that the scenario takes away is the one that is told', async () => {
    const [a, b] = agent.addresses;
    if (!a || !b) throw new Error('two backends');
    const backends = [a, { name: 'b', url: `${b.url}-gone` }];
    const result = await agent.drill(['lost-backend:a'], { backends });
    expect(failures(result)).toEqual({ 'lost-backend:a': ['recovery'] });
    const { error } = scenarioIn(result, 'lost-backend:a');
    expect(error).toMatchObject({ code: 'not_enough_backends', hint: expect.stringContaining('mounted') });
    expect(error?.message).toContain('of what is left nothing can be read: backend b: its folder');
    expect(error?.message).not.toContain('the drill has taken it away');
  });
});

describe('a command', () => {
  test('that fails says nothing of the keys and secrets that it has printed', async () => {
    const key = readFileSync(agent.files.identity, 'utf8');
    const body = key.split('\n').filter((line) => line !== '' && !line.startsWith('-----'));
    const run = 'cat "$HOLDFAST_DRILL_IDENTITY" keys/agent.key; rm keys/agent.key; echo it is broken; exit 1';
    const failed = await own(tamper(run));
    const printed = await agent.drill(['lost-host'], { commands: ['cat "$HOLDFAST_DRILL_IDENTITY"; echo holdfast'] });
    for (const text of [failed, printed].map((one) => JSON.stringify(one)))
      for (const secret of [...body, '5a'.repeat(32)]) expect(text).not.toContain(secret);
    expect(scenarioIn(failed, 'own').error?.message).toContain('[secret] it is broken');
    expect(checkIn(printed, 'lost-host', 'command-1').evidence['output']).toMatch(/\[secret\].* holdfast$/);
  });

  test('that cannot even be started is told as one that failed', async () => {
    const result = await agent.drill(['lost-host'], { commands: ['echo \0'] });
    expect(failures(result)).toEqual({ 'lost-host': ['command-1'] });
    expect(checkIn(result, 'lost-host', 'command-1').detail).toContain('could not be started');
  });

  test('leaves nothing running, also what has left its group, or has thrown its environment away', async () => {
    const note = join(agent.folder, 'left');
    const leave = (how: string) => `${how} /bin/sh -c 'echo $$ >> "${note}"; exec sleep 600' > /dev/null 2>&1 &`;
    const commands = [
      `${leave('setsid')} ${leave('setsid env -i')} while [ "$(wc -l < "${note}")" != 2 ]; do sleep 0.01; done`,
    ];
    writeFileSync(note, '');
    const result = await agent.drill(['lost-host'], { commands });
    const ids = readFileSync(note, 'utf8').trim().split('\n');
    rmSync(note);
    expect(failures(result)).toEqual({});
    expect(ids).toHaveLength(2);
    // One that has ended may still be waited for by nobody.
    const running = ids.filter((id) => {
      try {
        return !/\) [ZX] /.test(readFileSync(`/proc/${id}/stat`, 'latin1'));
      } catch {
        return false;
      }
    });
    expect(running).toEqual([]);
  });

  test('that is interrupted is no failure of the agent', async () => {
    const stop = new AbortController();
    const note = join(agent.folder, 'begun');
    const drilling = own(
      `${tamper(`touch "${note}"; sleep 600`)}\nchecks: { only: [identity] }`,
      {},
      { signal: stop.signal },
    );
    await expect.poll(() => readdirSync(agent.folder), { timeout: 20_000 }).toContain('begun');
    stop.abort();
    await failure(() => drilling, 'interrupted');
    rmSync(note);
    expect(readdirSync(worlds)).toEqual([]);
  });
});

describe('beside a drill', () => {
  test('a backup of the agent may go on: what it adds is no part of what is looked at', async () => {
    const stash = `${agent.folder}-stash`;
    const disks = agent.addresses.map(({ url }) => fileURLToPath(url));
    const before = disks.map((disk) => new Set(readdirSync(disk, { recursive: true }).map(String)));
    await agent.save();
    disks.forEach((disk, i) => {
      const isNew = (path: string) => !before[i]?.has(path.slice(disk.length + 1));
      for (const entry of readdirSync(disk, { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        if (!entry.isFile() || !isNew(path)) continue;
        cpSync(path, join(stash, String(i), path.slice(disk.length)), { recursive: true });
        rmSync(path);
      }
    });
    const memory = readFileSync(join(agent.folders.state, 'state.json'));
    try {
      // It lands after the recovery, before the checks.
      const lands = disks.map((disk, i) => `cp -R "${stash}/${i}/." "${disk}/"`).join(' && ');
      rmSync(join(agent.folders.state, 'state.json'));
      const scenario = `after: [{ step: tamper, run: ${JSON.stringify(`${lands} && cp "${stash}/state.json" "${agent.folders.state}"`)} }, { step: backup }, { step: clone }]`;
      writeFileSync(join(stash, 'state.json'), memory);
      const result = await own(`${scenario}\nchecks: { except: [files] }`);
      expect(failures(result)).toEqual({});
    } finally {
      rmSync(stash, { recursive: true });
    }
  });

  test('an end at once takes the world away, and what runs in it', async () => {
    const atEnd = new Set<() => void>();
    const seen: string[][] = [];
    const atExit = (work: () => void) => {
      atEnd.add(work);
      return () => void atEnd.delete(work);
    };
    const progress = (event: { type: string; name?: string }) => {
      if (event.name !== 'checking databases' || seen.length > 0) return;
      for (const work of atEnd) work();
      seen.push(readdirSync(worlds));
    };
    await agent.drill(['lost-host'], { atExit }, { progress }).catch(() => {});
    expect(seen).toEqual([[]]);
    expect(atEnd.size).toBe(0);
    expect(processesIn(worlds)).toEqual([]);
  });

  test('what a link leads to is not taken for the rest of a drill that was killed', async () => {
    const elsewhere = `${agent.folder}-elsewhere`;
    mkdirSync(elsewhere);
    writeFileSync(join(elsewhere, 'diary.txt'), 'mine\n');
    symlinkSync(elsewhere, join(worlds, 'holdfast-drill-trap'));
    const before = census(elsewhere);
    try {
      await agent.drill(['lost-paper']); // the clock is an hour ahead
      expect(census(elsewhere)).toEqual(before);
      expect(readdirSync(worlds)).toEqual(['holdfast-drill-trap']);
    } finally {
      rmSync(join(worlds, 'holdfast-drill-trap'));
      rmSync(elsewhere, { recursive: true });
    }
  });
});
