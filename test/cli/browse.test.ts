/** The page of `browse`: who may see it, what it sends, and that nothing in the state can make a browser do anything. */
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startBrowse, attachment } from '../../src/cli/browse/server.ts';
import { hexDump, visible } from '../../src/cli/browse/preview.ts';
import { annotateSnapshot } from '../../src/operations/annotate.ts';
import { openLook, type Look } from '../../src/operations/looking/open-look.ts';
import { HoldfastError } from '../../src/errors.ts';
import type { RawPath } from '../../src/raw-path.ts';
import { failure, seededRandom } from '../crypto/support.ts';
import { contentOf, makeAgent, packKeysOf, storeOf, type TestAgent } from '../operations/support.ts';
import { contentDifference, inventory, removeFolder, temporaryFolder, under } from '../state/trees.ts';
import { ask, withPageOf, type Page } from './browse-server.ts';
import { agentHome, initArgs } from './agent-home.ts';
import { leakSearch } from './leak-search.ts';
import { noChromium, openChromium, type Tab } from './chromium.ts';

const HOSTILE = '<img src=x onerror=alert(1)>.html';
const SCRIPT = '<script>alert(2)</script>\n</pre><svg onload=alert(3)>\x1b[2Jgone\u202etxt\n';
const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
  'base64',
);

let agent: TestAgent;
let look: Look;
const ids: string[] = [];
const put = (name: string, content: string | Uint8Array) => writeFileSync(join(agent.state, name), content);

beforeAll(async () => {
  agent = await makeAgent({
    fill: (state) => {
      mkdirSync(join(state, 'memory', 'deep', 'empty'), { recursive: true });
      writeFileSync(join(state, 'memory', 'notes.md'), 'one\ntwo\nthree\n');
      writeFileSync(join(state, 'memory', 'deep', 'big.bin'), seededRandom('browse').bytes(700_000));
      writeFileSync(join(state, HOSTILE), SCRIPT);
      writeFileSync(join(state, 'picture.png'), PNG);
      writeFileSync(join(state, 'vector.svg'), '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(4)"/>');
      writeFileSync(join(state, 'lost.txt'), 'deleted later\n');
      writeFileSync(under(state, 'not utf-8 \xff\xfe'), 'odd');
      writeFileSync(join(state, 'memory', 'n'.repeat(200)), 'long name');
      symlinkSync('/etc/passwd', join(state, 'memory', 'link'));
      utimesSync(join(state, 'memory', 'notes.md'), 1_700_000_000.25, 1_700_000_000.25);
    },
  });
  ids.push((await agent.backup({ tags: ['first "tag"<b>'] })).snapshot.id);
  put('memory/notes.md', 'one\n2\nthree\n');
  ids.push((await agent.backup()).snapshot.id);
  rmSync(join(agent.state, 'lost.txt'));
  renameSync(join(agent.state, 'picture.png'), join(agent.state, 'memory', 'picture.png'));
  ids.push((await agent.backup()).snapshot.id);
  look = await openLook({ backends: agent.addresses, secret: { kind: 'root', root: agent.root } }, agent.seams());
});
afterAll(async () => {
  await look[Symbol.asyncDispose]();
  await agent[Symbol.asyncDispose]();
});

const withPage = (test: (page: Page) => Promise<void>) => withPageOf(look, test);
const at = (page: string, snapshot: number, path: string) => `${page}?s=${ids[snapshot]}&p=${encodeURIComponent(path)}`;

