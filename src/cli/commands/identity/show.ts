import { hex } from '../../../crypto/hash.ts';
import { deviceId, didKey, fingerprint, sshPublicLine } from '../../../identity/agent-key.ts';
import { HoldfastCommand } from '../../base-command.ts';
import { requireSections } from '../../config.ts';
import { readSigner } from '../../context.ts';
import { facts } from '../../render.ts';

interface Shown {
  handle: string;
  /** 64 hex digits. */
  publicKey: string;
  /** As `ssh-keygen -l` prints it. */
  fingerprint: string;
  /** As in an `authorized_keys` file. */
  ssh: string;
  /** `did:key:z6Mk…`. */
  did: string;
  /** What OpenClaw calls the key: 64 hex digits. */
  deviceId: string;
  /** Of the private key. */
  file: string;
}

export default class IdentityShow extends HoldfastCommand<typeof IdentityShow, Shown> {
  static override summary = "Show the public half of the agent's key.";

  protected override async work(): Promise<Shown> {
    const { agent } = requireSections(await this.loadConfig(), 'agent');
    const { publicKey } = await readSigner(agent);
    return {
      handle: agent.handle,
      publicKey: hex(publicKey),
      fingerprint: fingerprint(publicKey),
      ssh: sshPublicLine(publicKey, agent.handle),
      did: didKey(publicKey),
      deviceId: deviceId(publicKey),
      file: agent.identity,
    };
  }

  protected override text({ handle, publicKey, fingerprint: print, ssh, did, deviceId: device, file }: Shown): string {
    return facts({ agent: handle, fingerprint: print, 'public key': publicKey, ssh, did, 'device id': device, file });
  }
}
