/**
 * What a call of `node:fs` names: a restore works by paths that begin at a descriptor (`/proc/self/fd/N/…`), of which this tells the name, so that
 * tests go by names. For layers over `node:fs`; imports none itself.
 */
export function namedPath(place: unknown, fs: object): string {
  const path = Buffer.isBuffer(place) ? place.toString('latin1') : String(place);
  const [whole, descriptor] = /^\/proc\/self\/fd\/(\d+)(?:\/\.)?(?=\/|$)/.exec(path) ?? [];
  if (whole === undefined) return path;
  const { readlinkSync } = fs as { readlinkSync: (path: string, encoding: string) => string };
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`, 'latin1') + path.slice(whole.length);
  } catch {
    return path;
  }
}