describe('who may see it', () => {
  it('the address works once, and gives a cookie that scripts and other sites cannot use', () =>
    withPage(async ({ browse, enter }) => {
      const token = browse.url.slice(browse.url.indexOf('/?'));
      expect((await ask(browse.port, '/?token=wrong')).status).toBe(403);
      expect((await ask(browse.port, token, { method: 'HEAD' })).status).toBe(403);
      const { base, cookie, get } = await enter();
      expect(base).toMatch(/^\/[\w-]{43}\/$/);
      expect((await get('')).text).toContain('Snapshots of ada');
      const again = await ask(browse.port, token);
      expect(again.status).toBe(403);
      expect(again.headers['set-cookie']).toBeUndefined();
      expect(again.text).not.toContain(base);
      expect(cookie).toMatch(/^holdfast=[\w-]{43}$/);
    }));

  it('the cookie is HttpOnly, strict and bound to the path', () =>
    withPage(async ({ browse }) => {
      const { headers } = await ask(browse.port, browse.url.slice(browse.url.indexOf('/?')));
      expect(headers['set-cookie']).toEqual([
        expect.stringMatching(/^holdfast=[\w-]+; Path=\/[\w-]+\/; HttpOnly; SameSite=Strict$/) as string,
      ]);
    }));

  it('without the cookie nothing is to be had, not even the style', () =>
    withPage(async ({ browse, enter }) => {
      const { base } = await enter();
      for (const path of ['', 'style.css', 'script.js', at('tree', 0, ''), at('download', 0, 'lost.txt')]) {
        for (const Cookie of ['', 'holdfast=', `holdfast=${'A'.repeat(43)}`]) {
          const answer = await ask(browse.port, base + path, { headers: { Cookie } });
          expect(answer.status, path).toBe(403);
          expect(answer.text, path).not.toContain('ada');
        }
      }
    }));

  it('a name that points here, and requests that other sites cause, are refused', () =>
    withPage(async ({ browse, enter }) => {
      const token = browse.url.slice(browse.url.indexOf('/?'));
      expect((await ask(browse.port, token, { host: `evil.example:${browse.port}` })).status).toBe(421);
      const { get } = await enter(); // the token is still good
      expect((await get('', { host: 'evil.example' })).status).toBe(421);
      expect((await get('', { host: '127.0.0.1' })).status).toBe(421);
      expect((await get('', { host: `localhost:${browse.port}` })).status).toBe(200);
      for (const site of ['cross-site', 'same-site'])
        expect((await get('', { headers: { 'Sec-Fetch-Site': site } })).status).toBe(403);
      expect((await get('', { headers: { Origin: 'http://evil.example' } })).headers).not.toHaveProperty(
        'access-control-allow-origin',
      );
    }));

  it('changes nothing: whatever is no GET is refused, and Quit only from the page itself', () =>
    withPage(async ({ browse, enter }) => {
      const { get } = await enter();
      for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
        const headers = { Origin: `http://127.0.0.1:${browse.port}` };
        expect((await get('', { method, headers })).status).toBe(405);
      }
      expect((await get('quit')).status).toBe(404);
      expect((await get('quit', { method: 'POST' })).status).toBe(403);
      expect((await get('quit', { method: 'POST', headers: { Origin: 'http://127.0.0.1:1' } })).status).toBe(403);
      expect((await get('')).status).toBe(200);
    }));

  it('every answer says how little a browser may do with it', () =>
    withPage(async ({ enter }) => {
      const { get } = await enter();
      for (const path of ['', 'style.css', at('file', 0, HOSTILE), at('download', 0, HOSTILE), 'nothing-there']) {
        const { headers } = await get(path);
        expect(headers['content-security-policy'], path).toMatch(/^default-src 'none'/);
        expect(headers['content-security-policy'], path).not.toContain('unsafe');
        expect(headers, path).toMatchObject({
          'cache-control': 'no-store',
          'x-content-type-options': 'nosniff',
          'x-frame-options': 'DENY',
          'cross-origin-resource-policy': 'same-origin',
        });
      }
    }));
});

describe('when it ends', () => {
  it('after the time without a request, and each request begins it anew', () =>
    withPage(async ({ browse, clock, enter }) => {
      let how: string | undefined;
      void browse.ended.then((end) => (how = end));
      const { get } = await enter();
      await clock.advance(59_000);
      await get('');
      await clock.advance(59_000);
      expect(how).toBeUndefined();
      await clock.advance(2_000);
      expect(await browse.ended).toBe('idle');
      await expect(get('')).rejects.toThrow('ECONNREFUSED');
    }));

  it('by Quit, after the answer to it', () =>
    withPage(async ({ browse, enter }) => {
      const { get } = await enter();
      const headers = { Origin: `http://127.0.0.1:${browse.port}` };
      expect((await get('quit', { method: 'POST', headers })).text).toContain('has ended');
      expect(await browse.ended).toBe('quit');
    }));

  it('by a signal', () =>
    withPage(async ({ browse, stop }) => {
      stop.abort();
      expect(await browse.ended).toBe('interrupted');
    }));

  it('a port that is taken is an error that says so', () =>
    withPage(async ({ browse, clock }) => {
      const random = seededRandom('port');
      const error = await failure(() => startBrowse(look, { port: browse.port, idleMs: 60_000, clock, random }), 'io');
      expect(error).toBeInstanceOf(HoldfastError);
      expect(error.message).toContain('is taken');
    }));
});

