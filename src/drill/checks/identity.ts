/** Is it the same agent: does the key that came back sign, and is it the one that the signed log and this host know? */
import { basename, dirname } from 'node:path';
import { HoldfastError, isHoldfastError, messageOf } from '../../errors.ts';
import { hex } from '../../crypto/hash.ts';
import { sign, verify } from '../../crypto/ed25519.ts';
import { deviceId, fingerprint, parseAgentKey, sshPublicLine, type SigningKey } from '../../identity/agent-key.ts';
import { rawFromText } from '../../raw-path.ts';
import { readSmall } from '../past.ts';
import { checkOf, type Outcome, type Scene } from '../scene.ts';
import { KEY_FILE_MAX_BYTES } from './keys.ts';

const CHALLENGE_BYTES = 32;

export async function checkIdentity(scene: Scene): Promise<Outcome> {
  const { host, past, options, seams, snapshot, rotatedTo } = scene;
  const { publicKey: inForce, handle } = past.repository.keys.agent;
  let key: SigningKey;
  try {
    const { identity: file } = host.files;
    const bytes = readSmall(dirname(file), rawFromText(basename(file)), KEY_FILE_MAX_BYTES);
    if (!bytes) throw new HoldfastError('missing_key', 'it is not there, or no plain file');
    key = parseAgentKey(bytes.toString('utf8'));
  } catch (error) {
    const problem = `the recovered key file cannot be used: ${isHoldfastError(error) ? error.message : messageOf(error)}`;
    return checkOf('identity', [problem], '', { signs: false });
  }
  const challenge = seams.random.bytes(CHALLENGE_BYTES);
  const signs = verify(sign(challenge, key.seed), challenge, Buffer.from(inForce, 'hex'));
  const recovered = hex(key.publicKey);
  const problems: string[] = [];
  if (!signs)
    problems.push(
      `the recovered key is ${fingerprint(key.publicKey)}, and the signed log says ${fingerprint(inForce)}: its signature does not verify`,
    );
  const { record } = options;
  const known = rotatedTo
    ? [{ path: 'the key that the scenario gave it', publicKey: rotatedTo }]
    : [record.identityFile, record.writerKeyFile].filter((one) => one !== undefined);
  for (const { path, publicKey } of known) {
    if (publicKey !== inForce)
      problems.push(`${path} has the key ${fingerprint(publicKey)}, and the signed log says ${fingerprint(inForce)}`);
  }
  if (record.handle !== undefined && record.handle !== handle)
    problems.push(`the config calls the agent ${record.handle}, and the signed log ${handle}`);
  if (record.repository !== undefined && record.repository !== past.repository.id)
    problems.push(`the writer key of this host is of repository ${record.repository}, not of ${past.repository.id}`);
  const compared =
    known.length === 0 ? 'this host has no key to compare with' : `as on record in ${known.length} places`;
  return checkOf('identity', problems, `${handle}, key ${fingerprint(key.publicKey)} signs a challenge; ${compared}`, {
    challenge: hex(challenge),
    signs,
    publicKey: recovered,
    fingerprint: fingerprint(key.publicKey),
    ssh: sshPublicLine(key.publicKey, handle),
    deviceId: deviceId(key.publicKey),
    handle,
    signedLog: inForce,
    snapshotSignedBy: snapshot.record.agent.publicKey,
    onRecord: known.map(({ path, publicKey }) => `${path}: ${publicKey}`),
  });
}
