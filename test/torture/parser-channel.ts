/** What the process with the parsers is told, and tells. */
/** Numbers of the inputs: from, and before. */
export interface Job {
  from: number;
  end: number;
}
export type Told =
  | { kind: 'starts'; number: number; parser: string }
  | { kind: 'taken' | 'refused'; number: number }
  | { kind: 'wrong'; number: number; error: string }
  | { kind: 'done' };

/** The descriptor that is written to. */
export const CHANNEL = 3;
