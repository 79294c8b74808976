/** Opening the configured backends as one mirror, and telling afterwards how each fared. */
import { HoldfastError, isHoldfastError } from '../errors.ts';
import type { Warning } from '../entry.ts';
import { isLeftAlone } from '../backend/guarded.ts';
import { Mirror, type Member } from '../backend/mirror.ts';
import { openBackend } from '../backend/open.ts';
import type { Seams } from './seams.ts';

/** A backend as the config names it. */
export interface BackendAddress {
  name: string;
  url: string;
}

/**
 * One that cannot be opened stays in the mirror with its error, so that the run reports it. Those that are left alone because of earlier failures are
 * tried after all where none other can be had.
 * @throws `config_invalid` without a backend, and for one place under two names
 */
export async function openMirror(
  addresses: readonly BackendAddress[],
  seams: Seams,
  options: { create?: boolean } = {},
): Promise<Mirror> {
  if (addresses.length === 0)
    throw new HoldfastError('config_invalid', 'no backend is configured', {
      hint: 'Name at least one under `backends:`.',
    });
  const { clock, random } = seams;
  const openAll = (insist: boolean) =>
    Promise.allSettled(
      addresses.map(async ({ name, url }): Promise<Member> => {
        try {
          const how = { clock, random, create: options.create ?? false, insist };
          return { name, backend: await (seams.openBackend ?? openBackend)({ name, url }, how) };
        } catch (error) {
          if (!isHoldfastError(error, 'backend_unavailable')) throw error;
          return { name, error };
        }
      }),
    );
  const errorOf = (end: PromiseSettledResult<Member>) =>
    end.status === 'fulfilled' && 'error' in end.value ? end.value.error : undefined;
  let ends = await openAll(false);
  if (ends.every(errorOf) && ends.some((end) => isLeftAlone(errorOf(end)))) ends = await openAll(true);
  const members = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
  const mirror = new Mirror(members, seams.clock);
  try {
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
    const twins = twinsIn(mirror);
    if (!twins) return mirror;
    throw new HoldfastError('config_invalid', `backends ${twins.join(' and ')} are one and the same place`, {
      hint: 'A copy that lies where the other lies is none: give one of them another place, or take it out of the config.',
    });
  } catch (error) {
    await mirror[Symbol.asyncDispose]();
    throw error;
  }
}

/** The backend of that name. @throws `usage` */
export function addressOf(backends: readonly BackendAddress[], name: string): BackendAddress {
  const address = backends.find((backend) => backend.name === name);
  if (address) return address;
  throw new HoldfastError('usage', `no backend is called ${JSON.stringify(name)}`, {
    hint: `Backends are: ${backends.map((backend) => backend.name).join(', ')}.`,
  });
}

/** Names of two members that keep their objects in the same place. */
function twinsIn(mirror: Mirror): [string, string] | undefined {
  const names = new Map<string, string>();
  for (const { name, backend } of mirror.live()) {
    if (backend.place === undefined) continue;
    const other = names.get(backend.place);
    if (other !== undefined) return [other, name];
    names.set(backend.place, name);
  }
  return undefined;
}

/** What reads met on the way, and which backend served instead. What none could serve is told by the operation that needed it. */
export function mishapWarnings(mirror: Mirror): Warning[] {
  return mirror.mishaps().map(({ backend, key, problem, servedBy }) => ({
    code: servedBy === undefined ? 'read_failed' : 'read_elsewhere',
    message: `${key} on backend ${backend}: ${problem}${servedBy === undefined ? '' : `; backend ${servedBy} was used`}`,
  }));
}

/** Backends that dropped out of the run; `incomplete`: without them it is. */
export function failedBackendWarnings(mirror: Mirror, more: Pick<Warning, 'incomplete'> = {}): Warning[] {
  return mirror
    .states()
    .flatMap(({ name, state, error }) =>
      error ? [{ code: `backend_${state}`, message: withHint(aboutBackend(name, error), error), ...more }] : [],
    );
}

function withHint(message: string, { hint }: HoldfastError): string {
  return hint === undefined ? message : `${message}. ${hint}`;
}

/** The error's message, which names the backend once. */
export function aboutBackend(name: string, { message }: HoldfastError): string {
  return message.includes(`backend ${name}`) ? message : `backend ${name}: ${message}`;
}
