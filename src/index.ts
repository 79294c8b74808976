/**
 * holdfast as a library: the operations behind the commands, and the seams they take. Everything that is not exported here may change at any time.
 *
 * Every operation takes its options and `Seams` (clock, random, signal, progress), returns data, writes nothing to the standard streams, and throws
 * `HoldfastError`.
 */
export { HoldfastError, isHoldfastError, type ErrorCode, type ErrorOptions } from './errors.ts';
export { systemClock, systemRandom, type Clock, type Random } from './clock.ts';
export { noProgress, type Progress, type ProgressEvent } from './progress.ts';
export type { Warning } from './entry.ts';

export { init, type InitOptions, type InitResult } from './operations/init.ts';
export { backup, type BackendOutcome, type BackupOptions, type BackupResult } from './operations/backup.ts';
export { restore, type RestoreOptions, type RestoreResult } from './operations/restore.ts';
export { recover, type RecoverOptions, type RecoverResult } from './operations/recover.ts';
export { verify, type VerifyLevel, type VerifyOptions, type VerifyResult } from './operations/verify.ts';
export { repair, type RepairOptions, type RepairResult } from './operations/repair.ts';
export type { Confidence, Coverage } from './operations/coverage.ts';
export { sync, type SyncOptions, type SyncResult } from './operations/sync.ts';
export { createPaper, type CreatePaperOptions, type PaperResult } from './operations/paper.ts';
export { verifyPaper, type PaperVerifyResult } from './operations/paper-verify.ts';
export { rotateIdentity, type RotateOptions, type RotateResult } from './operations/rotate.ts';
export {
  identityLog,
  objectToRecovery,
  setRelays,
  type AgentChangeOptions,
  type Appended,
  type IdentityLog,
  type LogOptions,
  type LogRow,
} from './operations/identity-log.ts';
export {
  addRecipient,
  listRecipients,
  removeRecipient,
  type Recipient,
  type RecipientsOptions,
  type RecipientsResult,
} from './operations/recipients.ts';
export { emergency, type EmergencyOptions, type EmergencyResult } from './operations/emergency.ts';
export { exportSecret, openStoredVault, type ExportOptions, type ExportResult } from './operations/export-secret.ts';
export {
  catFile,
  listEntries,
  listSnapshots,
  type ListedEntry,
  type LookOptions,
  type SnapshotRow,
} from './operations/look.ts';
export { detectProfile, isScaffold, loadProfile, type ContinuityCheck, type Profile } from './state/profile.ts';
export { survey, type Counted, type Survey } from './state/survey.ts';
export type { SecretCount, SecretOptions } from './operations/saving/secret-manifest.ts';
export { findEntries, type FindOptions, type FindResult, type FoundEntry, type FoundIn } from './operations/find.ts';
export type { ChangeList, Changes } from './operations/restoring/restore-over.ts';
export type { Overwrite } from './state/compare-tree.ts';
export {
  diff,
  type Change,
  type DiffEntry,
  type DiffOptions,
  type DiffResult,
  type DiffSide,
} from './operations/diff.ts';
export type { ExpectedRepository, RestoreSecret } from './operations/access.ts';
export type { BackendAddress } from './operations/backends.ts';
export type { LocalFolders } from './operations/host/local-state.ts';
export type { Seams } from './operations/seams.ts';
export { demo, type DemoResult } from './drill/demo.ts';
export { drill } from './drill/run.ts';
export { builtInScenarios, loadScenarios, type Scenario } from './drill/scenario.ts';
export type { Handoff, DrillOptions, OnRecord } from './drill/scene.ts';
export type { Check, DrillResult, NotRun, ScenarioResult, Skipped } from './drill/result.ts';

export type { Backend, ByteRange, ObjectInfo, PutOptions } from './backend/backend.ts';
export {
  deviceId,
  didKey,
  fingerprint,
  formatAgentKey,
  formatEncryptedOpenSsh,
  formatOpenSsh,
  isEncryptedAgentKey,
  openAgentKey,
  parseAgentKey,
  parsePublicKey,
  type SigningKey,
} from './identity/agent-key.ts';
export { parseRecoveryKey, type RecoveryKey } from './identity/recovery-key.ts';
export { parseRecoveryText, type RecoverySecret } from './identity/recovery-text.ts';
export { agentKey, newRoot, parseWordsText, recoveryKey, restoreIdentity, type Root } from './identity/root.ts';
export { signSsh, verifySsh } from './identity/ssh-signature.ts';
export { parseWriterKey, type WriterKey } from './identity/writer-key.ts';

export type { Change as StoreChange, Entry as StoreEntry, StateStore, WriteOptions } from './fleet/store.ts';
export { openSqliteStore } from './fleet/sqlite-store.ts';
export { memoryStateStore } from './fleet/memory-store.ts';
export {
  breakerPolicy,
  type BreakerOptions,
  type BreakerPolicy,
  type FleetBreakerOptions,
} from './fleet/breaker-policy.ts';
export { Breakers, type BreakersOptions, type BreakerView, type Outcome, type Permit } from './fleet/breakers.ts';
export { guardedRun, type GuardedRunOptions, type GuardedRunResult } from './fleet/guarded-run.ts';
export { RetryQueue, type Claim, type QueuedCommand, type RetryQueueOptions } from './fleet/queue.ts';
export { runQueue, type RunQueueOptions, type RunQueueResult } from './fleet/run-queue.ts';
export { tellBy } from './fleet/tell.ts';
export { agentSpec, type AgentSettings, type SpecSeams } from './fleet/agent-spec.ts';
export type { AgentHealth, AgentState, AgentView, FleetView, Layer, LayerHealth, LayerPolicy } from './fleet/health.ts';
export { HealthWriter, readHealth, readWatcher } from './fleet/health-store.ts';
export { Prober, type AgentSpec, type LayerSpec } from './fleet/prober.ts';
export { fleetView, problemsOf } from './fleet/view.ts';
export { watch, watchOnce, type Looker, type WatchOptions } from './fleet/watch.ts';
export { decide, USUAL_RULES, USUAL_SETTINGS, type Decision, type Rule, type RuleSettings } from './fleet/rules.ts';
export { nextLevel, usualLevels, type DegradationSettings, type LevelState } from './fleet/degradation.ts';
export { appendEvent, followEvents, listEvents, type EventKind, type FleetEvent } from './fleet/events.ts';
export { renderFleetMetrics, type MetricsInput } from './fleet/metrics.ts';
export { alertRules, DEFAULT_ALERTS, type AlertThresholds } from './fleet/alerts.ts';
export type { BreakerCommand, BreakerSettings, BreakerState } from './policy/breaker.ts';
