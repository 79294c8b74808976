/** A connection to an SFTP server, made when it is needed and again after it was lost. */
import { connect } from 'node:net';
import { readFile } from 'node:fs/promises';
import type { ConnectConfig, SFTPWrapper, utils } from 'ssh2';
import { HoldfastError, isHoldfastError, messageOf, systemErrorCode } from '../errors.ts';
import { hostKeyFingerprint, hostKeyType, knownKeys } from './known-hosts.ts';
import { watch } from './sftp-request.ts';

export interface SftpLocation {
  host: string;
  port: number;
  user: string;
  /** Absolute, or relative to where the server puts the user. Without a slash at its end. */
  path: string;
  /** Private key file; without it `agentSocket` is asked, and then the usual files are tried. */
  keyFiles: readonly string[];
  agentSocket?: string | undefined;
  knownHostsFiles: readonly string[];
}

const HANDSHAKE_TIMEOUT_MS = 10_000;
const END_MS = 1000;
/** A connection on which nothing was heard for so long is dead. */
const KEEPALIVE_MS = 15_000;
const KEEPALIVES_MISSED_MAX = 3;

/** Open until its connection is lost; then `closed` resolves and every call rejects. */
export interface Session {
  sftp: SFTPWrapper;
  isClosed: boolean;
  /** Bytes that came from the server so far. */
  heard(): number;
  /** Closes it; what is under way fails. */
  end(): void;
}

/**
 * Connects. @throws `backend_unavailable`: the server is out of reach, its host key is unknown or another than the known one (the fingerprint is in
 * the message), or it accepts none of the keys.
 */
export async function openSession(location: SftpLocation, where: string): Promise<Session> {
  const { Client: SshClient, utils } = (await import('ssh2')).default;
  const { host, port, user } = location;
  const known = (await readAll(location.knownHostsFiles)).flatMap((text) => knownKeys(text, host, port));
  const { keys, unusable } = await readKeys(location, where, utils.parseKey);
  const client = new SshClient();
  let refusal: HoldfastError | undefined;
  const types = [...new Set(known.filter(({ isRevoked }) => !isRevoked).map(({ type }) => type))];
  const offered = types.flatMap((type) => (type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type]));
  // Small packets would otherwise wait 40 ms each for the other side's acknowledgement.
  const sock = connect({ host, port, noDelay: true });
  const config: ConnectConfig = {
    username: user,
    sock,
    readyTimeout: HANDSHAKE_TIMEOUT_MS,
    keepaliveInterval: KEEPALIVE_MS,
    keepaliveCountMax: KEEPALIVES_MISSED_MAX,
    hostVerifier: (key: Buffer) => {
      refusal = hostKeyRefusal(key, known, location, where);
      return refusal === undefined;
    },
    // A server with keys of several types must show one that is known.
    ...(offered.length > 0 ? { algorithms: { serverHostKey: offered as never } } : {}),
    authHandler: authMethods(location, keys),
  };
  try {
    await new Promise<void>((resolve, reject) => {
      client.once('ready', resolve);
      client.on('error', reject); // stays: an error that nobody listens for ends the process
      client.once('close', () => reject(new Error('the connection was closed')));
      client.connect(config);
    });
    const sftp = await new Promise<SFTPWrapper>((resolve, reject) => {
      sock.setTimeout(HANDSHAKE_TIMEOUT_MS, () => reject(new Error('the server does not start SFTP')));
      client.once('close', () => reject(new Error('the connection was closed')));
      client.sftp((error, opened) => (error ? reject(error) : resolve(opened)));
    });
    sock.setTimeout(0);
    sftp.setMaxListeners(0); // one for each request under way
    watch(sftp);
    const session: Session = {
      sftp,
      isClosed: false,
      heard: () => sock.bytesRead,
      end() {
        session.isClosed = true;
        client.end();
        sock.destroySoon(); // a server that answers no more would not close its side
        sock.setTimeout(END_MS, () => sock.destroy()); // nor take what is still to be sent
      },
    };
    client.once('close', () => (session.isClosed = true));
    sftp.once('close', () => (session.isClosed = true));
    return session;
  } catch (error) {
    client.destroy();
    throw refusal ?? connectError(error, location, where, unusable);
  }
}

type AuthMethod =
  { type: 'agent'; username: string; agent: string } | { type: 'publickey'; username: string; key: Uint8Array };

