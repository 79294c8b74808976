/** Which snapshot is meant: `latest`, `latest~2`, an id or its beginning, a moment, a tag. One grammar for every command. */
import { HoldfastError } from '../../errors.ts';
import { parseMoment } from '../../units.ts';
import { stampIn, stampOf, type SnapshotId } from './object-name.ts';

/** What is asked of a snapshot to select it. */
export interface Selectable {
  id: SnapshotId;
  /** The object it was read from. */
  key: string;
  /** The tags as they are now, not only those that it was made with. */
  record: { time: string; tags: readonly string[] };
}

export interface Selected<T, P> {
  snapshot: T;
  /** What cannot be read and may have been the one that was meant: newer than the snapshot that was taken for it. */
  passedOver: P[];
}

const STEPS_BACK = /^(.*)~(\d{1,9})$/;
const ID = /^[0-9a-f]{4,64}$/;
const FORMS =
  'Give `latest`, `latest~1`, at least 4 hex digits of an id, `@TIME` (`@2h`, `@2026-01-31T10:00`) or `tag:NAME`.';

/**
 * @param snapshots oldest first.
 * @param problems of snapshots that cannot be read.
 * @throws `not_found`, naming what is nearest; `usage` for a text of no such form, and for an id that several begin with; the error of a
 * snapshot that was meant and cannot be read.
 */
export function selectSnapshot<T extends Selectable, P extends { key: string; error: HoldfastError }>(
  selector: string,
  snapshots: readonly T[],
  problems: readonly P[],
  nowMs: number,
): Selected<T, P> {
  const [, base = selector, steps = '0'] = STEPS_BACK.exec(selector) ?? [];
  const isId = ID.test(base);
  if (base !== 'latest' && !isId) {
    if (selector.startsWith('@')) return atMoment(selector, snapshots, problems, nowMs);
    if (selector.startsWith('tag:') && selector.length > 4) return tagged(selector.slice(4), snapshots, problems);
    throw new HoldfastError('usage', `${JSON.stringify(selector)} names no snapshot`, { hint: FORMS });
  }
  if (snapshots.length === 0) throw problems[0]?.error ?? noneYet();
  const from = isId ? indexOfId(base, snapshots, problems) : snapshots.length - 1;
  const snapshot = snapshots[from - Number(steps)];
  if (!snapshot) {
    const all = snapshots.length === 1 ? 'there is one snapshot' : `there are ${snapshots.length} snapshots`;
    throw notFound(`${selector} goes too far back: ${all}`, `The oldest is ${told(snapshots[0])}.`);
  }
  // An id names one; counted from the latest, each that cannot be read may be one that counts.
  return { snapshot, passedOver: isId ? [] : problems.filter(({ key }) => stampIn(key) >= stampIn(snapshot.key)) };
}

function indexOfId<P extends { key: string; error: HoldfastError }>(
  id: string,
  snapshots: readonly Selectable[],
  problems: readonly P[],
): number {
  const matches = snapshots.filter((snapshot) => snapshot.id.startsWith(id));
  const [match] = matches;
  if (!match) {
    const broken = problems.find(({ key }) => key.includes(`-${id}`));
    if (broken) throw broken.error;
    throw notFound(
      `no snapshot begins with ${id}`,
      `The newest is ${told(snapshots.at(-1))}; \`holdfast snapshots\` lists all.`,
    );
  }
  if (matches.length > 1)
    throw new HoldfastError('usage', `${matches.length} snapshots begin with ${id}`, {
      hint: `Give more digits: ${matches.slice(0, 5).map(told).join(', ')}${matches.length > 5 ? ', …' : ''}.`,
    });
  return snapshots.indexOf(match);
}

/** The newest by number, not by time: where a clock was set back, what came later counts. */
function atMoment<T extends Selectable, P extends { key: string; error: HoldfastError }>(
  selector: string,
  snapshots: readonly T[],
  problems: readonly P[],
  nowMs: number,
): Selected<T, P> {
  const momentMs = parseMoment(selector.slice(1), nowMs);
  const moment = new Date(momentMs).toISOString();
  const snapshot = snapshots.findLast(({ record }) => Date.parse(record.time) <= momentMs);
  const until = problems.filter(({ key }) => stampIn(key) <= stampOf(momentMs));
  if (!snapshot) {
    if (until[0]) throw until[0].error;
    if (snapshots.length === 0) throw problems[0]?.error ?? noneYet();
    throw notFound(`no snapshot is from ${moment} or before`, `The oldest is ${told(snapshots[0])}.`);
  }
  return { snapshot, passedOver: until.filter(({ key }) => stampIn(key) >= stampIn(snapshot.key)) };
}

function tagged<T extends Selectable, P extends { key: string; error: HoldfastError }>(
  tag: string,
  snapshots: readonly T[],
  problems: readonly P[],
): Selected<T, P> {
  const snapshot = snapshots.findLast(({ record }) => record.tags.includes(tag));
  if (snapshot) return { snapshot, passedOver: problems.filter(({ key }) => stampIn(key) >= stampIn(snapshot.key)) };
  const tags = [...new Set(snapshots.flatMap(({ record }) => record.tags))];
  const most = tags.slice(-10).map((one) => JSON.stringify(one));
  const which = tags.length > most.length ? 'The newest tags are' : 'The tags are';
  throw notFound(
    `no snapshot has the tag ${JSON.stringify(tag)}`,
    most.length === 0 ? 'None has any tag.' : `${which} ${most.join(', ')}.`,
  );
}

const told = (snapshot: Selectable | undefined): string =>
  snapshot ? `${snapshot.id.slice(0, 8)} of ${snapshot.record.time}` : '';

const notFound = (message: string, hint: string) => new HoldfastError('not_found', message, { hint });

const noneYet = () => notFound('the repository holds no snapshot yet', 'Run `holdfast backup` first.');