describe('what it shows', () => {
  it('snapshots with their tags, each with its files and with what changed', () =>
    withPage(async ({ enter }) => {
      const { get } = await enter();
      const { text } = await get('');
      expect(text).toContain('3 snapshots');
      expect(text).toContain('first &#34;tag&#34;&#60;b&#62;');
      for (const id of ids) expect(text).toContain(`tree?s=${id}`);
      expect(text).toContain(`diff?a=${ids[0]}&#38;b=${ids[1]}`);
    }));

  it('a snapshot that is made meanwhile', async () => {
    await withPage(async ({ enter }) => {
      const { get } = await enter();
      put('later', 'later');
      ids.push((await agent.backup()).snapshot.id);
      expect((await get('')).text).toContain('4 snapshots');
      expect((await get(at('file', 3, 'later'))).status).toBe(200);
    });
  });

  it('files: text escaped with control characters made visible, bytes of what is none, pictures as pictures', () =>
    withPage(async ({ enter }) => {
      const { get } = await enter();
      const { text } = await get(at('file', 0, HOSTILE));
      expect(text).toContain('&#60;script&#62;alert(2)&#60;/script&#62;');
      expect(text).not.toMatch(/<script>|<svg onload|<img src=x/);
      expect(text).toContain('\u241b[2Jgone\u27e8202E\u27e9txt');
      expect((await get(at('file', 0, 'memory/deep/big.bin'))).text).toContain('00000000  ');
      expect((await get(at('file', 0, 'picture.png'))).text).toContain('<img');
      const picture = await get(at('image', 0, 'picture.png'));
      expect(picture.headers['content-type']).toBe('image/png');
      expect(picture.headers['content-security-policy']).toContain('sandbox');
      expect(picture.body).toEqual(PNG);
      for (const path of ['vector.svg', HOSTILE]) expect((await get(at('image', 0, path))).status).toBe(404);
      expect((await get(at('file', 0, 'vector.svg'))).text).toContain('onload=&#34;alert(4)&#34;');
    }));

  it('nothing outside the snapshot, however the path is written', () =>
    withPage(async ({ enter }) => {
      const { get } = await enter();
      for (const path of [
        '../../etc/passwd',
        '/etc/passwd',
        'memory/../lost.txt',
        'memory/link/x',
        'a\0b',
        '.',
        'memory/',
      ])
        for (const page of ['file', 'tree', 'download', 'image'])
          expect((await get(at(page, 0, path))).status).toBe(404);
      for (const raw of [
        '../../../etc/passwd',
        '%2e%2e/%2e%2e/etc/passwd',
        'tree?s=latest&p=',
        'tree?p=',
        'file?s=%zz',
      ])
        expect((await get(raw)).status, raw).toBeGreaterThanOrEqual(403);
      const link = await get(at('file', 0, 'memory/link'));
      expect(link.text).toContain('/etc/passwd');
      expect(link.text).not.toContain('root:');
      expect((await get(at('download', 0, 'memory/link'))).status).toBe(404);
    }));

  it('a path that is no text, as its bytes', () =>
    withPage(async ({ enter }) => {
      const { get } = await enter();
      const { text } = await get(at('tree', 0, ''));
      const [, href = ''] = /<a href="(file\?[^"]+%FF%FE)"/.exec(text) ?? [];
      expect((await get(href.replaceAll('&#38;', '&'))).text).toContain('odd');
    }));

  it('the versions of a file, and in which of the snapshots it is not', () =>
    withPage(async ({ enter }) => {
      const { get } = await enter();
      const { text } = await get('versions?p=memory/notes.md');
      expect(text.match(/>download</g)).toHaveLength(2);
      expect(text).toContain(`lines?p=memory/notes.md&#38;a=${ids[0]}`);
      expect((await get('versions?p=lost.txt')).text).toContain('not there');
      expect((await get('versions?p=never')).text).toContain('None of these snapshots has it');
    }));

  it('a file by its name, also one that is no longer there', () =>
    withPage(async ({ enter }) => {
      const { get } = await enter();
      const { text } = await get('find?q=LOST');
      expect(text).toContain('1 path');
      expect(text).toContain('no longer there');
      expect(text).toContain(`file?s=${ids[1]}&#38;p=lost.txt`);
      expect((await get(`find?q=lost&s=${ids[2]}`)).text).toContain('Nothing found');
      expect((await get('find?q=memory+notes')).text).toContain('1 path');
      expect((await get('find?q=%3Cb%3E')).text).toContain('&#60;b&#62;');
    }));

  it('what changed between two snapshots, and in a file line by line', () =>
    withPage(async ({ enter }) => {
      const { get } = await enter();
      const { text } = await get(`diff?a=${ids[0]}&b=${ids[2]}`);
      expect(text).toMatch(/0 entries added, 1 removed, 1 changed, 1\s+renamed/);
      expect(text).toContain('was picture.png');
      const lines = await get(`lines?p=memory/notes.md&a=${ids[0]}&b=${ids[2]}`);
      expect(lines.text).toContain('<span class="minus">-two</span>');
      expect(lines.text).toContain('<span class="plus">+2</span>');
      expect((await get(`lines?p=never&a=${ids[0]}&b=${ids[2]}`)).status).toBe(404);
    }));
});

