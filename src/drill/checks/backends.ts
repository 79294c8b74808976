/** Could each backend alone bring the snapshot back? */
import { isSurvivable } from '../../errors.ts';
import { keysRecordKey, packKey, readCondemned, REPOSITORY_KEY } from '../../repository/repository.ts';
import type { Past } from '../past.ts';
import { checkOf, nameOf, skip, type Outcome, type Scene } from '../scene.ts';
import type { SeenSnapshot } from '../../operations/looking/open-look.ts';

export async function checkBackends({
  past,
  snapshot,
  view,
  lost,
  sources,
  seams: { signal },
}: Pick<Scene, 'past' | 'snapshot' | 'view' | 'lost' | 'sources' | 'seams'>): Promise<Outcome> {
  const problems: string[] = [];
  const evidence: Record<string, string> = {};
  const asked = [...view.overlays].filter(([name]) => !lost.has(name));
  if (asked.length === 0) return skip('backends', 'the scenario has left none');
  for (const [name, overlay] of asked) {
    let told: string[];
    let what = '';
    try {
      const backend = await overlay.open();
      const objects = new Map<string, number>();
      for await (const { key, size } of backend.list('', { signal })) objects.set(key, size);
      // What the recovery has healed in this world, the backend itself has not.
      const damaged: string[] = [];
      for (const { key, was } of await overlay.mended(signal)) {
        if (was === 'damaged') damaged.push(`has ${key} damaged: another backend's was read`);
        else if (await isOnAnother(view, name, key, signal)) objects.delete(key);
      }
      const { missing, packs } = await whatIsMissing(past, snapshot, objects, signal);
      told = [...damaged, ...missing].map((problem) => `backend ${name} ${problem}`);
      what = `${packs} packs needed, ${objects.size} objects there`;
      if (objects.has(snapshot.key)) {
        const bytes = await backend.get(snapshot.key, undefined, { signal });
        await past.repository.checkSnapshot(snapshot.id, snapshot.key, bytes);
      }
    } catch (error) {
      if (!isSurvivable(error)) throw error;
      const { message } = sources.problem(name) ?? error;
      told = [message.includes(`backend ${name}`) ? message : `backend ${name}: ${message}`];
    }
    problems.push(...told);
    evidence[name] = told.length === 0 ? what : `${told.length} problems`;
  }
  const names = asked.map(([name]) => name).join(', ');
  return checkOf('backends', problems, `each alone has all that ${nameOf(snapshot)} needs: ${names}`, evidence);
}

/** Whether it is not new in this world. */
async function isOnAnother(
  { overlays }: Scene['view'],
  name: string,
  key: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  for (const [other, overlay] of overlays) if (other !== name && (await overlay.hasForReal(key, signal))) return true;
  return false;
}

/** What a snapshot needs besides packs and the indexes that name them. */
function ownObjects({ repository }: Past, snapshot: SeenSnapshot): string[] {
  const log = repository.log.map(({ id, record }) => keysRecordKey(record.seq, id));
  return [REPOSITORY_KEY, ...log, ...repository.keyObjects, snapshot.key];
}

/** Those of the packs that are not about to be deleted: a backend that joins is not given them. None while it cannot be told which are. */
async function notCondemned(
  { repository }: Past,
  packs: readonly string[],
  signal: AbortSignal | undefined,
): Promise<string[]> {
  if (packs.length === 0) return [];
  const { condemned, problems } = await readCondemned(repository, undefined, signal);
  if (problems.length > 0) return [];
  const going = new Set(condemned.flatMap(({ record }) => record.packs.map(packKey)));
  return packs.filter((key) => !going.has(key));
}

async function whatIsMissing(
  past: Past,
  snapshot: SeenSnapshot,
  objects: ReadonlyMap<string, number>,
  signal: AbortSignal | undefined,
): Promise<{ missing: string[]; packs: number }> {
  const missing = ownObjects(past, snapshot)
    .filter((key) => !objects.has(key))
    .map((key) => `lacks ${key}`);
  const indexed = await past.packsIndexedBy([...objects.keys()]);
  // A backend that has the index of a pack had the pack: those of older snapshots are looked for too.
  const absent = [...indexed].filter((key) => !objects.has(key));
  const gone = new Set(await notCondemned(past, absent, signal));
  const packs = new Set<string>();
  try {
    for (const need of await past.needsOf(snapshot)) {
      for (const { key } of need.packs) packs.add(key);
      const whole = need.packs.find(({ key, bytes }) => objects.get(key) === bytes && indexed.has(key));
      if (whole) continue;
      const [first] = need.packs;
      if (!first) continue;
      const size = objects.get(first.key);
      if (size === undefined) gone.add(first.key);
      else if (size !== first.bytes) missing.push(`has ${first.key} with ${size} bytes instead of ${first.bytes}`);
      else missing.push(`has no index that names ${first.key}`);
    }
  } catch (error) {
    // The list of files is in one of those that are gone.
    if (gone.size === 0 || !past.isUnreadable(error)) throw error;
  }
  missing.push(
    ...[...gone].map((key) => `lacks ${key}${packs.size > 0 && !packs.has(key) ? ', of an older snapshot' : ''}`),
  );
  return { missing: [...new Set(missing)], packs: packs.size };
}
