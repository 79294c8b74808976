/** Reports of a drill: whoever reads them sees what happened, and nothing that was restored can do more than be text. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drillJunit } from '../../src/cli/drill/junit.ts';
import { drillMarkdown } from '../../src/cli/drill/markdown.ts';
import { drillPage } from '../../src/cli/drill/page.ts';
import { drillResult, hostileResult, HOSTILE, scenarioResult } from '../drill/results.ts';
import { removeFolder, temporaryFolder } from '../state/trees.ts';
import { noChromium, openChromium, type Tab } from './chromium.ts';

const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;

const without = { name: 'lost-paper', title: 'no', why: 'none was given', accepted: 'the words lie in two safes' };

describe('as Markdown', () => {
  it('calls what could not be proved incomplete, and tells what is done without', () => {
    const { accepted: _, ...missing } = without;
    const incomplete = drillMarkdown(drillResult({ ok: false, notRun: [missing] }));
    expect(incomplete).toContain('# Migration drill of ada: INCOMPLETE');
    const passed = drillMarkdown(drillResult({ notRun: [without] }));
    expect(passed).toContain('# Migration drill of ada: passed');
    expect(passed).toContain('none was given; done without, as the config says: the words lie in two safes');
  });

  it('tells the verdict, the objectives, each scenario and each check', () => {
    const text = drillMarkdown(drillResult());
    expect(text).toContain('# Migration drill of ada: passed');
    expect(text).toContain('- recovery time: 1.5 s of 15m at most: met');
    expect(text).toContain('| lost-host | passed | 2 of 2 | 1.5 s | 3 files, 2.0 KiB, 1h of work | continuous |');
    expect(text).toContain('- ok identity: signs: a fresh challenge verifies');
    expect(text).toContain('- not looked at: handoff: what changed: no profile says where');
  });

  it('holds no mark-up and no control character of what was restored', () => {
    const text = drillMarkdown(hostileResult());
    expect(text).not.toMatch(CONTROL);
    expect(text).not.toContain('<script>');
    for (const row of text.split('\n').filter((line) => line.startsWith('|')))
      expect(row.replaceAll(/\\./g, '').split('|')).toHaveLength(8);
    expect(text).toContain('**FAILED**');
  });
});

describe.skipIf(noChromium)('in a browser', () => {
  let tab: Tab & AsyncDisposable;
  const folder = temporaryFolder();
  const show = async (page: string) => {
    const path = join(folder, 'drill.html');
    writeFileSync(path, page);
    await tab.goto(pathToFileURL(path).href);
  };
  beforeAll(async () => {
    tab = await openChromium();
  });
  afterAll(async () => {
    await tab[Symbol.asyncDispose]();
    removeFolder(folder);
  });

  it('the HTML page shows the verdict, a timeline and the trend, asks for nothing and needs no script', async () => {
    const earlier = [
      { time: '2025-10-01T00:00:00.000Z', ok: true, recoverySeconds: 2 },
      { time: '2025-12-01T00:00:00.000Z', ok: false, recoverySeconds: 4 },
    ];
    await show(drillPage(drillResult(), earlier));
    const text = await tab.text();
    expect(text).toContain('Migration drill of ada: passed');
    expect(text).toContain('42 files have the hashes of the manifest');
    const bars = await tab.evaluate<number[]>(
      `[...document.querySelectorAll('.scenario svg[role=img] rect')].map((bar) => bar.getBoundingClientRect().width)`,
    );
    // As wide as the steps were long.
    expect(bars).toHaveLength(6);
    expect(bars[2]! / bars[3]!).toBeCloseTo(1.5 / 0.7, 1);
    expect(await tab.evaluate(`document.querySelectorAll('.trend rect').length`)).toBe(3);
    expect(tab.requests.filter((url) => !url.startsWith('file:'))).toEqual([]);
    expect(tab.complaints).toEqual([]);
    expect(await tab.evaluate(`document.documentElement.scrollWidth <= innerWidth`)).toBe(true);
  });

  it('the HTML page breaks no word of a narrow column, however much a check tells', async () => {
    const detail = 'snapshot ff4ce85f is as it was saved, '.repeat(20);
    const checks = [{ name: 'databases', ok: true, detail, evidence: {} }];
    await show(drillPage(drillResult({ scenarios: [scenarioResult({ checks, skipped: [] })] }), []));
    const lines = await tab.evaluate<number[]>(`[...document.querySelectorAll('.scenario tbody td')].map((one) => {
      const words = document.createRange();
      words.selectNodeContents(one);
      return new Set([...words.getClientRects()].map(({ top }) => Math.round(top / 8))).size;
    })`);
    expect(lines.slice(0, 2)).toEqual([1, 1]);
    expect(lines[2]).toBeGreaterThan(1);
  });

  it('the HTML page shows hostile text as text', async () => {
    await show(drillPage(hostileResult(), []));
    expect(await tab.text()).toContain('</title><script>alert(1)</script>');
    expect(await tab.evaluate(`document.scripts.length`)).toBe(0);
    expect(await tab.text()).not.toMatch(CONTROL);
    expect(await tab.text()).toContain('FAILED');
    expect(tab.dialogs).toEqual([]);
  });

  it('the JUnit report is XML in which counts, failures and what was not run are right', async () => {
    const parsed = (xml: string) =>
      tab.evaluate<Record<string, unknown>>(`(() => {
        const root = new DOMParser().parseFromString(${JSON.stringify(xml)}, 'text/xml');
        const count = (selector) => root.querySelectorAll(selector).length;
        const declared = (name) => [...root.querySelectorAll('testsuite')].reduce((sum, suite) => sum + Number(suite.getAttribute(name)), 0);
        return { wrong: count('parsererror'), suites: count('testsuite'), tests: count('testcase'), failures: count('failure'), errors: count('error'), skipped: count('skipped'),
          declared: ['tests', 'failures', 'errors', 'skipped'].map(declared), total: Number(root.documentElement.getAttribute('tests')), told: root.querySelector('failure')?.getAttribute('message') };
      })()`);
    expect(await parsed(drillJunit(drillResult()))).toEqual({
      ...{ wrong: 0, suites: 1, tests: 4, failures: 0, errors: 0, skipped: 1 },
      ...{ declared: [4, 0, 0, 1], total: 4 },
    });
    const told = HOSTILE.replaceAll('\x1b', '\ufffd').replaceAll('\ud800', '\ufffd');
    expect(await parsed(drillJunit(hostileResult()))).toEqual({
      ...{ wrong: 0, suites: 3, tests: 8, failures: 1, errors: 1, skipped: 3 },
      ...{ declared: [8, 1, 1, 3], total: 8, told },
    });
  });
});
