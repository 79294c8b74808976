/**
 * Addresses of host names, remembered for a while. A fleet asks for the same few names all the time; and names that nobody answers for must
 * not keep all threads of the process, which files are read with too.
 */
import { lookup, type LookupAddress, type LookupOptions } from 'node:dns';
import { systemClock } from '../../clock.ts';

const KEPT_MS = 10_000;
const NAMES_MAX = 10_000;
/** Node has four threads for this and for files. */
const AT_ONCE = 2;

type Callback = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void;
type Tell = (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void;

interface Name {
  hostname: string;
  family: LookupOptions['family'];
  hints: number | undefined;
  /** Absent while it is looked up. */
  known?: { addresses: LookupAddress[]; untilMs: number };
  asking: Tell[];
}

const names = new Map<string, Name>();
const queue: Name[] = [];
let running = 0;

/** As `lookup` of node:dns, for `net.connect`. */
export function cachedLookup(hostname: string, options: LookupOptions, callback: Callback): void {
  const { all, family, hints } = options;
  const tell: Tell = (error, addresses) => {
    if (error || all) callback(error, addresses);
    else callback(null, addresses[0]?.address ?? '', addresses[0]?.family);
  };
  const key = `${hostname} ${family ?? 0} ${hints ?? 0}`;
  let name = names.get(key);
  if (name?.known && name.known.untilMs > systemClock.monotonic()) return tell(null, name.known.addresses);
  if (!name || name.known) {
    if (names.size >= NAMES_MAX) names.clear();
    name = { hostname, family, hints, asking: [] };
    names.set(key, name);
    queue.push(name);
  }
  name.asking.push(tell);
  next();
}

function next(): void {
  while (running < AT_ONCE) {
    const name = queue.shift();
    if (!name) return;
    running++;
    const { hostname, family, hints } = name;
    const options = {
      all: true as const,
      ...(family !== undefined && { family }),
      ...(hints !== undefined && { hints }),
    };
    lookup(hostname, options, (error, found) => {
      running--;
      const addresses = error ? [] : found;
      // One that failed is known for no time at all: the next look asks again.
      name.known = { addresses, untilMs: error ? 0 : systemClock.monotonic() + KEPT_MS };
      for (const tell of name.asking.splice(0)) tell(error, addresses);
      next();
    });
  }
}
