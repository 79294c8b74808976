import { describe, expect, it } from 'vitest';
import { ageRecipientOf, sealAge } from '../../src/crypto/age.ts';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import { fingerprint, formatOpenSsh } from '../../src/identity/agent-key.ts';
import { agentKey, newRoot, recoveryKey } from '../../src/identity/root.ts';
import { verifyPaper } from '../../src/operations/paper-verify.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { leavingBackends, makeAgent, type TestAgent } from './support.ts';

const random = seededRandom('paper verify');
const other = newRoot(random);
const verify = (agent: TestAgent, secret: Parameters<typeof verifyPaper>[0]['secret'], names = ['a', 'b']) =>
  leavingBackends(agent, () =>
    verifyPaper({ backends: agent.addresses.filter(({ name }) => names.includes(name)), secret }, agent.seams()),
  );
/** The agent's key as paper has it. */
const wrapped = async (recipient: string, seed: Uint8Array) => {
  const file = formatOpenSsh({ seed, publicKey: publicKeyOf(seed) }, 'ada', random);
  return (await sealAge(Buffer.from(file), [await ageRecipientOf(recipient)], random)).bytes;
};

describe('the paper', () => {
  it('of this agent is told with its fingerprints', async () => {
    await using agent = await makeAgent();
    expect(await verify(agent, { kind: 'root', root: agent.root })).toEqual({
      ok: true,
      fingerprint: fingerprint(recoveryKey(agent.root, 0).publicKey),
      agent: { handle: 'ada', fingerprint: fingerprint(agent.signer.publicKey) },
      repository: agent.writerKey.repositoryId,
      backends: ['a', 'b'],
      warnings: [],
    });
    const byKey = await verify(agent, { kind: 'identities', identities: [agent.restoreKey] });
    expect(byKey.warnings.map(({ code }) => code)).toEqual(['identity_not_proved']);
  });

  it('of another agent is refused', async () => {
    await using agent = await makeAgent();
    await failure(() => verify(agent, { kind: 'root', root: other }), 'wrong_key');
    await using stranger = await makeAgent({ seed: 'stranger' });
    await failure(() => verify(agent, { kind: 'identities', identities: [stranger.restoreKey] }), 'wrong_key');
  });

  it('is compared where it can be, and where not is told', async () => {
    await using agent = await makeAgent();
    agent.stores.delete('b');
    const result = await verify(agent, { kind: 'root', root: agent.root });
    expect(result).toMatchObject({
      ok: true,
      backends: ['a'],
      warnings: [{ code: 'backend_failed', incomplete: true }],
    });
  });

  it('has the key of the agent, when it has one', async () => {
    await using agent = await makeAgent({ importedKey: agentKey(other, 5) });
    const root = { kind: 'root', root: agent.root } as const;
    const own = await wrapped(agent.restoreKey, agent.signer.seed);
    expect(await verify(agent, { ...root, wrappedAgentKey: own })).toMatchObject({ warnings: [] });
    const foreign = await wrapped(agent.restoreKey, agentKey(other, 6).seed);
    const error = await failure(() => verify(agent, { ...root, wrappedAgentKey: foreign }), 'wrong_key');
    expect(error.message).toContain('not of this agent');
    await using stranger = await makeAgent({ seed: 'stranger' });
    const closed = await wrapped(stranger.restoreKey, agent.signer.seed);
    await failure(() => verify(agent, { ...root, wrappedAgentKey: closed }), 'wrong_key');
    await failure(() => verify(agent, { ...root, wrappedAgentKey: own.subarray(0, 90) }), 'wrong_key');
  });
});
