/** What an operation tells while it runs; whoever called it decides whether and how to show it. */

export type ProgressEvent =
  /** A new phase began; the one before is over. */
  | { type: 'phase'; name: string }
  /** `done` of `total` (unknown when absent) in the phase; `done` never shrinks within a phase. */
  | { type: 'progress'; phase: string; done: number; total?: number; unit: 'bytes' | 'files' | 'objects' };

/** Cheap enough to be called for every file; it never throws. */
export type Progress = (event: ProgressEvent) => void;

export const noProgress: Progress = () => {};
