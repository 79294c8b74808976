/**
 * The server of the page: on loopback, for one browser, reading only. Nothing that comes from the state is ever sent as something that a browser runs:
 * pages hold it as text, downloads are attachments, and pictures are of four kinds that are none but pictures.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Clock, Random } from '../../clock.ts';
import type { FileEntry } from '../../entry.ts';
import { HoldfastError, isHoldfastError } from '../../errors.ts';
import type { Look, SeenSnapshot } from '../../operations/looking/open-look.ts';
import { tarOf } from '../../operations/looking/tar-stream.ts';
import { escapeForDisplay, rawForDisplay, rawFromText, rawToText, ROOT, type RawPath } from '../../raw-path.ts';
import { listen, plain, send, setHeaders } from '../web.ts';
import { rawValue } from './address.ts';
import { SCRIPT, STYLE } from './assets.ts';
import { diffPage, linesPage } from './diff-pages.ts';
import { BrowserGate } from './gate.ts';
import { html } from './html.ts';
import { layout, type Page } from './layout.ts';
import { filePage, findPage, snapshotsPage, treePage, versionsPage } from './pages.ts';
import { imageType, PREVIEW_IMAGE_MAX_BYTES } from './preview.ts';

export interface BrowseOptions {
  /** 0: any that is free. */
  port: number;
  idleMs: number;
  clock: Clock;
  random: Random;
  signal?: AbortSignal | undefined;
}

export type BrowseEnd = 'quit' | 'idle' | 'interrupted';

export interface Browse {
  /** Works once. */
  url: string;
  port: number;
  /** Resolves when nothing is served any more. */
  ended: Promise<BrowseEnd>;
}

const PICTURES = "img-src 'self' data:";

/** @throws `io` when the port is taken */
export async function startBrowse(look: Look, options: BrowseOptions): Promise<Browse> {
  const { clock, idleMs, signal } = options;
  const stop = new AbortController();
  let end!: (how: BrowseEnd) => void;
  const ending = new Promise<BrowseEnd>((resolve) => (end = resolve));
  let lastMs = clock.monotonic();
  let active = 0;
  const server = createServer({ maxHeaderSize: 32 * 1024 }, (request, response) => {
    active++;
    lastMs = clock.monotonic();
    response.once('close', () => {
      active--;
      lastMs = clock.monotonic();
    });
    void site.answer(request, response);
  });
  const hint = 'Give another --port, or leave it out for any that is free.';
  const port = await listen(server, { host: '127.0.0.1', port: options.port }, hint);
  const site = new Site(look, new BrowserGate(options.random, port), clock, () => end('quit'));
  const interrupt = () => end('interrupted');
  if (signal?.aborted) interrupt();
  signal?.addEventListener('abort', interrupt, { once: true });

  const idle = async (): Promise<void> => {
    for (;;) {
      const leftMs = lastMs + idleMs - clock.monotonic();
      if (active === 0 && leftMs <= 0) return end('idle');
      await clock.sleep(active > 0 ? idleMs : leftMs, stop.signal);
    }
  };
  idle().catch(() => undefined); // stopped
  const ended = ending.then(async (how) => {
    stop.abort();
    signal?.removeEventListener('abort', interrupt);
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
    return how;
  });
  return { url: site.gate.entrance, port, ended };
}

class Site {
  readonly gate: BrowserGate;
  readonly #look: Look;
  readonly #clock: Clock;
  readonly #quit: () => void;

  constructor(look: Look, gate: BrowserGate, clock: Clock, quit: () => void) {
    this.#look = look;
    this.gate = gate;
    this.#clock = clock;
    this.#quit = quit;
  }

  /** Never rejects. */
  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    setHeaders(response, PICTURES);
    request.resume();
    const admission = this.gate.admit(request);
    switch (admission.kind) {
      case 'refused':
        return plain(response, admission.status, admission.why);
      case 'enter': {
        // Not a redirect: after one, a browser that came from another page would not send a strict cookie.
        const onward = html`<!doctype html>
          <html lang="en">
            <meta charset="utf-8" /><title>holdfast</title
            ><meta http-equiv="refresh" content="0;url=${this.gate.base}" />
            <p><a href="${this.gate.base}">Go on</a></p>
          </html>`;
        response.setHeader('Set-Cookie', admission.cookie);
        return send(response, 200, 'text/html; charset=utf-8', onward.text);
      }
      case 'in':
    }
    const { path, query } = admission;
    try {
      if (path === 'quit' && request.method === 'POST') {
        response.setHeader('Connection', 'close');
        plain(response, 200, 'holdfast browse has ended. You can close this tab.');
        response.once('close', this.#quit);
        return;
      }
      if (request.method !== 'GET' && request.method !== 'HEAD')
        return plain(response, 405, 'This page is for reading.');
      await this.#get(path, query, response);
    } catch (error) {
      if (response.headersSent)
        response.destroy(); // what was sent must not pass for the whole
      else this.#tell(error, response);
    }
  }

