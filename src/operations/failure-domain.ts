/** What dies together: two copies that one accident can take are one copy. */
import { statfs, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface FailureDomain {
  /** `this machine`, or the host that answers for the storage. */
  machine: string;
  /** What else it needs: a disk, a mount, a provider. Two backends with the same machine and place fall together. */
  place: string;
}

export const THIS_MACHINE = 'this machine';

/** Types of file systems that another machine serves, by the number that statfs gives (linux/magic.h, and the kernel's own headers). */
const NETWORK: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB'],
  [0x517b, 'SMB'],
  [0x01021997, '9p'],
  [0x00c36400, 'Ceph'],
  [0x5346414f, 'AFS'],
]);

/** Of the URL of a backend. Who serves a mounted folder cannot be known: each mount counts as another machine. */
export async function failureDomain(url: string): Promise<FailureDomain> {
  if (/^file:/i.test(url)) return ofFolder(fileURLToPath(url));
  const parsed = new URL(url);
  const endpoint = parsed.searchParams.get('endpoint');
  const host = /^s3:/i.test(url)
    ? endpoint === null
      ? `AWS ${parsed.searchParams.get('region') ?? ''}`.trim()
      : new URL(endpoint).hostname
    : parsed.hostname;
  return isLoopback(host) ? { machine: THIS_MACHINE, place: host } : { machine: host, place: host };
}

/** Of a folder, or of the nearest one above it that is there. */
export async function ofFolder(folder: string): Promise<FailureDomain> {
  for (let path = folder; ; path = dirname(path)) {
    try {
      const [{ dev }, { type }] = await Promise.all([stat(path), statfs(path)]);
      const network = NETWORK.get(type >>> 0);
      if (network !== undefined) return { machine: `${network} mount ${dev}`, place: `mount ${dev}` };
      return { machine: THIS_MACHINE, place: `disk ${dev}` };
    } catch {
      if (path === dirname(path)) return { machine: THIS_MACHINE, place: 'unknown disk' };
    }
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host.startsWith('127.') || host === '[::1]';
}
