/** What a drill is given, and what its checks see of a scenario after the recovery. */
import type { RawPath } from '../raw-path.ts';
import type { RestoreSecret } from '../operations/access.ts';
import type { BackendAddress } from '../operations/backends.ts';
import type { LocalFolders, LocalState } from '../operations/host/local-state.ts';
import type { SeenSnapshot } from '../operations/looking/open-look.ts';
import type { RecoverResult } from '../operations/recover.ts';
import type { StateOptions } from '../operations/saving/save-tree.ts';
import type { Seams } from '../operations/seams.ts';
import type { Profile } from '../state/profile.ts';
import type { Sqlite } from '../state/sqlite.ts';
import type { ShadowSettings } from './checks/shadow.ts';
import type { Past } from './past.ts';
import type { Check, Evidence, Skipped } from './result.ts';
import type { Case, Scenario } from './scenario.ts';
import type { SecretKind } from './scenario-schema.ts';
import type { Host, Sources, View, World } from './world.ts';

/** What this host knows of the agent: the drill compares with it, and recovers without it. */
export interface OnRecord {
  repository?: string | undefined;
  handle?: string | undefined;
  /** Public keys, hex: of the agent's key file, and the one that the writer key file names. */
  identityFile?: { path: string; publicKey: string } | undefined;
  writerKeyFile?: { path: string; publicKey: string } | undefined;
  /** Where it remembers the newest snapshot. */
  folders?: LocalFolders | undefined;
}

/** The four questions that a successor asks, and the files that answer each: patterns, the best first. */
export const QUESTIONS = ['where', 'pending', 'decided', 'changed'] as const;
export type Handoff = Readonly<Partial<Record<(typeof QUESTIONS)[number], readonly string[]>>>;

export interface DrillOptions {
  backends: readonly BackendAddress[];
  /** What a human would have. */
  secrets: Readonly<Partial<Record<SecretKind, RestoreSecret>>>;
  record: OnRecord;
  /** The live state, to be looked at only; undefined where there is none. */
  state?: StateOptions | undefined;
  /** The profile of the state, where it is one of the user's. */
  profile?: Profile | undefined;
  /** The HOME that the root of the state may lie below. */
  home?: string | undefined;
  scenarios: readonly Scenario[];
  /** Those to run; all when empty. */
  names: readonly string[];
  /** Scenarios that the operator does without where they cannot be run, and why. Of those that are asked for by name nothing is done without. */
  without?: Readonly<Record<string, string>> | undefined;
  /** For /bin/sh, run with the restored HOME in the restored state. */
  commands: readonly string[];
  commandTimeoutMs: number;
  /** What commands are given besides the HOME of the world: PATH and what the terminal speaks. */
  env: Readonly<Record<string, string>>;
  /** How the agent is started for the scenario `shadow`. */
  shadow?: ShadowSettings | undefined;
  /** Has the work done should this process end at once, until the returned function is called. */
  atExit?: ((work: () => void) => () => void) | undefined;
  /** Default: what the profile says. */
  handoff?: Handoff | undefined;
  /** Patterns of files that need not parse. */
  ignore: readonly string[];
  objectives: { rtoMs?: number | undefined; rpoMs?: number | undefined };
  /** The text of a config for a recovered host. */
  renderConfig: (host: Host, handle: string, backends: readonly BackendAddress[]) => string;
  /** Where scratch folders are made. */
  folder: string;
  /** Name of this host, and `holdfast/<version>`, for snapshots that are made in the world. */
  hostname: string;
  tool: string;
  /** How long a scenario may take. */
  timeoutMs?: number | undefined;
  /** How long a backend may be silent. */
  silenceMs?: number | undefined;
}

/** A recovered agent, and all there is to hold it against. */
export interface Scene {
  options: DrillOptions;
  case: Case;
  seams: Seams;
  sources: Sources;
  world: World;
  view: View;
  secret: RestoreSecret;
  /** The last snapshot that this host had made when the scenario began. */
  remembered: LocalState['last'] | undefined;
  /** Backends that the scenario has taken away. */
  lost: ReadonlySet<string>;
  host: Host;
  recovered: RecoverResult;
  past: Past;
  snapshot: SeenSnapshot;
  profile: Profile;
  /** For all scenarios. */
  sqlite: Sqlite;
  /** The key that was given to the agent in the scenario: then this one is expected, and not the one on record. */
  rotatedTo?: string | undefined;
}

/** Either, from one check. */
export type Outcome = Check | Skipped;

export const isSkipped = (outcome: Outcome): outcome is Skipped => 'why' in outcome;

export const skip = (name: string, why: string): Skipped => ({ name, why });

/** Failed when there are problems, of which the first few are told. */
export function checkOf(name: string, problems: readonly string[], detail: string, evidence: Evidence): Check {
  const ok = problems.length === 0;
  const shown = problems.slice(0, TOLD).join('; ');
  const more = problems.length > TOLD ? `; and ${problems.length - TOLD} more` : '';
  return {
    name,
    ok,
    detail: ok ? detail : shown + more,
    evidence: ok ? evidence : { ...evidence, problems: problems.slice(0, LISTED) },
  };
}
const TOLD = 3;
const LISTED = 100;

/** `snapshot 1a2b3c4d (number 3)` */
export const nameOf = ({ id, record }: Pick<SeenSnapshot, 'id' | 'record'>): string =>
  `snapshot ${id.slice(0, 8)} (number ${record.seq})`;

export type Matches = (path: RawPath) => boolean;
