import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { AGENTS, makeFixture } from '../../fixtures/agents/generate.ts';
import { sha256Hex } from '../../src/crypto/hash.ts';
import { HoldfastError } from '../../src/errors.ts';
import { rawForDisplay, rawFromText } from '../../src/raw-path.ts';
import { BUILT_IN_PROFILES } from '../../src/state/profile-names.ts';
import { classifier, detectProfile, isScaffold, loadProfile, ownLines, parseProfile } from '../../src/state/profile.ts';
import { scan } from '../../src/state/scan.ts';
import { survey } from '../../src/state/survey.ts';
import { removeFolder, temporaryFolder } from './trees.ts';

const folder = temporaryFolder();
afterAll(() => removeFolder(folder));
let made = 0;
const fresh = () => join(folder, `tree-${made++}`);

const bytes = (text: string) => Buffer.from(text);

describe.each(AGENTS)('the files of %s', (name) => {
  const root = fresh();
  using agent = makeFixture(name, root);
  const found = { state: [] as string[], secret: [] as string[], cache: [] as string[] };
  const total = { state: 0, secret: 0, cache: 0 };

  it('are recognised, and each is what it is', async () => {
    const profile = await detectProfile(root);
    expect(profile.name).toBe(agent.profile);
    const classOf = classifier(profile);
    for (const item of scan(root)) {
      if (item.kind === 'problem') throw new Error(item.warning.message);
      if (item.kind === 'folder') continue;
      const kind = classOf(item.path, false);
      found[kind].push(rawForDisplay(item.path));
      total[kind]++;
    }
    const { state, secret, cache } = agent;
    // What SQLite keeps beside a database comes and goes.
    const lasting = (paths: readonly string[]) => paths.filter((path) => !/-(wal|shm)$/.test(path)).toSorted();
    expect({ state: lasting(found.state), secret: lasting(found.secret), cache: lasting(found.cache) }).toEqual({
      state: lasting(state),
      secret: lasting(secret),
      cache: lasting(cache),
    });
  });

  it('are told apart by the scan of a backup as by the profile alone', async () => {
    const profile = await detectProfile(root);
    const scanned = { state: 0, secret: 0 };
    for (const item of scan(root, { exclude: profile.cache, secret: profile.secret }))
      if (item.kind === 'file' || item.kind === 'symlink') scanned[item.secret ? 'secret' : 'state']++;
    expect(scanned).toEqual({ state: total.state, secret: total.secret });
  });

  it('are counted as they are', async () => {
    const counted = survey(root, await detectProfile(root));
    expect([counted.state.files, counted.secret.files, counted.cache.files]).toEqual(Object.values(total));
    for (const kind of ['state', 'secret', 'cache'] as const) {
      expect(counted[kind].examples.length).toBe(
        counted[kind].files === 0 ? 0 : Math.max(1, counted[kind].examples.length),
      );
      expect(counted[kind].examples.length).toBeLessThanOrEqual(3);
      for (const example of counted[kind].examples)
        expect(
          agent[kind].some((path) => path === example || (example.endsWith('/') && path.startsWith(example))),
        ).toBe(true);
    }
  });
});

describe('an agent', () => {
  it.each([
    ['openclaw', 1, 0],
    ['openclaw-sessions', 0, 2],
    ['claude-code', 0, 2],
    ['hermes', 1, 1],
  ] as const)('%s has %i databases and %i logs in its state', async (name, databases, logs) => {
    const root = fresh();
    using _agent = makeFixture(name, root);
    const counted = survey(root, await detectProfile(root));
    expect([counted.databases.files, counted.logs.files]).toEqual([databases, logs]);
  });

  it('is not seen in a folder that is empty, lacks what its profile requires, or is not there', async () => {
    const root = fresh();
    mkdirSync(join(root, 'projects'), { recursive: true });
    writeFileSync(join(root, 'identity.json'), '{}');
    for (const place of [root, join(root, 'projects'), join(root, 'nowhere')])
      expect((await detectProfile(place)).name).toBe('files');
  });

  it('is the one of whose files there are most, where there are two', async () => {
    const root = fresh();
    using _hermes = makeFixture('hermes', root);
    writeFileSync(join(root, 'MEMORY.md'), 'x');
    writeFileSync(join(root, 'identity.json'), '{}');
    expect((await detectProfile(root)).name).toBe('hermes');
    const other = fresh();
    using _claude = makeFixture('claude-code', other);
    writeFileSync(join(other, 'config.yaml'), '');
    writeFileSync(join(other, 'SOUL.md'), '');
    expect((await detectProfile(other)).name).toBe('claude-code');
  });
});

