/** Runs of `verify` and `repair` as the agent's host does them: with its memory, and its key to sign with. */
import type { RepairOptions } from '../../src/operations/repair.ts';
import { repair } from '../../src/operations/repair.ts';
import type { Seams } from '../../src/operations/seams.ts';
import { verify, type VerifyOptions } from '../../src/operations/verify.ts';
import type { TestAgent } from './support.ts';

const secretOf = (agent: TestAgent) => ({ kind: 'root', root: agent.root }) as const;

export function verifyAs(agent: TestAgent, over: Partial<VerifyOptions> = {}, seams: Partial<Seams> = {}) {
  const { addresses: backends, folders, signer } = agent;
  const access = { kind: 'restore', secret: secretOf(agent) } as const;
  return verify({ backends, access, level: 'chunks', folders, signer, host: 'h', ...over }, agent.seams(seams));
}

export function repairAs(agent: TestAgent, over: Partial<RepairOptions> = {}) {
  const { addresses: backends, folders, signer } = agent;
  const access = { kind: 'restore', secret: secretOf(agent) } as const;
  const options = { backends, access, level: 'chunks', folders, signer, host: 'h' } as const;
  return repair({ ...options, forgetDamaged: false, dryRun: false, ...over }, agent.seams());
}
