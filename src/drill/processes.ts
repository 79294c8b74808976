/** Processes of a world: what was started in it carries its folder in the environment, also when it has left its process group. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Clock } from '../clock.ts';
import { signalGroup, signalProcess } from '../operations/hooks.ts';

const POLL_MS = 50;

/**
 * Ids of the processes of this user whose environment names the folder, or that work in it away from any terminal (one at a terminal is somebody
 * who looks around); none where there is no /proc.
 */
export function processesIn(folder: string): number[] {
  let ids: string[];
  try {
    ids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  return ids.map(Number).filter((id) => {
    if (id === process.pid) return false;
    try {
      if (readFileSync(`/proc/${id}/environ`, 'latin1').includes(`=${folder}/`)) return true;
      return readlinkSync(`/proc/${id}/cwd`).startsWith(`${folder}/`) && !hasTerminal(id);
    } catch {
      return false; // gone, or another user's
    }
  });
}

/** The fifth number after the name of the program, which may have any character in it, is that of the terminal. */
function hasTerminal(id: number): boolean {
  const stat = readFileSync(`/proc/${id}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[4] !== '0';
}

function signalEach(ids: readonly number[], signal: NodeJS.Signals): void {
  for (const id of ids) signalProcess(id, signal);
}

/** How something was brought to its end. */
export type Ending = 'by itself' | 'SIGTERM' | 'SIGKILL';

/**
 * Asks the group and all processes of the world to end, and ends what has not after the grace.
 * @param leader of the group; undefined for none
 */
export async function endAll(
  leader: number | undefined,
  folder: string,
  graceMs: number,
  clock: Clock,
): Promise<Ending> {
  const left = () => ({ group: leader !== undefined && signalGroup(leader, 0), others: processesIn(folder) });
  const isLeft = ({ group, others }: ReturnType<typeof left>) => group || others.length > 0;
  let now = left();
  if (!isLeft(now)) return 'by itself';
  if (leader !== undefined) signalGroup(leader, 'SIGTERM');
  signalEach(now.others, 'SIGTERM');
  const untilMs = clock.monotonic() + graceMs;
  while (isLeft((now = left())) && clock.monotonic() < untilMs) await clock.sleep(POLL_MS);
  if (!isLeft(now)) return 'SIGTERM';
  killNow(leader, folder);
  return 'SIGKILL';
}

/** Without asking; returns at once. */
export function killNow(leader: number | undefined, folder: string): void {
  if (leader !== undefined) signalGroup(leader, 'SIGKILL');
  signalEach(processesIn(folder), 'SIGKILL');
}
