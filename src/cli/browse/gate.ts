/**
 * Who may see the page. The address that is printed works once and gives the browser a cookie; everything else needs the cookie. Cookies are not bound
 * to a port, so the cookie is bound to a path that nobody can guess: another server on this machine is not sent it.
 */
import type { IncomingMessage } from 'node:http';
import type { Random } from '../../clock.ts';
import { cookiesOf, freshSecret, isSame, isSameSite, pageCookie } from '../web.ts';

const COOKIE = 'holdfast';

export type Admission =
  | { kind: 'enter'; cookie: string }
  /** `path` lies below the base, without it. */
  | { kind: 'in'; path: string; query: string }
  | { kind: 'refused'; status: number; why: string };

export class BrowserGate {
  /** The path of all pages, with a slash at both ends. */
  readonly base: string;
  readonly #hosts: readonly string[];
  readonly #cookie: string;
  #token: string | undefined;

  constructor(random: Random, port: number) {
    this.base = `/${freshSecret(random)}/`;
    this.#cookie = freshSecret(random);
    this.#token = freshSecret(random);
    this.#hosts = [`127.0.0.1:${port}`, `localhost:${port}`];
  }

  /** Where to enter, once. */
  get entrance(): string {
    return `http://${this.#hosts[0]}/?token=${this.#token ?? ''}`;
  }

  admit(request: IncomingMessage): Admission {
    const { host = '', origin } = request.headers;
    // A name that was made to point here is another site's, with that site's scripts.
    if (!this.#hosts.includes(host)) return refused(421, 'This page answers to 127.0.0.1 and localhost only.');
    const [path = '', query = ''] = (request.url ?? '').split('?', 2);
    if (path === '/' && request.method === 'GET') {
      if (this.#token === undefined || !isSame(new URLSearchParams(query).get('token') ?? '', this.#token))
        return refused(403, 'This address was used already, or is wrong. `holdfast browse` prints a new one.');
      this.#token = undefined;
      return { kind: 'enter', cookie: pageCookie(COOKIE, this.#cookie, this.base) };
    }
    const [given = ''] = cookiesOf(request, COOKIE);
    if (!isSame(given, this.#cookie) || !path.startsWith(this.base))
      return refused(403, 'This page is open to the browser that used the address which `holdfast browse` printed.');
    if (!isSameSite(request)) return refused(403, 'Another site asked for this.');
    if (request.method === 'POST' && origin !== `http://${host}`) return refused(403, 'Another site asked for this.');
    return { kind: 'in', path: path.slice(this.base.length), query };
  }
}

const refused = (status: number, why: string): Admission => ({ kind: 'refused', status, why });