  async #get(path: string, query: string, response: ServerResponse): Promise<void> {
    const look = this.#look;
    const at = rawValue(query, 'p');
    const snapshot = (key: string) => look.snapshot(rawValue(query, key));
    const skip = Math.max(0, Math.trunc(Number(rawValue(query, 'skip')) || 0));
    const page = async (made: Page | Promise<Page>) =>
      send(response, 200, 'text/html; charset=utf-8', layout(await made, look.agent));
    switch (path) {
      case '':
        await look.refresh();
        return page(snapshotsPage(look, this.#clock.now(), skip));
      case 'tree':
        return page(treePage(look, snapshot('s'), at, skip));
      case 'file':
        return page(filePage(look, snapshot('s'), at));
      case 'find': {
        const among = rawValue(query, 's') === '' ? 'all' : snapshot('s');
        const text = (new URLSearchParams(query).get('q') ?? '').slice(0, 500);
        return page(findPage(look, text, among));
      }
      case 'versions':
        return page(versionsPage(look, at, rawValue(query, 's') === '' ? undefined : snapshot('s')));
      case 'diff':
        return page(diffPage(look, snapshot('a'), snapshot('b')));
      case 'lines':
        return page(linesPage(look, at, snapshot('a'), snapshot('b')));
      case 'image':
        return this.#image(snapshot('s'), at, response);
      case 'download':
        return this.#download(snapshot('s'), at, response);
      case 'style.css':
        return send(response, 200, 'text/css; charset=utf-8', STYLE);
      case 'script.js':
        return send(response, 200, 'text/javascript; charset=utf-8', SCRIPT);
      default:
        throw new HoldfastError('not_found', 'there is no such page', { hint: 'Go back to the snapshots.' });
    }
  }

  async #image(snapshot: SeenSnapshot, path: RawPath, response: ServerResponse): Promise<void> {
    const entry = (await this.#look.tree(snapshot)).require(path);
    const bytes = entry.type === 'file' ? await this.#look.beginning(entry, PREVIEW_IMAGE_MAX_BYTES) : Buffer.alloc(0);
    const type = entry.type === 'file' ? imageType(bytes, entry.size) : undefined;
    if (type === undefined) throw new HoldfastError('usage', 'this is no picture that can be shown');
    response.setHeader('Content-Security-Policy', "default-src 'none'; sandbox");
    send(response, 200, type, bytes);
  }

  async #download(snapshot: SeenSnapshot, path: RawPath, response: ServerResponse): Promise<void> {
    const tree = await this.#look.tree(snapshot);
    const entry = tree.require(path);
    if (entry.type === 'symlink') throw new HoldfastError('usage', 'a link has nothing to download');
    const last = path.slice(path.lastIndexOf('/') + 1) as RawPath;
    const files = entry.type === 'file' ? [entry] : [...tree.below(path)].filter((one) => one.type === 'file');
    for (const file of files) this.#look.checkIsThere(file);
    const name = path === ROOT ? `${this.#look.agent}-${snapshot.id.slice(0, 8)}` : rawForDisplay(last);
    const content = (file: FileEntry) => this.#look.content(file);
    const pieces = await begun(
      entry.type === 'file' ? content(entry) : tarOf(tree.below(path), { top: path, name: rawFromText(name), content }),
    );
    response.setHeader('Content-Security-Policy', "default-src 'none'; sandbox");
    response.setHeader('Content-Type', 'application/octet-stream');
    response.setHeader('Content-Disposition', attachment(entry.type === 'file' ? name : `${name}.tar`));
    if (entry.type === 'file') response.setHeader('Content-Length', entry.size);
    response.flushHeaders();
    await pipeline(pieces, response);
  }

  #tell(error: unknown, response: ServerResponse): void {
    const known = isHoldfastError(error) ? error : undefined;
    const status = known && ['not_found', 'usage'].includes(known.code) ? 404 : 500;
    const what = known?.message ?? 'an internal error';
    const body = html`<h1>This cannot be shown</h1>
      <p class="warn">${escapeForDisplay(what)}</p>
      ${known?.hint !== undefined && html`<p>${known.hint}</p>`}
      <p><a href="./">Back to the snapshots</a></p>`;
    send(response, status, 'text/html; charset=utf-8', layout({ title: 'Error', body }, this.#look.agent));
  }
}

/** The same pieces, of which the first is there: what fails at once can still be told. */
async function begun(pieces: AsyncGenerator<Uint8Array>): Promise<AsyncGenerator<Uint8Array>> {
  const first = await pieces.next();
  return (async function* () {
    if (first.done !== true) yield first.value.slice();
    // A piece is the reader's again when the next is asked for, and the socket may still hold it then.
    for await (const piece of pieces) yield piece.slice();
  })();
}

/** A name that names a file in the folder of downloads and nothing else, whatever the browser. */
export function attachment(name: string): string {
  const safe = name
    .replace(/[\x00-\x1f\x7f"\\/:*?<>|]/g, '_')
    .replace(/^[. ]+|[. ]+$/g, (dots) => '_'.repeat(dots.length));
  const ascii = safe.replace(/[^\x20-\x7e]|%/g, '_');
  const encoded = encodeURIComponent(rawToText(rawFromText(safe)) ?? ascii).replace(
    /['()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16)}`,
  );
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`;
}
