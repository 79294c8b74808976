/**
 * The door to this folder: the rest of holdfast imports this file and no other of it. docs/format.md describes what lies behind.
 */
export { createRepository, type NewRepository } from './create.ts';
export { openRepository, type ListedSnapshots, type Repository } from './open.ts';
export { hasNewReader, openIdentityLog, type Access, type OpenOptions, type PublicAccess } from './keys.ts';
export {
  describePending,
  planKeyChange,
  putVault,
  sealIdentity,
  sealSecrets,
  storeKeyChange,
  type KeyChanges,
  type PlannedEntry,
} from './key-changes.ts';
export { putGrants } from './grants.ts';
export { heal, type Healed, type HealResult } from './heal.ts';
export { CONTEST_MS, lastEntry, recoveryCommitment, type KeyLog, type KeyLogEntry, type KeyState } from './key-log.ts';
export { HANDLE, timestamp, FORMAT_VERSION, SPECIAL_FILES, statisticsSchema } from './format.ts';
export { keysRecordKey, packKey, parseKey, REPOSITORY_KEY } from './object-name.ts';
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
} from './format.ts';
export { annotate, readAnnotations, whatIsSaid, type Annotation, type Said } from './annotation.ts';
export { addNumbers, forgottenIn, hasNumbers, removeNumbers, type NumberRanges } from './forgotten.ts';
export { selectSnapshot } from './select.ts';
export { beginRun, checkRun, endRun, readRuns, runsNotOver, type BegunRun, type Run } from './runs.ts';
export { collect, isPresumedOver, type Collected, type CollectOptions } from './collect.ts';
export type { Unfinished } from './survey.ts';
export { condemn, putBack, readCondemned, type Condemned } from './condemned.ts';
export type { AnnotationId, CondemnedId, PackId, RunId, SnapshotId } from './object-name.ts';
export { chainGaps, checkChain, type Snapshot } from './snapshot.ts';
export { ChunkStream, type ChunkerParameters } from './chunker.ts';
export { chunksInLine, entryLine, fileLineHead, formatTime, glanceAtLine, parseEntryLine } from './manifest.ts';
export type { PackIndex } from './pack-index.ts';
export type { ChunkReader, WantedChunk } from './reader.ts';
export type { SnapshotWriter, WriterTotals } from './writer.ts';
export { checkStored, level, type LevelResult, type Patience } from './level.ts';
export { scrub, type PackTally, type ScrubLevel, type ScrubOptions, type ScrubResult } from './scrub.ts';
export { isLost, type Damage, type Loss, type LostOf, type RememberedDamage } from './impact.ts';
export { cutOut, ROLLED_BACK, type CutOut } from './cut-out.ts';
export type { Budget } from './allowance.ts';
export { readStoredDrills, storeDrill, type StoredDrill } from './drills.ts';
export { readVerified, storeVerified, type Verified } from './verified.ts';
export { goneIn, knownLosses, type KnownLoss } from './known-loss.ts';
export { packPrefixes, prefixOf, unpackPrefixes } from './prefixes.ts';
