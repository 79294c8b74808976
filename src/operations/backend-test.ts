/** `backend test`: the storage contract, tried on a backend of the config. */
import { checkConformance, type ConformanceCheck, type Latencies } from '../backend/conformance.ts';
import { openBackend } from '../backend/open.ts';
import { hex } from '../crypto/hash.ts';
import { addressOf, type BackendAddress } from './backends.ts';
import { secondsSince, type Seams } from './seams.ts';

export interface BackendTestResult {
  name: string;
  ok: boolean;
  checks: ConformanceCheck[];
  /** What the storage turned out to offer, by name. */
  capabilities: Readonly<Record<string, boolean>>;
  latencies: Latencies | null;
  left: string[];
  seconds: number;
}

/** What is stored there is left alone: all keys lie in a folder of their own. @throws `usage` for a name that the config does not have */
export async function testBackend(
  backends: readonly BackendAddress[],
  name: string,
  seams: Seams,
): Promise<BackendTestResult> {
  const started = seams.clock.monotonic();
  const { clock, random, signal } = seams;
  await using backend = await (seams.openBackend ?? openBackend)(addressOf(backends, name), { clock, random });
  const prefix = `backend-test/${hex(random.bytes(6))}`;
  const { checks, latencies, left } = await checkConformance(backend, prefix, { clock, random, signal });
  const capabilities = (await backend.capabilities?.()) ?? {};
  return {
    name,
    ok: checks.every(({ ok, required }) => ok || !required),
    checks,
    capabilities,
    latencies,
    left,
    seconds: secondsSince(clock, started),
  };
}
