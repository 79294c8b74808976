/** The identity log: looking at it, and what the agent may do alone with the key on its host: its relays, and objecting. */
import type { Warning } from '../entry.ts';
import { HoldfastError } from '../errors.ts';
import type { Mirror } from '../backend/mirror.ts';
import { fingerprint, type SigningKey } from '../identity/agent-key.ts';
import {
  openRepository,
  planKeyChange,
  storeKeyChange,
  timestamp,
  type KeyChange,
  type KeyLogEntry,
  type KeyState,
  type PlannedEntry,
  type Access,
  type Repository,
} from '../repository/repository.ts';
import { failedBackendWarnings, openMirror, type BackendAddress } from './backends.ts';
import { checkLogIsComplete, rememberLog, whatLogLacks } from './host/continuity.ts';
import type { LocalFolders } from './host/local-state.ts';
import { takeLock } from './host/lock.ts';
import type { Seams } from './seams.ts';

export interface LogOptions {
  backends: readonly BackendAddress[];
  /** Of the agent's host. */
  access: Access;
  folders: LocalFolders;
}

/** An entry of the log, for people and scripts. */
export interface LogRow {
  seq: number;
  /** SHA-256 of the key record as stored. */
  id: string;
  previous: string | null;
  created: string;
  change: KeyChange | 'genesis';
  by: KeyLogEntry['by'];
  /** Later than `created` for what the agent may object to. */
  inForceFrom: string;
  /** `current` holds now; `pending` may still be objected to; `objected` never came into force. */
  state: 'current' | 'past' | 'pending' | 'objected';
  agent: { fingerprint: string; publicKey: string; origin: 'derived' | 'imported' };
  recovery: string;
  relays: readonly string[];
}

export interface IdentityLog {
  repository: string;
  handle: string;
  entries: LogRow[];
  /** The relays in force. */
  relays: readonly string[];
  isRevoked: boolean;
  warnings: Warning[];
}

/** What storage shows less of than this host remembers is a warning here, since here one looks for the reason. */
export async function identityLog({ backends, access, folders }: LogOptions, seams: Seams): Promise<IdentityLog> {
  await using mirror = await openMirror(backends, seams);
  const { id, log, state } = await openRepository(mirror, access, seams);
  const warnings = failedBackendWarnings(mirror);
  const lacking = whatLogLacks(log, folders);
  if (lacking !== undefined) warnings.push({ code: 'rolled_back', message: lacking, incomplete: true });
  return {
    repository: id,
    handle: state.keys.agent.handle,
    entries: log.map((entry, i) => logRow(entry, stateOf(entry, log[i + 1], state))),
    relays: state.keys.relays ?? [],
    isRevoked: state.entry.isRevoked,
    warnings,
  };
}

function stateOf(entry: KeyLogEntry, next: KeyLogEntry | undefined, now: KeyState): LogRow['state'] {
  if (entry === now.entry) return 'current';
  if (entry === now.pending) return 'pending';
  return next?.record.change === 'object' ? 'objected' : 'past';
}

function logRow({ id, record, by, inForceFromMs }: KeyLogEntry, state: LogRow['state']): LogRow {
  const { seq, previous, created, agent } = record;
  return {
    seq,
    id,
    previous,
    created,
    change: record.change ?? 'genesis',
    by,
    inForceFrom: timestamp(inForceFromMs),
    state,
    agent: {
      fingerprint: fingerprint(agent.publicKey),
      publicKey: agent.publicKey,
      origin: agent.origin,
    },
    recovery: fingerprint(record.recovery),
    relays: record.relays ?? [],
  };
}

/** Who holds a new entry, and which backends dropped out before they had it. */
export interface Appended {
  entry: LogRow;
  backends: string[];
  warnings: Warning[];
}

export function appended(mirror: Mirror, entry: KeyLogEntry, nowMs: number): Appended {
  return {
    entry: logRow(entry, entry.inForceFromMs > nowMs ? 'pending' : 'current'),
    backends: mirror.live().map(({ name }) => name),
    warnings: failedBackendWarnings(mirror, { incomplete: true }),
  };
}

export interface AgentChangeOptions extends LogOptions {
  /** The agent's key on this host. */
  signer: SigningKey;
}

/** Cancels what the recovery authority began and what is not in force yet. @throws `usage` when there is nothing of the kind */
export function objectToRecovery(options: AgentChangeOptions, seams: Seams): Promise<Appended> {
  return changeAsAgent(options, seams, ({ log, state }) => {
    if (!state.pending) {
      throw new HoldfastError(
        'usage',
        'there is nothing to object to: no change by the recovery authority is waiting',
        {
          hint: '`holdfast identity log` shows what was changed, and when.',
        },
      );
    }
    return planKeyChange(log, 'object', {}, [options.signer], seams.clock);
  });
}

/** Replaces the list of relays at which the agent can be met. */
export function setRelays(
  options: AgentChangeOptions & { relays: readonly string[] },
  seams: Seams,
): Promise<Appended> {
  checkRelays(options.relays);
  return changeAsAgent(options, seams, ({ log }) =>
    planKeyChange(log, 'relays', { relays: [...options.relays] }, [options.signer], seams.clock),
  );
}

async function changeAsAgent(
  { backends, access, folders }: AgentChangeOptions,
  seams: Seams,
  plan: (repository: Repository) => PlannedEntry,
): Promise<Appended> {
  using _lock = takeLock(folders.state, 'change of keys');
  await using mirror = await openMirror(backends, seams);
  const repository = await openRepository(mirror, access, seams);
  checkLogIsComplete(repository.log, mirror, folders);
  const entry = await storeKeyChange(mirror, plan(repository), [], seams.signal);
  rememberLog(folders, [...repository.log, entry]);
  return appended(mirror, entry, seams.clock.now());
}

const RELAYS_MAX = 16;
const RELAY = /^[a-z][a-z0-9+.-]*:\/\/[\x21-\x7e]{1,480}$/;

/** @throws `usage` */
export function checkRelays(relays: readonly string[]): void {
  const wrong = relays.findIndex((relay) => !RELAY.test(relay) || /\/\/[^/]*@/.test(relay));
  if (wrong >= 0)
    throw new HoldfastError('usage', `relay ${wrong + 1} is no URL without credentials`, {
      hint: 'Give it as wss://host/path; the log is public, so no user or password may be in it.',
    });
  if (new Set(relays).size < relays.length)
    throw new HoldfastError('usage', 'a relay is given twice', { hint: 'Give each once.' });
  if (relays.length > RELAYS_MAX)
    throw new HoldfastError('usage', `at most ${RELAYS_MAX} relays, got ${relays.length}`);
}
