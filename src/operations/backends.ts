/** Opening the configured backends as one mirror, and telling afterwards how each fared. */
import { HoldfastError } from '../errors.ts';
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
  const openAll = (insist: boolean): Promise<Member[]> =>
    Promise.all(
      addresses.map(async ({ name, url }): Promise<Member> => {
        try {
          const how = { clock, random, create: options.create ?? false, insist };
          return { name, backend: await (seams.openBackend ?? openBackend)({ name, url }, how) };
        } catch (error) {
          if (!(error instanceof HoldfastError) || error.code !== 'backend_unavailable') throw error;
          return { name, error };
        }
      }),
    );
  let members = await openAll(false);
  if (
    members.every((member) => 'error' in member) &&
    members.some((member) => 'error' in member && isLeftAlone(member.error))
  )
    members = await openAll(true);
  const mirror = new Mirror(members, seams.clock);
  const twins = twinsIn(mirror);
  if (!twins) return mirror;
  await mirror[Symbol.asyncDispose]();
  throw new HoldfastError('config_invalid', `backends ${twins.join(' and ')} are one and the same place`, {
    hint: 'A copy that lies where the other lies is none: give one of them another place, or take it out of the config.',
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

/** Backends that dropped out of the run. */
export function failedBackendWarnings(mirror: Mirror): Warning[] {
  return mirror
    .states()
    .flatMap(({ name, state, error }) =>
      error ? [{ code: `backend_${state}`, message: withHint(aboutBackend(name, error), error) }] : [],
    );
}

function withHint(message: string, { hint }: HoldfastError): string {
  return hint === undefined ? message : `${message}. ${hint}`;
}

/** The error's message, which names the backend once. */
export function aboutBackend(name: string, { message }: HoldfastError): string {
  return message.includes(`backend ${name}`) ? message : `backend ${name}: ${message}`;
}