describe('what is not a file of the state, and what was said afterwards', () => {
  const isRoot = process.getuid?.() === 0;
  let own: TestAgent;
  let ownLook: Look;
  const made: string[] = [];
  const page = (path: (of: string[]) => string, check: (text: string, body: Buffer) => void | Promise<void>) =>
    withPageOf(ownLook, async ({ enter }) => {
      const { text, body } = await (await enter()).get(path(made));
      await check(text, body);
    });

  beforeAll(async () => {
    own = await makeAgent({
      seed: 'marks',
      fill: (state) => {
        mkdirSync(join(state, 'odd'));
        execFileSync('mkfifo', [join(state, 'odd', 'pipe')]);
        if (isRoot) {
          execFileSync('mknod', [join(state, 'odd', 'null'), 'c', '1', '3']);
          execFileSync('mknod', [join(state, 'odd', 'disk'), 'b', '259', '70000']);
        }
        mkdirSync(join(state, 'plain'));
        writeFileSync(join(state, 'plain', 'note.md'), 'note');
        writeFileSync(join(state, '.env'), 'TOKEN=hidden-value');
      },
    });
    const secret = { patterns: ['.env'], handling: 'apart' } as const;
    const state = { root: own.state, exclude: [], keepOut: [], special: 'keep', secret } as const;
    const { addresses: backends, signer, folders } = own;
    const say = (over: object) =>
      annotateSnapshot(
        { backends, access: own.access.writer, signer, folders, host: 'h', snapshot: 'latest', ...over },
        own.seams(),
      );
    made.push((await own.backup({ state, tags: ['old'] })).snapshot.id);
    await say({ tags: { add: ['good'], remove: ['old'] }, note: 'before <the> upgrade' });
    rmSync(join(own.state, 'plain', 'note.md'));
    made.push((await own.backup({ state })).snapshot.id);
    const open = { backends: own.addresses, secret: { kind: 'root', root: own.root } } as const;
    ownLook = await openLook(open, own.seams());
  });
  afterAll(async () => {
    await ownLook[Symbol.asyncDispose]();
    await own[Symbol.asyncDispose]();
  });

  it('tags and notes are shown as they are now', () =>
    page(
      () => '',
      (text) => {
        expect(text).toContain('<span class="mark">good</span>');
        expect(text).not.toContain('<span class="mark">old</span>');
        expect(text).toContain('before &#60;the&#62; upgrade');
      },
    ));

  it('how many secrets are kept apart is told, and nothing of them shown', async () => {
    for (const path of ['find?q=.env', `tree?s=${made[1]}&p=`]) {
      await page(
        () => path,
        (text) => {
          expect(text).toMatch(/1 secret file kept apart, not shown here:/);
          expect(text).toContain(`holdfast ls ${made[1]?.slice(0, 8)} --secrets`);
          expect(text).not.toMatch(/hidden-value|<a[^>]*\.env/);
        },
      );
    }
  });

  it('a comparison says that it leaves the secrets out', () =>
    page(
      ([a, b]) => `diff?a=${a}&b=${b}`,
      (text) => expect(text).toMatch(/\(1 and 1\) are not compared here: <code>holdfast diff \w{8} \w{8} --secrets/),
    ));

  it('a FIFO and devices are in the tar as what they are', () =>
    page(
      ([first]) => `download?s=${first}&p=odd`,
      (_text, body) => {
        const listing = execFileSync('tar', ['-tv'], { input: body, encoding: 'utf8' });
        expect(listing).toMatch(/^p.* odd\/pipe$/m);
        if (!isRoot) return;
        expect(listing).toMatch(/^c.* 1,3 .* odd\/null$/m);
        expect(listing).toMatch(/^b.* 259,70000 .* odd\/disk$/m);
      },
    ));

  it('a suspicion is marked until it is acknowledged, which the page notices', async () => {
    await page(
      () => '',
      (text) => expect(text).toMatch(/<span class="mark warn" title="[^"]+">suspicious: empty<\/span>/),
    );
    const { addresses: backends, signer, folders } = own;
    const access = own.access.writer;
    const options = { backends, access, signer, folders, host: 'h', snapshot: 'latest', acknowledged: true };
    await annotateSnapshot(options, own.seams());
    await page(
      () => '',
      (text) => {
        expect(text).toContain('>empty (acknowledged)</span>');
        expect(text).not.toContain('suspicious:');
      },
    );
  });

  it('a folder with extended attributes says that its tar is without them', async () => {
    const says = (text: string) => text.includes('without the extended attributes');
    await page(
      ([first]) => `tree?s=${first}&p=plain`,
      (text) => expect(says(text)).toBe(false),
    );
    const snapshot = ownLook.snapshot(made[0] ?? '');
    const file = (await ownLook.tree(snapshot)).require('plain/note.md' as RawPath);
    file.xattrs = { 'user.origin': new Uint8Array(1) };
    await page(
      ([first]) => `tree?s=${first}&p=plain`,
      (text) => expect(says(text)).toBe(true),
    );
  });
});

