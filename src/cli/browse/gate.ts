/**
 * Who may see the page. The address that is printed works once and gives the browser a cookie; everything else needs the cookie. Cookies are not bound
 * to a port, so the cookie is bound to a path that nobody can guess: another server on this machine is not sent it.
 */
import type { IncomingMessage } from 'node:http';
import type { Random } from '../../clock.ts';
import { equalBytes, sha256 } from '../../crypto/hash.ts';
import { isSameSite } from '../web.ts';

const COOKIE = 'holdfast';
const SECRET_BYTES = 32;

export type Admission =
  | { kind: 'enter'; cookie: string }
  /** `path` lies below the base, without it. */
  | { kind: 'in'; path: string; query: string }
  | { kind: 'refused'; status: number; why: string };

export class Gate {
  /** The path of all pages, with a slash at both ends. */
  readonly base: string;
  readonly #hosts: readonly string[];
  readonly #cookie: string;
  #token: string | undefined;

  constructor(random: Random, port: number) {
    const secret = () => Buffer.from(random.bytes(SECRET_BYTES)).toString('base64url');
    this.base = `/${secret()}/`;
    this.#cookie = secret();
    this.#token = secret();
    this.#hosts = [`127.0.0.1:${port}`, `localhost:${port}`];
  }

  /** Where to enter, once. */
  get entrance(): string {
    return `http://${this.#hosts[0]}/?token=${this.#token ?? ''}`;
  }

  admit(request: IncomingMessage): Admission {
    const { host = '', cookie = '', origin } = request.headers;
    // A name that was made to point here is another site's, with that site's scripts.
    if (!this.#hosts.includes(host)) return refused(421, 'This page answers to 127.0.0.1 and localhost only.');
    const [path = '', query = ''] = (request.url ?? '').split('?', 2);
    if (path === '/' && request.method === 'GET') {
      if (this.#token === undefined || !same(new URLSearchParams(query).get('token') ?? '', this.#token))
        return refused(403, 'This address was used already, or is wrong. `holdfast browse` prints a new one.');
      this.#token = undefined;
      return { kind: 'enter', cookie: `${COOKIE}=${this.#cookie}; Path=${this.base}; HttpOnly; SameSite=Strict` };
    }
    const given = cookie.split('; ').find((one) => one.startsWith(`${COOKIE}=`)) ?? '';
    if (!same(given.slice(COOKIE.length + 1), this.#cookie) || !path.startsWith(this.base))
      return refused(403, 'This page is open to the browser that used the address which `holdfast browse` printed.');
    if (!isSameSite(request)) return refused(403, 'Another site asked for this.');
    if (request.method === 'POST' && origin !== `http://${host}`) return refused(403, 'Another site asked for this.');
    return { kind: 'in', path: path.slice(this.base.length), query };
  }
}

const refused = (status: number, why: string): Admission => ({ kind: 'refused', status, why });

/** In a time that tells nothing about what is right. */
const same = (a: string, b: string): boolean => equalBytes(sha256(Buffer.from(a)), sha256(Buffer.from(b)));
