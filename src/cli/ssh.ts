/** How this host logs in to SFTP servers, where the config does not say. */
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import type { SshDefaults } from '../backend/open.ts';

/** The usual files of OpenSSH (ssh_config(5): IdentityFile, UserKnownHostsFile, GlobalKnownHostsFile) and the agent, if one runs. */
export function sshDefaults(env: Readonly<Record<string, string | undefined>>): SshDefaults {
  const file = (name: string) => join(homedir(), '.ssh', name);
  return {
    user: env['USER'] || userName(),
    agentSocket: env['SSH_AUTH_SOCK'] || undefined,
    keyFiles: ['id_ed25519', 'id_ecdsa', 'id_rsa'].map(file),
    knownHostsFiles: [file('known_hosts'), '/etc/ssh/ssh_known_hosts'],
  };
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'root'; // a user without a name, in a container
  }
}