describe('downloads', () => {
  it('a file is what it was, under a name that is only a name', () =>
    withPage(async ({ enter }) => {
      const { get } = await enter();
      const { body, headers } = await get(at('download', 0, 'memory/deep/big.bin'));
      expect(body.equals(readFileSync(join(agent.state, 'memory/deep/big.bin')))).toBe(true);
      expect(headers).toMatchObject({
        'content-type': 'application/octet-stream',
        'content-disposition': `attachment; filename="big.bin"; filename*=UTF-8''big.bin`,
      });
      const html = await get(at('download', 0, HOSTILE));
      expect(html.headers['content-type']).toBe('application/octet-stream');
      expect(html.headers['content-disposition']).toContain('filename="_img src=x onerror=alert(1)_.html"');
    }));

  it.each([
    ['../../.bashrc', 'filename="___.._.bashrc"'],
    ['a"; x="b', 'filename="a_; x=_b"'],
    ['line\r\nX-Evil: 1', 'filename="line__X-Evil_ 1"'],
    ['ünï.txt', "filename*=UTF-8''%C3%BCn%C3%AF.txt"],
  ])('the name %j stays one', (name, expected) => {
    const header = attachment(name);
    expect(header).toContain(expected);
    expect(header).toMatch(/^[\x20-\x7e]+$/);
  });

  it('a folder is a tar with everything as it was: names of any bytes, times, links', async () => {
    const target = temporaryFolder();
    try {
      await withPage(async ({ enter }) => {
        const { get } = await enter();
        const { body, headers } = await get(at('download', 3, ''));
        expect(headers['content-disposition']).toContain(`filename="ada-${ids[3]?.slice(0, 8)}.tar"`);
        execFileSync('tar', ['-xp', '-C', target], { input: body, stdio: ['pipe', 'inherit', 'ignore'] });
      });
      const [top = ''] = readdirSync(target);
      expect(inventory(join(target, top))).toEqual(inventory(agent.state));
      expect(contentDifference(join(target, top), agent.state)).toBe('');
    } finally {
      removeFolder(target);
    }
  });

  it('one that turns out damaged is broken off, not passed off as the whole', async () => {
    const packs = await packKeysOf(agent, 'data');
    const whole = new Map<string, Uint8Array>();
    for (const name of ['a', 'b']) {
      const { inner } = storeOf(agent, name);
      for (const [key, bytes] of await contentOf(inner)) {
        if (!packs.includes(key)) continue;
        whole.set(`${name} ${key}`, bytes);
        await inner.delete(key);
        await inner.put(key, Uint8Array.from(bytes).fill(7, 400));
      }
    }
    try {
      await withPage(async ({ enter }) => {
        const { get } = await enter();
        const file = await get(at('file', 0, 'memory/deep/big.bin'));
        expect([file.status, file.text.includes('This cannot be shown')]).toEqual([500, true]);
        const download = await get(at('download', 0, 'memory/deep/big.bin'));
        expect(download.status).toBe(500);
        expect(download.headers).not.toHaveProperty('content-disposition');
        await expect(get(at('download', 0, 'memory'))).rejects.toThrow('aborted');
      });
    } finally {
      for (const [place, bytes] of whole) {
        const [name = '', key = ''] = place.split(' ');
        await storeOf(agent, name).inner.delete(key);
        await storeOf(agent, name).inner.put(key, bytes);
      }
    }
  });
});

