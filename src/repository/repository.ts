/**
 * The door to this folder: the rest of holdfast imports this file and no other of it. docs/format.md describes what lies behind.
 */
export { createRepository, type NewRepository } from './create.ts';
export { openRepository, type ListedSnapshots, type Repository } from './open.ts';
export { hasNewReader, openIdentityLog, type Access, type OpenOptions, type PublicAccess } from './keys/keys.ts';
export {
  describePending,
  planKeyChange,
  putVault,
  sealIdentity,
  sealSecrets,
  storeKeyChange,
  type KeyChanges,
  type PlannedEntry,
} from './keys/key-changes.ts';
export { putGrants } from './keys/grants.ts';
export { heal, type Healed, type HealResult } from './repair/heal.ts';
export {
  CONTEST_MS,
  lastEntry,
  recoveryCommitment,
  type KeyLog,
  type KeyLogEntry,
  type KeyState,
} from './keys/key-log.ts';
export { HANDLE, timestamp, FORMAT_VERSION, SPECIAL_FILES, statisticsSchema } from './records/format.ts';
export { keysRecordKey, packKey, parseKey, REPOSITORY_KEY } from './records/object-name.ts';
export type {
  AnnotationRecord,
  CondemnedRecord,
  Finding,
  KeyChange,
  KeysRecord,
  RepositoryRecord,
  RunRecord,
  VerifiedRecord,
  Signer,
  SnapshotRecord,
  SnapshotStatistics,
} from './records/format.ts';
export { annotate, readAnnotations, whatIsSaid, type Annotation, type Said } from './records/annotation.ts';
export { addNumbers, forgottenIn, hasNumbers, removeNumbers, type NumberRanges } from './records/forgotten.ts';
export { selectSnapshot } from './records/select.ts';
export { beginRun, checkRun, endRun, readRuns, runsNotOver, type BegunRun, type Run } from './records/runs.ts';
export { collect, isPresumedOver, type Collected, type CollectOptions } from './deletion/collect.ts';
export type { Unfinished } from './deletion/survey.ts';
export { condemn, putBack, readCondemned, type Condemned } from './records/condemned.ts';
export type { AnnotationId, CondemnedId, PackId, RunId, SnapshotId } from './records/object-name.ts';
export { chainGaps, checkChain, type Snapshot } from './records/snapshot.ts';
export { ChunkStream, type ChunkerParameters } from './packs/chunker.ts';
export { chunksInLine, entryLine, fileLineHead, formatTime, glanceAtLine, parseEntryLine } from './records/manifest.ts';
export type { PackIndex } from './packs/pack-index.ts';
export type { ChunkReader, WantedChunk } from './packs/reader.ts';
export type { SnapshotWriter, WriterTotals } from './packs/writer.ts';
export { checkStored, level, type LevelResult, type Patience } from './repair/level.ts';
export { scrub, type PackTally, type ScrubLevel, type ScrubOptions, type ScrubResult } from './repair/scrub.ts';
export { isLost, type Damage, type Loss, type LostOf, type RememberedDamage } from './repair/impact.ts';
export { cutOut, ROLLED_BACK, type CutOut } from './repair/cut-out.ts';
export type { Budget } from './repair/allowance.ts';
export { readStoredDrills, storeDrill, type StoredDrill } from './records/drills.ts';
export { readVerified, storeVerified, type Verified } from './records/verified.ts';
export { goneIn, knownLosses, type KnownLoss } from './records/known-loss.ts';
export { packPrefixes, prefixOf, unpackPrefixes } from './records/prefixes.ts';
