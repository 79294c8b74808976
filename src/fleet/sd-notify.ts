/**
 * Telling systemd how a service is (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names. Node has no such sockets; through
 * `koffi`, as in state/linux.ts, and where that is missing by the program systemd-notify.
 */
import { createRequire } from 'node:module';
import { runTool } from '../operations/schedule/run-tool.ts';

export interface ServiceManager {
  /** `READY=1`, `STATUS=…`; several at once as lines. Never rejects: that nobody hears it is no failure of ours. */
  notify(...lines: string[]): Promise<void>;
  /** How often it wants to hear `WATCHDOG=1` at least; undefined: not at all. */
  watchdogMs: number | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Undefined where no service manager has started us. */
export function serviceManager(env: Environment, pid: number): ServiceManager | undefined {
  const socket = env['NOTIFY_SOCKET'];
  if (socket === undefined || !/^[/@]/.test(socket)) return undefined;
  const microseconds = Number(env['WATCHDOG_USEC']);
  const isOurs = env['WATCHDOG_PID'] === undefined || Number(env['WATCHDOG_PID']) === pid;
  const send = datagramSender() ?? byProgram(env);
  return {
    notify: async (...lines) => {
      // A line feed would begin another message.
      const text = lines.map((line) => line.replaceAll('\n', ' ')).join('\n');
      await send(socket, text).catch(() => {});
    },
    watchdogMs: isOurs && microseconds > 0 ? microseconds / 1000 : undefined,
  };
}

/** Whether messages come from this very process, so that NotifyAccess=main is enough. */
export function sendsItself(): boolean {
  return datagramSender() !== undefined;
}

type Send = (socket: string, text: string) => Promise<void>;

const byProgram =
  (env: Environment): Send =>
  async (_socket, text) =>
    void (await runTool(env)('systemd-notify', text.split('\n')));

interface Koffi {
  load(library: null): { func(name: string, result: string, parameters: string[]): (...values: unknown[]) => unknown };
}

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_DONTWAIT_NOSIGNAL = 0x40 | 0x4000;
/** `sun_path`, with a NUL at the end. */
const PATH_MAX_BYTES = 107;
/** As on the architectures of which these are the numbers. */
const ARCHITECTURES = ['x64', 'arm64', 'riscv64', 'loong64'];

let cached: { send: Send | undefined } | undefined;

function datagramSender(): Send | undefined {
  cached ??= { send: loadSender(() => createRequire(import.meta.url)('koffi') as unknown) };
  return cached.send;
}

/** Undefined when `loadKoffi` throws, and on systems whose numbers are not known. */
export function loadSender(loadKoffi: () => unknown): Send | undefined {
  if (process.platform !== 'linux' || !ARCHITECTURES.includes(process.arch)) return undefined;
  try {
    const library = (loadKoffi() as Koffi).load(null);
    const open = library.func('socket', 'int', ['int', 'int', 'int']);
    const sendto = library.func('sendto', 'long', ['int', 'void *', 'size_t', 'int', 'void *', 'unsigned int']);
    const close = library.func('close', 'int', ['int']);
    return async (socket, text) => {
      const path = Buffer.from(socket);
      if (path.length > PATH_MAX_BYTES) throw new Error('the name of the socket is too long');
      const address = Buffer.alloc(2 + path.length + 1);
      address.writeUInt16LE(AF_UNIX);
      path.copy(address, 2);
      // An abstract name begins with NUL, and ends where its length says.
      if (socket.startsWith('@')) address[2] = 0;
      const length = 2 + path.length + (socket.startsWith('@') ? 0 : 1);
      const fd = Number(open(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0));
      if (fd < 0) throw new Error('no socket');
      try {
        const message = Buffer.from(text);
        const sent = Number(sendto(fd, message, message.length, MSG_DONTWAIT_NOSIGNAL, address, length));
        if (sent !== message.length) throw new Error('nobody listens');
      } finally {
        close(fd);
      }
    };
  } catch {
    return undefined;
  }
}