describe('the profiles that come with holdfast', () => {
  it('are those of the folder, each named as its file, with a title', async () => {
    const files = readdirSync(new URL('../../src/state/profiles/', import.meta.url)).toSorted();
    expect(files).toEqual(BUILT_IN_PROFILES.map((name) => `${name}.yaml`));
    for (const name of BUILT_IN_PROFILES) expect((await loadProfile(name)).name).toBe(name);
  });

  it('leave no project of a workspace without its lock files', async () => {
    for (const name of BUILT_IN_PROFILES) {
      const classOf = classifier(await loadProfile(name));
      for (const path of ['workspace/app/yarn.lock', 'workspace/app/Cargo.lock', 'workspace/app/logs/a.txt'])
        expect(classOf(rawFromText(path), false), `${name} ${path}`).toBe('state');
    }
  });

  it('say how continuity is judged, in the terms of drills', async () => {
    const { continuity } = await loadProfile('openclaw');
    expect(continuity).toContainEqual({
      check: 'rows',
      files: '/agents/*/agent/openclaw-agent.sqlite',
      table: 'transcript_events',
    });
    expect(continuity).toContainEqual({ check: 'same', files: '/identity/device.json' });
  });
});

describe('a blank template', () => {
  const IDENTITY = `---
title: "IDENTITY Template"
---

# IDENTITY.md - Who Am I?

_Fill this in during your first conversation. Make it yours._

- **Name:**
  _(pick something you like)_
- **Emoji:**
  _(your signature)_

---

This isn't just metadata. It's the start of figuring out who you are.
`;
  const at = rawFromText('workspace/IDENTITY.md');

  it.each([
    ['as it is written', IDENTITY],
    [
      'with the line ends of Windows and spaces at the end',
      IDENTITY.replaceAll('\n', '  \r\n').replace('---  ', '---').replace('\n---  ', '\n---'),
    ],
    ['empty', ''],
    ['with headings and comments only', '# Identity\n<!-- nothing\nyet -->\n\n## More\n'],
  ])('is recognised %s', async (_how, text) => {
    expect(isScaffold(await loadProfile('openclaw'), at, bytes(text))).toBe(true);
  });

  it('is none once anything was written into it', async () => {
    const profile = await loadProfile('openclaw');
    for (const text of [
      IDENTITY.replace('- **Name:**', '- **Name:** Ada'),
      IDENTITY.replace('_(your signature)_', '🦔'),
      `${IDENTITY}\nI like exact answers.\n`,
      `${IDENTITY}- [ ] Answer the question.\n`,
    ])
      expect(isScaffold(profile, at, bytes(text)), text).toBe(false);
  });

  it('is looked for only in files that the profile has a template of, and in text', async () => {
    const profile = await loadProfile('openclaw');
    expect(isScaffold(profile, rawFromText('workspace/project/IDENTITY.md'), bytes(IDENTITY))).toBe(false);
    expect(isScaffold(profile, at, Buffer.from([0xff, 0xfe]))).toBe(false);
  });

  it('is known by the hash of what it says, too', async () => {
    const text = 'Be helpful.\nBe brief.\n';
    expect(ownLines(bytes(text))).toEqual(['Be helpful.', 'Be brief.']);
    const yaml = (sha256: string) => bytes(`name: x\ntitle: x\ntemplates: [{files: SOUL.md, sha256: ["${sha256}"]}]\n`);
    const other = '0'.repeat(64);
    const path = rawFromText('SOUL.md');
    expect(isScaffold(await parseProfile(yaml(other), 'x'), path, bytes(text))).toBe(false);
    const right = sha256Hex(bytes('Be helpful.\nBe brief.'));
    expect(isScaffold(await parseProfile(yaml(right), 'x'), path, bytes(`# Soul\n${text}\n\n`))).toBe(true);
    expect(isScaffold(await parseProfile(yaml(right), 'x'), path, bytes(`${text}Be mine.\n`))).toBe(false);
  });
});

