/** What the servers of this program have in common: pages that run nothing but what is ours, on an address that may be taken. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Random } from '../clock.ts';
import { equalBytes, sha256 } from '../crypto/hash.ts';
import { HoldfastError, systemErrorCode } from '../errors.ts';

const SECRET_BYTES = 32;

/** Of every answer. @param more of the Content Security Policy: what may be loaded besides the page's own script and style */
export function setHeaders(response: ServerResponse, more: string): void {
  const policy = `default-src 'none'; script-src 'self'; style-src 'self'; ${more}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`;
  response.setHeader('Cache-Control', 'no-store');
  response.setHeader('Content-Security-Policy', policy);
  response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
  response.setHeader('Referrer-Policy', 'same-origin');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('X-Frame-Options', 'DENY');
}

/** Whether no other site has caused the request, by what browsers say of that. */
export function isSameSite({ headers }: IncomingMessage): boolean {
  const site = headers['sec-fetch-site'];
  return site === undefined || site === 'same-origin' || site === 'none';
}

/** That another site's page did not send it: `Origin` is what a browser says of that. A program that is no browser says nothing. */
export function isSameOrigin({ headers: { host = '', origin } }: IncomingMessage): boolean {
  return origin === undefined || origin === `http://${host}` || origin === `https://${host}`;
}

/** In a time that tells nothing about what is right. */
export const isSame = (a: string, b: string): boolean => equalBytes(sha256(Buffer.from(a)), sha256(Buffer.from(b)));

/** That nobody can guess: 256 bits. */
export const freshSecret = (random: Random): string => Buffer.from(random.bytes(SECRET_BYTES)).toString('base64url');

/** Cookies do not know ports: of a path that only those learn who may, so that another server of this machine is not sent it. */
export const pageCookie = (name: string, value: string, path: string): string =>
  `${name}=${value}; Path=${path}; HttpOnly; SameSite=Strict`;

/** All that were sent under the name. */
export function cookiesOf({ headers: { cookie = '' } }: IncomingMessage, name: string): string[] {
  const pairs = cookie.split(';').map((pair) => pair.trim().split('=', 2));
  return pairs.flatMap(([one, value = '']) => (one === name ? [value] : []));
}

/** @returns the port @throws `io` when it cannot be listened on */
export function listen(server: Server, { host, port }: { host: string; port: number }, hint: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const why = systemErrorCode(error) === 'EADDRINUSE' ? 'is taken' : 'cannot be listened on';
      reject(new HoldfastError('io', `port ${port} on ${host} ${why}`, { hint, cause: error }));
    });
    server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
  });
}

export function send(response: ServerResponse, status: number, type: string, body: string | Uint8Array): void {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': bytes.length }).end(bytes);
}

export function plain(response: ServerResponse, status: number, text: string): void {
  send(response, status, 'text/plain; charset=utf-8', `${text}\n`);
}
