/** Debian's libraries that make a real process see other times, or system calls that fail: loaded before the C library. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Each with its package, and where its files may be. */
const PRELOADS = {
  faketime: {
    package: 'libfaketime',
    files: [`/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/faketime/libfaketimeMT.so.1`],
  },
  fiu: { package: 'fiu-utils', files: ['/usr/lib/fiu/fiu_run_preload.so', '/usr/lib/fiu/fiu_posix_preload.so'] },
} as const;
export type Preload = keyof typeof PRELOADS;

const tried = new Map<Preload, string | undefined>();

/** Installs it where it lacks and root may. @returns why it cannot be had; undefined when it is there. */
export function lacks(name: Preload): string | undefined {
  if (tried.has(name)) return tried.get(name);
  const { package: wanted, files } = PRELOADS[name];
  const isThere = () => files.every((file) => existsSync(file));
  if (!isThere() && process.platform === 'linux' && process.getuid?.() === 0) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const apt = (...args: string[]) => spawnSync('apt-get', ['-qq', ...args], { env, stdio: 'ignore' });
    if (apt('install', '-y', '--no-install-recommends', wanted).status !== 0) {
      apt('update');
      apt('install', '-y', '--no-install-recommends', wanted);
    }
  }
  const why = isThere() ? undefined : `${wanted} of Debian is not there`;
  tried.set(name, why);
  return why;
}

/** Of the environment of a process. */
export function preloading(name: Preload): Record<string, string> {
  return { LD_PRELOAD: PRELOADS[name].files.join(' ') };
}