it('control characters and turns of direction are seen, and bytes are shown as hexdump shows them', () => {
  expect(visible('a\x1b[31m\u202eb\tc\r\nd')).toBe('a\u241b[31m\u27e8202E\u27e9b\tc\nd');
  expect(hexDump(Buffer.from('0123456789abcdef\xff', 'latin1'))).toBe(
    '00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n' +
      `00000010  ff ${' '.repeat(45)} .`,
  );
});

it('the command tells the address in one line, and nowhere anything of the words', async () => {
  const folder = temporaryFolder();
  try {
    const home = agentHome(folder, { warm: true });
    mkdirSync(home.at('state'));
    writeFileSync(home.at('state', 'file'), 'content');
    await home.json(0, ...initArgs((name) => home.at(name)), '--words-file', 'words.txt');
    await home.json(0, 'backup');
    const text = readFileSync(home.at('words.txt'), 'utf8').replaceAll(/^#.*$/gm, '');
    const search = leakSearch({ phrases: { words: text.match(/[a-z]+/g) ?? [] }, keys: {}, texts: {} }, '');
    const pages: string[] = [];
    const visit = async (line: string): Promise<void> => {
      const { url, port, ...rest } = JSON.parse(line) as { url: string; port: number };
      expect(rest).toEqual({});
      const entered = await ask(port, url.slice(url.indexOf('/?')));
      const base = /url=([^"]+)"/.exec(entered.text)?.[1] ?? '';
      const headers = { Cookie: entered.headers['set-cookie']?.[0]?.split(';')[0] ?? '' };
      const first = await ask(port, base, { headers });
      const tree = /href="(tree\?[^"]+)"/.exec(first.text)?.[1] ?? '';
      const second = await ask(port, base + tree.replaceAll('&#38;', '&'), { headers });
      expect(second.text).toContain('>file</a');
      pages.push(entered.text, first.text, second.text);
      const origin = `http://127.0.0.1:${port}`;
      await ask(port, `${base}quit`, { method: 'POST', headers: { ...headers, Origin: origin } });
    };
    let visited: Promise<void> | undefined;
    const ended = await home.holdfastWith(
      { meanwhile: (child) => child.stdout?.once('data', (line: string) => void (visited = visit(line))) },
      ...['browse', '--json', '--words-file', 'words.txt'],
    );
    await visited;
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout.split('\n')).toHaveLength(2);
    expect(pages).toHaveLength(3);
    for (const page of [...pages, ended.stdout]) expect(search(Buffer.from(page))).toEqual([]);
    expect((await home.refused(12, 'browse')).code).toBe('missing_key');
  } finally {
    removeFolder(folder);
  }
});

