/**
 * Stands in for OpenSSH where it cannot be had: as much of SFTP (version 3, with OpenSSH's extensions) as src/backend/sftp.ts speaks, on loopback, in
 * this process, on a folder. SSH is by the package that the backend uses; the protocol inside is done here, since that package offers no extensions.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { constants, type Stats } from 'node:fs';
import * as fs from 'node:fs/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import ssh2, { type AuthContext, type ParsedKey, type ServerChannel } from 'ssh2';
import type { Running, SftpServer } from './servers.ts';

/** What OpenSSH has and this has not: tests that need it are skipped. (None does.) */
export const SFTP_GAPS = ['a user of its own', 'limits on sessions'] as const;

const USER = 'tester';
const EXTENSIONS = ['hardlink', 'posix-rename', 'fsync'] as const;
/** What is asked (draft-ietf-secsh-filexfer-02, 3). */
const REQUESTS = {
  ...{ init: 1, open: 3, close: 4, read: 5, write: 6, fstat: 8, opendir: 11, readdir: 12 },
  ...{ remove: 13, mkdir: 14, stat: 17, rename: 18, extended: 200 },
} as const;
/** Types of answers, and codes of the first. */
const [VERSION, STATUS, HANDLE, DATA, NAME, ATTRS] = [2, 101, 102, 103, 104, 105];
const [OK, END_OF_FILE, FAILURE, UNSUPPORTED] = [0, 1, 4, 8];
/** As OpenSSH has them; all others are `FAILURE`. */
const STATUS_OF: Record<string, number> = { ENOENT: 2, ENOTDIR: 2, EBADF: 2, ELOOP: 2, EACCES: 3, EPERM: 3 };
/** The ways to open that are known: to read, and to write (2) what is made (8), emptied (16) and was not there (32). */
const [READ, CREATE] = [1, 2 + 8 + 16 + 32];
const READ_MAX_BYTES = 256 * 1024;
const NAMES_AT_ONCE = 100;

type Answer = [type: number, ...parts: Buffer[]];

/** Starts one; what is stored outlives `kill`, and ends with `stop`. `flags`: `-R` and `-P` of `internal-sftp`. */
export async function startEmbeddedSftp(flags: readonly string[] = []): Promise<SftpServer & Running> {
  const state = await fs.mkdtemp(join(tmpdir(), 'holdfast-server-'));
  const at = (name: string) => join(state, name);
  const [folder, keyFile, knownHostsFile] = [at('data'), at('client'), at('known_hosts')] as const;
  await fs.mkdir(folder);
  // The package's own generator harms a key that begins with a zero.
  for (const file of [keyFile, at('host')])
    await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
  const letIn = ssh2.utils.parseKey(await fs.readFile(keyFile));
  if (letIn instanceof Error) throw letIn;

  const ssh = new ssh2.Server({ hostKeys: [await fs.readFile(at('host'))] }, (client) => {
    client.on('error', () => undefined); // of a connection that broke off
    client.on('authentication', (context) => {
      if (isLetIn(context, letIn)) context.accept();
      else context.reject(['publickey']);
    });
    client.on('session', (accept) => {
      accept().on('subsystem', (accept, reject, { name }) => {
        if (name === 'sftp') new Session(accept(), folder, flags).serve().catch(() => client.end());
        else reject();
      });
    });
  });
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket.once('close', () => sockets.delete(socket)));
    ssh.injectSocket(socket);
  });
  let port = 0;
  const up = async (): Promise<void> => {
    await once(server.listen(port, '127.0.0.1'), 'listening');
    ({ port } = server.address() as AddressInfo);
  };
  const kill = async (): Promise<void> => {
    const closed = once(server.close(), 'close');
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  const stop = async (): Promise<void> => {
    if (server.listening) await kill();
    await fs.rm(state, { recursive: true, force: true });
  };
  await up();
  await fs.writeFile(knownHostsFile, `[127.0.0.1]:${port} ${await fs.readFile(at('host.pub'), 'utf8')}`);
  return { host: '127.0.0.1', port, user: USER, keyFile, knownHostsFile, folder, kill, restart: up, stop };
}

