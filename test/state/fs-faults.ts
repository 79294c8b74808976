/**
 * A layer over `node:fs` that makes calls fail as a bad disk, a full one or a process without descriptors would. In a test file:
 *
 *     vi.mock('node:fs', async (original) => (await import('./fs-faults.ts')).withFaults(await original()));
 *
 * and then `failing({ call: 'readSync', path: /name$/, code: 'EIO' })`. Imports no `node:fs` itself.
 */
import { getSystemErrorMap } from 'node:util';
import { namedPath } from './named-path.ts';

export interface Fault {
  call: FaultyCall;
  /** Of the file or folder, or of the descriptor's; every one when not given. */
  path?: RegExp | ((path: string) => boolean);
  code: string;
  /** So many calls that match go through first. Default 0. */
  after?: number;
}

const CALLS = [
  'openSync',
  'readSync',
  'writeSync',
  'readdirSync',
  'lstatSync',
  'fstatSync',
  'fsyncSync',
  'mkdirSync',
  'symlinkSync',
  'linkSync',
  'closeSync',
] as const;
type FaultyCall = (typeof CALLS)[number];

interface Planned extends Fault {
  seen: number;
  fired: number;
}

const planned = new Set<Planned>();
const pathOfDescriptor = new Map<number, string>();

/** Makes the calls fail until disposal, which throws when none ever did: a fault that does not happen proves nothing. */
export function failing(fault: Fault): Disposable & { readonly fired: number } {
  const plan: Planned = { ...fault, seen: 0, fired: 0 };
  planned.add(plan);
  return {
    get fired() {
      return plan.fired;
    },
    [Symbol.dispose]: () => {
      planned.delete(plan);
      if (plan.fired === 0) throw new Error(`${fault.call} never failed with ${fault.code}`);
    },
  };
}

/** Counts calls on files whose path matches, and lets them through, until disposal. */
export function counting(call: FaultyCall, path: RegExp): Disposable & { readonly count: number } {
  const plan: Planned = { call, path, code: '', after: Number.POSITIVE_INFINITY, seen: 0, fired: 0 };
  planned.add(plan);
  return {
    get count() {
      return plan.seen;
    },
    [Symbol.dispose]: () => void planned.delete(plan),
  };
}

function check(call: FaultyCall, path: string): void {
  for (const plan of planned) {
    if (plan.call !== call) continue;
    const matches = plan.path instanceof RegExp ? plan.path.test(path) : (plan.path?.(path) ?? true);
    if (!matches || plan.seen++ < (plan.after ?? 0)) continue;
    plan.fired++;
    const errno = [...getSystemErrorMap()].find(([, [name]]) => name === plan.code)?.[0] ?? -5;
    throw Object.assign(new Error(`${plan.code}: ${call}`), { code: plan.code, errno, syscall: call });
  }
}

type Call = (...values: unknown[]) => unknown;

/** The module with faults in it. */
export function withFaults(fs: object): object {
  const faulty: Record<string, unknown> = { ...fs };
  for (const call of CALLS) {
    const real = faulty[call] as Call;
    faulty[call] = (...values: unknown[]) => {
      const [first] = values;
      const isFile = typeof first === 'number';
      const place = call === 'symlinkSync' || call === 'linkSync' ? values[1] : first;
      const path = isFile ? (pathOfDescriptor.get(first) ?? '') : namedPath(place, fs);
      check(call, path);
      const result = real(...values);
      if (call === 'openSync') pathOfDescriptor.set(result as number, path);
      return result;
    };
  }
  return { ...faulty, default: faulty };
}
