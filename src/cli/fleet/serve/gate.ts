/**
 * Who may ask the server. Programs send the token as a bearer; a browser is given a cookie for it, once, by a form. Cookies are not bound to a port:
 * this one is bound to a path that only those learn who have the token, so that another server of this machine is not sent it.
 */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { Clock, Random } from '../../../clock.ts';
import { equalBytes, hkdf, sha256, sha256Hex } from '../../../crypto/hash.ts';
import { cookiesOf, freshSecret, isSame, isSameOrigin, isSameSite, pageCookie } from '../../web.ts';

const COOKIE = 'holdfast-fleet';
const PATH_BYTES = 16;
const SESSION_MS = 12 * 3_600_000;
const SESSIONS_MAX = 64;

/** Who asks. */
export type Visitor =
  /** A program that has the token. */
  | { kind: 'token' }
  /** A browser. `form`: what each of its forms must hold. */
  | { kind: 'session'; form: string };

export class TokenGate {
  /** The path of all pages for browsers that are logged in, with a slash at both ends; the same after a restart. */
  readonly base: string;
  readonly #token: Uint8Array;
  readonly #hosts: ReadonlySet<string>;
  readonly #clock: Clock;
  readonly #random: Random;
  /** By the hash of the cookie: when it ends. */
  readonly #sessions = new Map<string, number>();

  constructor({
    token,
    hosts,
    clock,
    random,
  }: {
    token: string;
    hosts: readonly string[];
    clock: Clock;
    random: Random;
  }) {
    this.#token = sha256(Buffer.from(token));
    this.#hosts = new Set(['localhost', ...hosts]);
    this.#clock = clock;
    this.#random = random;
    const path = hkdf(Buffer.from(token), 'fleet-serve/path', PATH_BYTES);
    this.base = `/${Buffer.from(path).toString('base64url')}/`;
  }

  /** That the address was asked for and not a name that somebody made point here, whose scripts would be of the same origin. */
  isHostKnown({ headers: { host = '' } }: IncomingMessage): boolean {
    const [, bracketed, bare = ''] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d{1,5})?$/.exec(host.toLowerCase()) ?? [];
    return bracketed === undefined ? isIP(bare) === 4 || this.#hosts.has(bare) : isIP(bracketed) === 6;
  }

  /** That no other site caused it. A program that is no browser says nothing of where it comes from. */
  isOwnOrigin(request: IncomingMessage): boolean {
    return isSameSite(request) && isSameOrigin(request);
  }

  visitor(request: IncomingMessage): Visitor | undefined {
    const [, bearer] = /^bearer +([\x21-\x7e]{1,1024})$/i.exec(request.headers.authorization ?? '') ?? [];
    if (bearer !== undefined) return this.#isToken(bearer) ? { kind: 'token' } : undefined;
    for (const value of cookiesOf(request, COOKIE)) {
      const endMs = this.#sessions.get(idOf(value));
      if (endMs !== undefined && this.#clock.monotonic() < endMs) return { kind: 'session', form: formSecret(value) };
    }
    return undefined;
  }

  /** @returns the header that makes a session, or undefined when it is not the token */
  login(token: string): string | undefined {
    if (!this.#isToken(token.trim())) return undefined;
    const nowMs = this.#clock.monotonic();
    for (const [id, endMs] of this.#sessions)
      if (endMs <= nowMs || this.#sessions.size >= SESSIONS_MAX) this.#sessions.delete(id);
    const value = freshSecret(this.#random);
    this.#sessions.set(idOf(value), nowMs + SESSION_MS);
    return pageCookie(COOKIE, value, this.base);
  }

  /** @returns the header that ends the session in the browser too */
  logout(request: IncomingMessage): string {
    for (const value of cookiesOf(request, COOKIE)) this.#sessions.delete(idOf(value));
    return `${pageCookie(COOKIE, '', this.base)}; Max-Age=0`;
  }

  /** That a form was made for this browser, and not by another page. */
  isOwnForm(visitor: Visitor, given: string | null): boolean {
    return visitor.kind === 'token' || isSame(given ?? '', visitor.form);
  }

  #isToken(given: string): boolean {
    return equalBytes(sha256(Buffer.from(given)), this.#token);
  }
}

const idOf = (cookie: string): string => sha256Hex(Buffer.from(cookie));
const formSecret = (cookie: string): string =>
  Buffer.from(hkdf(Buffer.from(cookie), 'fleet-serve/form', PATH_BYTES)).toString('base64url');