function authMethods({ user, agentSocket }: SftpLocation, keys: readonly Uint8Array[]): AuthMethod[] {
  return [
    ...keys.map((key): AuthMethod => ({ type: 'publickey', username: user, key })),
    ...(agentSocket === undefined ? [] : [{ type: 'agent', username: user, agent: agentSocket } as const]),
  ];
}

async function readAll(files: readonly string[]): Promise<string[]> {
  const texts: string[] = [];
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => undefined); // one that is not there names no host
    if (text !== undefined) texts.push(text);
  }
  return texts;
}

/** The keys in the files that are there, and of those that are not to be used, why. */
async function readKeys(
  { keyFiles, agentSocket }: SftpLocation,
  where: string,
  parseKey: (typeof utils)['parseKey'],
): Promise<{ keys: Uint8Array[]; unusable: string[] }> {
  const keys: Uint8Array[] = [];
  const unusable: string[] = [];
  for (const file of keyFiles) {
    try {
      const key = await readFile(file);
      const parsed = parseKey(key);
      if (!(parsed instanceof Error)) keys.push(key);
      else
        unusable.push(`${file} ${/passphrase/i.test(parsed.message) ? 'is under a passphrase' : 'is no private key'}`);
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') unusable.push(`${file} cannot be read: ${messageOf(error)}`);
    }
  }
  if (keys.length > 0 || agentSocket !== undefined) return { keys, unusable };
  const why = unusable.length > 0 ? `: ${unusable.join(', ')}` : '';
  throw new HoldfastError('backend_unavailable', `${where}: there is no SSH key to log in with${why}`, {
    hint: `Name one with \`key:\` in the config, or start an SSH agent and give it the key with ssh-add. Looked for: ${keyFiles.join(', ')}.`,
  });
}

function hostKeyRefusal(
  key: Buffer,
  known: ReturnType<typeof knownKeys>,
  { host, port, knownHostsFiles }: SftpLocation,
  where: string,
): HoldfastError | undefined {
  const shown = `${hostKeyType(key)} ${hostKeyFingerprint(key)}`;
  const same = known.filter(({ blob }) => blob.equals(key));
  if (same.some(({ isRevoked }) => isRevoked))
    return new HoldfastError('backend_unavailable', `${where}: the host key of ${host} is revoked: ${shown}`, {
      hint: 'Do not connect: somebody else may have this key.',
    });
  if (same.length > 0) return undefined;
  const add = `ssh-keyscan${port === 22 ? '' : ` -p ${port}`} ${host} >> ${knownHostsFiles[0] ?? '~/.ssh/known_hosts'}`;
  if (known.length === 0) {
    return new HoldfastError('backend_unavailable', `${where}: the host ${host} is not known: it shows ${shown}`, {
      hint: `Compare the fingerprint with the server's own (ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub), then: ${add}`,
    });
  }
  return new HoldfastError(
    'backend_unavailable',
    `${where}: the host key of ${host} has CHANGED: it shows ${shown}, and ${known.map(({ blob }) => hostKeyFingerprint(blob)).join(', ')} is known`,
    {
      hint: `Somebody may be in the middle. If the server was set up anew, compare the fingerprint, then: ssh-keygen -R ${port === 22 ? host : `'[${host}]:${port}'`} and ${add}`,
    },
  );
}

function connectError(
  error: unknown,
  { host, port, user }: SftpLocation,
  where: string,
  unusable: readonly string[],
): HoldfastError {
  if (isHoldfastError(error)) return error;
  const level = error instanceof Error && 'level' in error ? error.level : undefined;
  if (level === 'client-authentication') {
    return new HoldfastError(
      'backend_unavailable',
      `${where}: ${host} lets ${user} in with none of the keys${unusable.map((why) => `; ${why}`).join('')}`,
      {
        hint: 'Put the public key into the authorized_keys of the user there, or name another key with `key:`.',
        cause: error,
      },
    );
  }
  if (messageOf(error).includes('no matching host key format')) {
    return new HoldfastError(
      'backend_unavailable',
      `${where}: ${host} shows none of the host keys that are known of it`,
      {
        hint: 'Somebody may be in the middle, or the server was set up anew: compare its fingerprint with ssh-keyscan.',
        cause: error,
      },
    );
  }
  const code = systemErrorCode(error);
  return new HoldfastError('backend_unavailable', `${where}: cannot connect to ${host}:${port}: ${messageOf(error)}`, {
    hint: 'Check that the server is up and can be reached from here.',
    retryable: code !== 'ENOTFOUND',
    cause: error,
  });
}