describe.skipIf(noChromium)('in a browser', () => {
  let tab: Tab & AsyncDisposable;
  beforeAll(async () => {
    tab = await openChromium();
  });
  afterAll(() => tab[Symbol.asyncDispose]());
  const click = (label: string) =>
    tab.leadsOn(() =>
      tab.evaluate(
        `[...document.querySelectorAll('a, button')].find((one) => one.textContent.trim().startsWith(${JSON.stringify(label)})).click()`,
      ),
    );

  it('one finds the deleted file by keyboard alone, from the address to its content', () =>
    withPage(async ({ browse }) => {
      await tab.goto(browse.url, 2);
      expect(await tab.evaluate('location.search')).toBe('');
      expect(await tab.evaluate('document.cookie')).toBe('');
      await tab.press('Tab');
      expect(await tab.evaluate('document.activeElement.textContent')).toBe('To the content');
      await tab.press('/');
      await tab.type('lost');
      await tab.leadsOn(() => tab.press('Enter'));
      expect(await tab.text()).toContain('no longer there');
      await tab.evaluate(`document.getElementById('main').focus()`);
      await tab.press('Tab');
      await tab.leadsOn(() => tab.press('Enter'));
      expect(await tab.text()).toContain('deleted later');
    }));

  it('names and contents that are HTML do nothing, the policy is never broken, nothing is asked of anybody else', () =>
    withPage(async ({ browse }) => {
      tab.complaints.length = tab.requests.length = tab.dialogs.length = 0;
      await tab.goto(browse.url, 2);
      const home = await tab.evaluate<string>('location.href');
      for (const path of [
        at('tree', 0, ''),
        at('file', 0, HOSTILE),
        at('file', 0, 'vector.svg'),
        at('file', 0, 'picture.png'),
        at('versions', 0, HOSTILE).replace(/s=\w+&/, ''),
        `lines?p=${encodeURIComponent(HOSTILE)}&a=${ids[0]}&b=${ids[2]}`,
        'find?q=%3Cimg',
      ]) {
        await tab.goto(home + path);
        expect(
          await tab.evaluate(`document.querySelectorAll('main script, main iframe, [onerror], [onload]').length`),
        ).toBe(0);
      }
      await tab.goto(`${home}${at('file', 0, 'picture.png')}`);
      expect(await tab.evaluate(`document.querySelector('main img').naturalWidth`)).toBe(1);
      expect(tab.dialogs).toEqual([]);
      expect(tab.complaints).toEqual([]);
      expect(tab.requests.filter((url) => !url.startsWith(new URL(home).origin) && !url.startsWith('data:'))).toEqual(
        [],
      );
    }));

  it('no page is wider than a small screen, and each has its heading and names for what can be operated', () =>
    withPage(async ({ browse }) => {
      await tab.command('Emulation.setDeviceMetricsOverride', {
        width: 400,
        height: 800,
        deviceScaleFactor: 1,
        mobile: false,
      });
      await tab.goto(browse.url, 2);
      const home = await tab.evaluate<string>('location.href');
      const pages = [
        '',
        at('tree', 0, 'memory'),
        at('file', 0, 'memory/deep/big.bin'),
        'versions?p=memory/notes.md',
        'find?q=m',
        `diff?a=${ids[0]}&b=${ids[2]}`,
      ];
      for (const path of pages) {
        await tab.goto(home + path);
        const seen = await tab.evaluate(`({
          overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
          headings: document.querySelectorAll('h1').length,
          nameless: [...document.querySelectorAll('a, button, input, select, img')].filter((one) =>
            !(one.textContent.trim() || one.getAttribute('aria-label') || one.alt || one.labels?.length)).length,
        })`);
        expect(seen, path).toEqual({ overflow: 0, headings: 1, nameless: 0 });
      }
      await tab.command('Emulation.clearDeviceMetricsOverride');
    }));

  it('Quit ends it', () =>
    withPage(async ({ browse }) => {
      await tab.goto(browse.url, 2);
      await click('Quit');
      expect(await tab.text()).toContain('has ended');
      expect(await browse.ended).toBe('quit');
    }));
});
