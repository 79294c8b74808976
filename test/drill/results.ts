/** Results of drills for reports and history, with what a hostile state could put into them. */
import type { DrillResult, ScenarioResult } from '../../src/drill/result.ts';

export const HOSTILE = '</title><script>alert(1)</script> | `x` *y* <b>&amp; \x1b[2J \u202e ]]> \ud800 "q" \'s\'';

export function scenarioResult(over: Partial<ScenarioResult> = {}): ScenarioResult {
  return {
    name: 'lost-host',
    title: 'The host is gone; the words and one backend are left.',
    ok: true,
    checks: [
      {
        name: 'identity: signs',
        ok: true,
        detail: 'a fresh challenge verifies',
        evidence: { publicKey: 'ab'.repeat(32) },
      },
      { name: 'state: files', ok: true, detail: '42 files have the hashes of the manifest', evidence: { files: 42 } },
    ],
    skipped: [{ name: 'handoff: what changed', why: 'no profile says where' }],
    steps: [
      { name: 'prepare', detail: '', seconds: 0.1 },
      { name: 'simulate', detail: '', seconds: 0.02 },
      { name: 'recover', detail: '', seconds: 1.5 },
      { name: 'check', detail: '', seconds: 0.7 },
      { name: 'measure', detail: '', seconds: 0.2 },
      { name: 'clean up', detail: '', seconds: 0.05 },
    ],
    recoverySeconds: 1.5,
    dataLoss: { bytes: 2048, files: 3, seconds: 3600 },
    identity: { continuous: true, publicKey: 'ab'.repeat(32) },
    snapshot: { id: 'cd'.repeat(32), seq: 7, time: '2026-01-31T23:00:00.000Z' },
    secret: 'words',
    warnings: [],
    ...over,
  };
}

/** A scenario in which all was looked at that shows that the agent comes back. */
export function wholeScenario(over: Partial<ScenarioResult> = {}): ScenarioResult {
  const names = ['identity', 'chain', 'newest', 'files', 'databases', 'memory', 'scaffold', 'backends', 'freshness'];
  const checks = names.map((name) => ({ name, ok: true, detail: 'well', evidence: {} }));
  return scenarioResult({ checks, ...over });
}

export function drillResult(over: Partial<DrillResult> = {}): DrillResult {
  return {
    ok: true,
    scenarios: [scenarioResult()],
    notRun: [],
    backends: [
      { name: 'nas', ok: true },
      { name: 'cloud', ok: true },
    ],
    repository: '00'.repeat(16),
    agent: { handle: 'ada', publicKey: 'ab'.repeat(32), fingerprint: 'SHA256:abc' },
    objectives: {
      rto: { seconds: 1.5, mostSeconds: 900, ok: true },
      rpo: { seconds: 3600, mostSeconds: null, ok: null },
    },
    started: '2026-02-01T00:00:00.000Z',
    seconds: 2.6,
    warnings: [],
    ...over,
  };
}

/** A drill in which all that can go wrong did, told by whoever wishes no good. */
export function hostileResult(): DrillResult {
  return drillResult({
    ok: false,
    agent: { handle: HOSTILE, publicKey: 'ab'.repeat(32), fingerprint: 'SHA256:abc' },
    scenarios: [
      scenarioResult(),
      scenarioResult({
        name: `lost-backend:${HOSTILE}`,
        title: HOSTILE,
        ok: false,
        checks: [{ name: HOSTILE, ok: false, detail: HOSTILE, evidence: { paths: [HOSTILE] } }],
        skipped: [{ name: HOSTILE, why: HOSTILE }],
        error: { code: 'damaged', message: HOSTILE, hint: null },
        recoverySeconds: null,
        dataLoss: null,
        identity: { continuous: false, publicKey: null },
      }),
    ],
    notRun: [{ name: 'lost-paper', title: 'no', why: HOSTILE }],
    backends: [{ name: 'nas', ok: false, error: HOSTILE }],
    warnings: [{ code: 'x', message: HOSTILE }],
  });
}