describe('a profile of the user', () => {
  it('is read from a file', async () => {
    const file = join(folder, 'mine.yaml');
    writeFileSync(file, 'name: mine\ntitle: my agent\nsecret: [/keys/]\ncache: ["*.log", "!/keep.log"]\n');
    const profile = await loadProfile(file);
    const classOf = classifier(profile);
    expect(profile).toMatchObject({ name: 'mine', continuity: [], logs: [] });
    const kinds = ['keys/a', 'x/a.log', 'keep.log', 'a'].map((path) => classOf(rawFromText(path), false));
    expect(kinds).toEqual(['secret', 'cache', 'state', 'state']);
  });

  const head = 'name: mine\ntitle: t\n';
  it.each([
    ['unknown key', `${head}secrets: [a]\n`, ':3:1: unknown key `secrets`', /Known here: name, title,.*secret, cache/],
    [
      'unknown key of a template',
      `${head}templates:\n  - files: a\n    line: [b]\n`,
      ':5:5: unknown key `line` in `templates.0`',
      /files, lines, sha256/,
    ],
    ['missing name', 'title: t\n', ': `name` is missing', /docs\/profiles.md/],
    ['bad name', 'name: My Agent\ntitle: t\n', ':1:1: `name` is not valid: a name is', /docs/],
    ['no list', `${head}cache: a\n`, ':3:1: `cache` is not valid', /docs/],
    ['empty pattern', `${head}cache: [a, " "]\n`, ':3:12: `cache.1` is not valid: a pattern', /docs/],
    [
      'unknown check',
      `${head}continuity:\n  - {check: rows, files: a}\n  - {check: size, files: a}\n`,
      ':5:6: `continuity.1.check` is not valid',
      /docs/,
    ],
    [
      'marker outside',
      `${head}detect: {required: [../x]}\n`,
      ':3:21: `detect.required.0` is not valid: must lie below the root',
      /docs/,
    ],
    ['syntax', `${head}cache: [a\n`, ':4:1: ', /docs/],
    ['two values for one key', `${head}title: u\n`, ':3:1: Map keys must be unique', /docs/],
    ['no mapping', 'text\n', ': the profile is not valid', /docs/],
  ])('is refused with its place and a hint: %s', async (_what, text, message, hint) => {
    const error = await parseProfile(bytes(text), '/p.yaml').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(HoldfastError);
    expect(error).toMatchObject({ code: 'config_invalid', hint: expect.stringMatching(hint) as string });
    expect((error as Error).message).toContain(`/p.yaml${message}`);
  });

  it('is refused when it is not there, no text, or no profile of that name comes with holdfast', async () => {
    for (const [name, what] of [
      [join(folder, 'none.yaml'), 'cannot be read'],
      ['nosuch', 'there is no profile nosuch'],
    ] as const)
      await expect(loadProfile(name)).rejects.toMatchObject({
        code: 'config_invalid',
        message: expect.stringContaining(what) as string,
      });
    await expect(parseProfile(Buffer.from([0xff]), '/p.yaml')).rejects.toMatchObject({
      message: '/p.yaml: it is no UTF-8 text',
    });
  });
});
