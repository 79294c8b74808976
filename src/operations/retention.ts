/**
 * Which snapshots stay, and why. Pure: what is known of them comes in, a verdict on each goes out. docs/retention.md says the same for
 * people. The order of snapshots is that of their numbers; which hour, day or month one belongs to is told by its time.
 */
import { DAY_MS } from '../units.ts';
import type { SnapshotId } from '../repository/repository.ts';

/** Of each of so many such periods, the newest snapshot stays. */
export const PERIODS = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type Period = (typeof PERIODS)[number];

/** What is to be kept; whatever any rule keeps stays. Absent and 0 keep nothing. */
export interface KeepRules extends Partial<Readonly<Record<Period, number | undefined>>> {
  /** The newest so many. */
  last?: number | undefined;
  /** All that are at most so much older than the newest, in milliseconds; see `agesOf`. */
  withinMs?: number | undefined;
  /** All with any of these tags. */
  tags?: readonly string[] | undefined;
}

/** What retention asks of a snapshot. */
export interface Retainable {
  id: SnapshotId;
  seq: number;
  timeMs: number;
  /** As they are now. */
  tags: readonly string[];
  /** That a suspicious snapshot nobody has acknowledged needs it; see `heldBySuspicion`. */
  isHeld: boolean;
}

/** Why a snapshot stays whatever the rules say. */
export const ALWAYS = ['newest', 'held', 'protected', 'future'] as const;
export type Always = (typeof ALWAYS)[number];
/** `oldest …`: there are fewer periods than are to be kept, so that the oldest snapshot stays until there are enough. */
export type Reason =
  Always | 'last' | 'within' | `tag ${string}` | Period | `oldest ${Period}` | 'no rule' | 'not named';

/** The tag that protects wherever it is. */
export const PROTECTED = 'protected';

export interface RetentionOptions {
  nowMs: number;
  /** Tags that protect, besides `PROTECTED`. */
  protect?: readonly string[] | undefined;
  /** IANA name of the zone in which hours and days are counted; default UTC. */
  timeZone?: string | undefined;
}

/** False where nothing would be kept by any rule: then everything is. */
export function hasRules(rules: KeepRules): boolean {
  const counts = [rules.last, rules.withinMs, rules.tags?.length, ...PERIODS.map((period) => rules[period])];
  return counts.some((value) => value !== undefined && value > 0);
}

/**
 * Why each snapshot stays, by its id; no reason: it goes.
 * @param snapshots in the order of their numbers.
 * @throws RangeError for a time zone that is none
 */
export function judgeRetention(
  snapshots: readonly Retainable[],
  rules: KeepRules,
  options: RetentionOptions,
): Map<SnapshotId, Reason[]> {
  const reasons = new Map<SnapshotId, Reason[]>(snapshots.map((one) => [one.id, alwaysKept(one, snapshots, options)]));
  const because = ({ id }: Retainable, reason: Reason) => reasons.get(id)?.push(reason);
  if (!hasRules(rules)) {
    for (const one of snapshots) because(one, 'no rule');
    return reasons;
  }
  // One that a wrong clock dates to come must not stand for a period, nor be what others are too old for.
  const newestFirst = snapshots.filter(({ timeMs }) => timeMs <= options.nowMs).toReversed();
  for (const one of newestFirst.slice(0, rules.last ?? 0)) because(one, 'last');
  const { withinMs = 0, tags = [] } = rules;
  const ages = agesOf(newestFirst, snapshots.at(-1));
  for (const [i, one] of newestFirst.entries()) {
    if (withinMs > 0 && (ages[i] ?? 0) <= withinMs) because(one, 'within');
    for (const tag of tags) if (one.tags.includes(tag)) because(one, `tag ${tag}`);
  }
  const local = localTime(options.timeZone);
  const dates = newestFirst.map((one) => ({ one, date: local(one.timeMs) }));
  const oldest = newestFirst.at(-1);
  for (const period of PERIODS) {
    const most = rules[period] ?? 0;
    const seen = new Set<string>();
    for (const { one, date } of dates) {
      if (seen.size >= most) break;
      const label = LABELS[period](date);
      if (!seen.has(label)) because(one, period);
      else if (one === oldest) because(one, `oldest ${period}`);
      seen.add(label);
    }
  }
  return reasons;
}

/**
 * How much older than the newest each is, in milliseconds, for `within`. A clock that jumped must age nothing: so the time between two that follow each
 * other counts as a day at most; before the newest of all, `last`, a longer one does not count at all, for no other has confirmed its date yet.
 */
function agesOf(newestFirst: readonly Retainable[], last: Retainable | undefined): number[] {
  const newestMs = newestFirst[0]?.timeMs ?? 0;
  let sumMs = 0;
  return newestFirst.map(({ timeMs }, i) => {
    const newer = newestFirst[i - 1];
    const pauseMs = newer ? Math.max(newer.timeMs - timeMs, 0) : 0;
    if (pauseMs <= DAY_MS || newer !== last) sumMs += Math.min(pauseMs, DAY_MS);
    return Math.min(sumMs, newestMs - timeMs);
  });
}

/** Why a snapshot stays whatever the rules say. */
export function alwaysKept(
  one: Retainable,
  all: readonly Retainable[],
  { nowMs, protect = [] }: RetentionOptions,
): Always[] {
  const isProtected = one.tags.some((tag) => tag === PROTECTED || protect.includes(tag));
  return [
    // Two copies of the agent may have written the same number: neither is newer.
    ...(one.seq === all.at(-1)?.seq ? (['newest'] as const) : []),
    ...(one.isHeld ? (['held'] as const) : []),
    ...(isProtected ? (['protected'] as const) : []),
    ...(one.timeMs > nowMs ? (['future'] as const) : []),
  ];
}

const LABELS: Readonly<Record<Period, (date: Date) => string>> = {
  hourly: (date) => date.toISOString().slice(0, -':00:00.000Z'.length),
  daily: dayOf,
  // By its Monday: a week may belong to two months, and to two years.
  weekly: (date) => dayOf(new Date(date.getTime() - ((date.getUTCDay() + 6) % 7) * DAY_MS)),
  monthly: (date) => dayOf(date).slice(0, -'-31'.length),
  yearly: (date) => dayOf(date).slice(0, -'-12-31'.length),
};

/** `2026-01-31`, of a date from `localTime`. */
export function dayOf(date: Date): string {
  return date.toISOString().slice(0, -'T00:00:00.000Z'.length);
}

/** Makes of a moment a date whose UTC fields are what clocks in the zone show. @throws RangeError for a name that is no zone's */
export function localTime(timeZone = 'UTC'): (ms: number) => Date {
  if (timeZone === 'UTC') return (ms) => new Date(ms);
  const fields = { year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric' } as const;
  const format = new Intl.DateTimeFormat('en-US', { timeZone, hourCycle: 'h23', ...fields });
  return (ms) => {
    const of = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
    const { year = 0, month = 1, day = 1, hour = 0 } = of;
    return new Date(Date.UTC(year, month - 1, day, hour));
  };
}
