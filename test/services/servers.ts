/**
 * Real servers for tests: Ceph's S3 gateway and OpenSSH's SFTP server, from Debian packages that are unpacked into a cache folder of the user's and
 * run on loopback. Nothing is installed. A server that was started ends with the process that started it, however that ends.
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { homedir, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const run = promisify(execFile);
const HERE = import.meta.dirname;
/** Newest first. Their releases of Ceph differ in what they can do, and the newest is a moving target. */
const SUITES = ['sid', 'trixie', 'bookworm'] as const;
const CEPH_PACKAGES = ['radosgw', 'ceph-mon', 'ceph-osd'];

/** Where a server's programs lie. */
export interface Programs {
  /** The folder below which they were unpacked; `/` for those of this system. */
  root: string;
  /** For the report, e.g. `Ceph 20.2.1 (Debian sid)`. */
  title: string;
}

/** What can be done to a server from outside. Ends with `stop`, or with this process. */
export interface Running {
  /** At once, as if the machine had lost power; what is stored stays. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface S3Server {
  endpoint: string;
  /** Of the user whom buckets belong to. */
  credentials: { accessKeyId: string; secretAccessKey: string };
  /** Of another one, who may do what bucket policies say. */
  guest: { accessKeyId: string; secretAccessKey: string };
  /** Ceph's major version. */
  version: number;
}

export interface SftpServer {
  host: string;
  port: number;
  user: string;
  /** Private key that it lets in. */
  keyFile: string;
  /** Names its host key. */
  knownHostsFile: string;
  /** What it serves, as the server and this process see it. */
  folder: string;
}

/** Unpacks the programs once, which takes seconds and a network, and says so to `say`. @throws when they cannot be had here */
export async function cephPrograms(say: (line: string) => void): Promise<Programs> {
  const failures: string[] = [];
  // One that was fetched before is good enough.
  const cached = SUITES.filter((suite) => existsSync(cacheFolder(`ceph-${suite}`)));
  for (const suite of [...cached, ...SUITES.filter((suite) => !cached.includes(suite))]) {
    try {
      const root = await fetched(`ceph-${suite}`, suite, 'alone', CEPH_PACKAGES, say);
      return { root, title: `${await cephVersion(root)} (Debian ${suite})` };
    } catch (error) {
      failures.push(`${suite}: ${reason(error)}`);
    }
  }
  throw new Error(`no Ceph from Debian: ${failures.join('; ')}`);
}

/** As `cephPrograms`. A server that the system has is taken as it is. */
export async function sshdPrograms(say: (line: string) => void): Promise<Programs> {
  if (existsSync('/usr/sbin/sshd')) return { root: '/', title: "OpenSSH (this system's)" };
  const release = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const codename = /^VERSION_CODENAME=(\w+)$/m.exec(release)?.[1];
  if (codename === undefined || !/^ID=debian$/m.test(release)) throw new Error('no sshd, and this is not Debian');
  const root = await fetched(`ssh-${codename}`, codename, 'missing', ['openssh-server'], say);
  return { root, title: `OpenSSH (Debian ${codename})` };
}

/** Starts one of its own for the caller, in about a second and a half. `setting`: one more line of its configuration. */
export async function startCeph({ root, title }: Programs, setting = ''): Promise<S3Server & Running> {
  const [port, monitor] = await freePorts(2);
  const credentials = { accessKeyId: 'holdfast', secretAccessKey: 'of-these-tests' };
  const running = await start('ceph-s3.sh', root, [
    String(port),
    String(monitor),
    credentials.accessKeyId,
    credentials.secretAccessKey,
    setting,
  ]);
  return {
    ...running.control,
    endpoint: `http://127.0.0.1:${port}`,
    credentials,
    guest: { ...credentials, accessKeyId: `${credentials.accessKeyId}-guest` },
    version: Number(/\d+/.exec(title)?.[0] ?? 0),
  };
}