function isLetIn(context: AuthContext, letIn: ParsedKey): boolean {
  if (context.method !== 'publickey' || context.username !== USER) return false;
  if (!context.key.data.equals(letIn.getPublicSSH())) return false;
  // Without a signature it is asked only whether the key would do.
  return !context.signature || letIn.verify(context.blob ?? '', context.signature, context.hashAlgo);
}

class Session {
  readonly #channel: ServerChannel;
  readonly #folder: string;
  readonly #isReadOnly: boolean;
  readonly #extensions: readonly string[];
  readonly #files = new Map<number, fs.FileHandle>();
  /** What is still to be told of folders that are being read. */
  readonly #listings = new Map<number, string[]>();
  #handles = 0;

  constructor(channel: ServerChannel, folder: string, flags: readonly string[]) {
    this.#channel = channel;
    this.#folder = folder;
    this.#isReadOnly = flags.includes('-R');
    const denied = flags.includes('-P') ? flags[flags.indexOf('-P') + 1]?.split(',') : [];
    this.#extensions = EXTENSIONS.filter((name) => !denied?.includes(name));
  }

  /** Until the connection ends: one request after the other, as OpenSSH does. */
  async serve(): Promise<void> {
    try {
      let rest = Buffer.alloc(0);
      for await (const chunk of this.#channel as AsyncIterable<Buffer>) {
        rest = Buffer.concat([rest, chunk]);
        while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE()) {
          const end = 4 + rest.readUInt32BE();
          const answer = Buffer.concat(await this.#answer(new Packet(rest.subarray(4, end))));
          rest = rest.subarray(end);
          this.#channel.write(Buffer.concat([uint32(answer.length), answer]));
        }
      }
    } finally {
      for (const file of this.#files.values()) await file.close();
    }
  }

  async #answer(packet: Packet): Promise<Buffer[]> {
    const type = packet.byte();
    if (type === REQUESTS.init) {
      const offered = this.#extensions.flatMap((name) => [string(`${name}@openssh.com`), string('1')]);
      return [Buffer.of(VERSION), uint32(3), ...offered];
    }
    const id = packet.uint32();
    const [answerType, ...parts] = await this.#do(type, packet).catch((error: unknown): Answer => {
      const code = error instanceof Error && 'code' in error ? String(error.code) : '';
      return status(STATUS_OF[code] ?? FAILURE, code);
    });
    return [Buffer.of(answerType), uint32(id), ...parts];
  }

  async #do(type: number, packet: Packet): Promise<Answer> {
    switch (type) {
      case REQUESTS.open:
        return this.#open(this.#path(packet), packet.uint32(), packet.mode(0o666));
      case REQUESTS.close: {
        const handle = packet.handle();
        await this.#files.get(handle)?.close();
        this.#files.delete(handle);
        this.#listings.delete(handle);
        return status(OK);
      }
      case REQUESTS.read: {
        const [file, at] = [this.#file(packet), packet.uint64()];
        const bytes = Buffer.alloc(Math.min(packet.uint32(), READ_MAX_BYTES));
        const { bytesRead } = await file.read(bytes, 0, bytes.length, at);
        return bytesRead === 0 ? status(END_OF_FILE) : [DATA, string(bytes.subarray(0, bytesRead))];
      }
      case REQUESTS.write: {
        const [file, at, bytes] = [this.#file(packet), packet.uint64(), packet.bytes()];
        for (let from = 0; from < bytes.length;)
          from += (await file.write(bytes, from, bytes.length - from, at + from)).bytesWritten;
        return status(OK);
      }
      case REQUESTS.fstat:
        return [ATTRS, attributes(await this.#file(packet).stat())];
      case REQUESTS.stat:
        return [ATTRS, attributes(await fs.stat(this.#path(packet)))];
      case REQUESTS.opendir: {
        const path = this.#path(packet);
        const paths = (await fs.readdir(path)).map((name) => join(path, name));
        this.#listings.set(++this.#handles, paths);
        return [HANDLE, string(uint32(this.#handles))];
      }
      case REQUESTS.readdir:
        return this.#read(this.#listings.get(packet.handle()));
      case REQUESTS.remove:
        await fs.unlink(await this.#writable(packet));
        return status(OK);
      case REQUESTS.mkdir:
        await fs.mkdir(await this.#writable(packet), packet.mode(0o777));
        return status(OK);
      case REQUESTS.rename: {
        // Not over what is there, and so with a link, as OpenSSH does it.
        const [from, to] = [await this.#writable(packet), await this.#writable(packet)];
        await fs.link(from, to);
        await fs.unlink(from);
        return status(OK);
      }
      case REQUESTS.extended:
        return this.#extended(packet.bytes().toString().replace('@openssh.com', ''), packet);
      default:
        return status(UNSUPPORTED);
    }
  }

  async #open(path: string, wanted: number, mode: number): Promise<Answer> {
    if (wanted !== READ && wanted !== CREATE) return status(UNSUPPORTED);
    if (wanted === CREATE) await this.#requireWritable(path);
    this.#files.set(++this.#handles, await fs.open(path, wanted === CREATE ? 'wx' : 'r', mode));
    return [HANDLE, string(uint32(this.#handles))];
  }

  async #read(left: string[] | undefined): Promise<Answer> {
    if (!left) return status(FAILURE);
    if (left.length === 0) return status(END_OF_FILE);
    const names: Buffer[] = [];
    for (const path of left.splice(0, NAMES_AT_ONCE)) {
      const found = await fs.lstat(path).catch(() => undefined); // gone meanwhile
      const name = string(path.slice(dirname(path).length + 1));
      if (found) names.push(Buffer.concat([name, name, attributes(found)]));
    }
    return [NAME, uint32(names.length), ...names];
  }

  async #extended(name: string, packet: Packet): Promise<Answer> {
    if (!this.#extensions.includes(name)) return status(UNSUPPORTED);
    if (name === 'fsync') await this.#file(packet).sync();
    else {
      const [from, to] = [await this.#writable(packet), await this.#writable(packet)];
      await (name === 'hardlink' ? fs.link(from, to) : fs.rename(from, to));
    }
    return status(OK);
  }

  #file(packet: Packet): fs.FileHandle {
    const file = this.#files.get(packet.handle());
    if (!file) throw Object.assign(new Error('no such handle'), { code: 'EBADF' });
    return file;
  }

  #path(packet: Packet): string {
    return resolve(this.#folder, packet.bytes().toString());
  }

  async #writable(packet: Packet): Promise<string> {
    const path = this.#path(packet);
    await this.#requireWritable(path);
    return path;
  }

  /** Root may write everywhere, but OpenSSH's server is somebody else when root runs the tests: so modes are looked at here. */
  async #requireWritable(path: string): Promise<void> {
    const { mode } = await fs.stat(dirname(path));
    if (this.#isReadOnly || !(mode & constants.S_IWUSR)) throw Object.assign(new Error('refused'), { code: 'EACCES' });
  }
}

/** What a request is made of, piece by piece. */
class Packet {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }
  byte(): number {
    return this.#bytes.readUInt8(this.#at++);
  }
  uint32(): number {
    return this.#bytes.readUInt32BE((this.#at += 4) - 4);
  }
  uint64(): number {
    return this.uint32() * 2 ** 32 + this.uint32();
  }
  bytes(): Buffer {
    const length = this.uint32();
    return this.#bytes.subarray(this.#at, (this.#at += length));
  }
  handle(): number {
    return this.bytes().readUInt32BE();
  }
  /** Of attributes, which may name none. */
  mode(otherwise: number): number {
    const given = this.uint32();
    if (given & 1) this.uint64(); // the size
    if (given & 2) this.uint64(); // user and group
    return given & 4 ? this.uint32() : otherwise;
  }
}

function status(code: number, message = ''): Answer {
  return [STATUS, uint32(code), string(message), string('')];
}

function attributes({ size, uid, gid, mode, atimeMs, mtimeMs }: Stats): Buffer {
  const seconds = [atimeMs, mtimeMs].map((time) => Math.trunc(time / 1000));
  return Buffer.concat([15, Math.trunc(size / 2 ** 32), size % 2 ** 32, uid, gid, mode, ...seconds].map(uint32));
}

function string(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