/** Starts one of its own for the caller, in a tenth of a second. `flags` are those of `internal-sftp`, e.g. `-P hardlink`. */
export async function startSshd({ root }: Programs, flags: readonly string[] = []): Promise<SftpServer & Running> {
  const [port = 0] = await freePorts(1);
  const { state, control } = await start('sshd.sh', root, [String(port), ...flags]);
  const knownHostsFile = join(state, 'known_hosts');
  await run('sh', [
    '-c',
    `printf '[127.0.0.1]:%s %s\\n' ${port} "$(cat "$1/host.pub")" >"$1/known_hosts"`,
    'sh',
    state,
  ]);
  const user = userInfo().uid === 0 ? 'nobody' : userInfo().username;
  return {
    ...control,
    host: '127.0.0.1',
    port,
    user,
    keyFile: join(state, 'client'),
    knownHostsFile,
    folder: join(state, 'data'),
  };
}

async function start(
  script: string,
  root: string,
  more: readonly string[],
): Promise<{ state: string; control: Running }> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-server-'));
  await chmod(folder, 0o755); // the server may be another user
  // Its standard input ends with this process, even when that is killed: then it takes the server down.
  const keeper = spawn(join(HERE, 'keep.sh'), [script, root, folder, ...more], {
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
  });
  const gone = new Promise<void>((resolve) => void keeper.once('exit', () => resolve()));
  const answers = createInterface(keeper.stdout)[Symbol.asyncIterator]();
  const act = async (action: string): Promise<void> => {
    keeper.stdin.write(`${action}\n`);
    const { value } = await answers.next();
    if (value === '0') return;
    const log = await run('sh', ['-c', 'tail -n 5 "$1"/log "$1"/state/*.log "$1"/state/*.out || :', 'sh', folder]);
    throw new Error(`${script} ${action} failed (${String(value)})\n${log.stdout}`);
  };
  const stop = async (): Promise<void> => {
    keeper.stdin.end();
    await gone;
  };
  try {
    await act('up');
  } catch (error) {
    await stop();
    throw error;
  }
  return { state: join(folder, 'state'), control: { kill: () => act('kill'), restart: () => act('restart'), stop } };
}

function cacheFolder(name: string): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'holdfast-test-services', name);
}

/** Unpacked beside its place and then given its name: whoever dies in between leaves nothing that looks whole. */
async function fetched(
  name: string,
  suite: string,
  how: 'alone' | 'missing',
  packages: readonly string[],
  say: (line: string) => void,
): Promise<string> {
  const folder = cacheFolder(name);
  if (!existsSync(folder)) {
    say(`test servers: fetching ${packages.join(', ')} from Debian ${suite}, once`);
    await mkdir(join(folder, '..'), { recursive: true });
    const unfinished = await mkdtemp(`${folder}.`);
    try {
      await run(join(HERE, 'get-debs.sh'), [suite, unfinished, how, ...packages], { timeout: 300_000 });
      await rename(unfinished, folder).catch((error: unknown) => {
        if (!existsSync(folder)) throw error; // another run was faster
      });
    } finally {
      await rm(unfinished, { recursive: true, force: true });
    }
  }
  return join(folder, 'root');
}

async function cephVersion(root: string): Promise<string> {
  const loader = ['usr/lib64', 'lib64'].map((folder) => join(root, folder, 'ld-linux-x86-64.so.2')).find(existsSync);
  const libraries = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu/ceph'];
  const path = libraries.map((folder) => join(root, folder)).join(':');
  const { stdout } = await run(loader ?? '', ['--library-path', path, join(root, 'usr/bin/radosgw'), '--version']);
  return `Ceph ${/ceph version (\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? '?'}`;
}

/** Ports nobody listens on now. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => void server.close(resolve))));
  return ports;
}

function reason(error: unknown): string {
  const told = error instanceof Error && 'stderr' in error && typeof error.stderr === 'string' ? error.stderr : '';
  const text = told.trim() || (error instanceof Error ? error.message : String(error));
  return text.replace(/\s+/g, ' ').slice(0, 300);
}
