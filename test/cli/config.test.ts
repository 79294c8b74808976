import fc from 'fast-check';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { configJsonSchema } from '../../src/cli/config-schema.ts';
import {
  defaultKeyPaths,
  findConfigPath,
  loadConfig,
  newConfigPath,
  recoveredConfig,
  renderConfig,
  requireSections,
} from '../../src/cli/config.ts';
import { HoldfastError } from '../../src/errors.ts';
import { FIXTURE, run } from './run.ts';

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-config-'));
  file = join(folder, 'holdfast.yaml');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function load(text: string | Uint8Array) {
  await writeFile(file, text);
  return loadConfig(file);
}

/** The error that the text gives; its message starts with the file, which is cut off. */
async function refusal(text: string | Uint8Array): Promise<HoldfastError> {
  try {
    await load(text);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    expect(error.code).toBe('config_invalid');
    expect(error.message.startsWith(file)).toBe(true);
    error.message = error.message.slice(file.length);
    return error;
  }
  throw new Error('it was accepted');
}

const FULL = `
agent: {handle: my-agent, identity: keys/id.key, writerKey: /keys/writer.key}
state:
  profile: files
  root: ~/agent-state
  exclude: ["*.tmp"]
backends:
  nas:  {url: "file:///mnt/nas/holdfast"}
  disk: {url: "file:///mnt/disk"}
commit: {require: 1}
`;

it('a name that every object has by itself is refused, and not passed over', async () => {
  const text = 'fleet:\n  agents:\n    a: {live: {command: "true"}}\n    __proto__: {live: {command: "false"}}\n';
  expect((await refusal(text)).message).toBe(':4:5: `__proto__` is no name');
});

describe('a config', () => {
  it('is read with paths resolved against its folder and ~ against home', async () => {
    expect(await load(FULL)).toEqual({
      path: file,
      agent: { handle: 'my-agent', identity: join(folder, 'keys/id.key'), writerKey: '/keys/writer.key' },
      state: { profile: 'files', root: join(homedir(), 'agent-state'), exclude: ['*.tmp'] },
      backends: [
        { name: 'nas', url: 'file:///mnt/nas/holdfast' },
        { name: 'disk', url: 'file:///mnt/disk' },
      ],
      commit: { require: 1 },
    });
  });

  it('may lack every section, and a command says which one it needs', async () => {
    const config = await load('# nothing yet\n');
    expect(config).toEqual({ path: file, commit: { require: 1 } });
    expect(() => requireSections(config, 'state', 'backends')).toThrow(/no section `state:`/);
  });

  it('has what is suspicious as shares, with the usual ones where it does not say', async () => {
    const { suspicion } = await load('suspicion: { shrink: 80%, history: 60 }\n');
    expect(suspicion).toEqual({ shrink: 0.8, change: 0.5, incompressible: 0.25, history: 60 });
    expect((await load('suspicion: { off: true, shrink: 80% }\n')).suspicion).toBe(false);
  });

  it('has what is kept of snapshots, which `init` writes', async () => {
    const { retention } = await load(
      'retention: {daily: 7, within: 1d12h, protect: [release], timeZone: Europe/Berlin}\n',
    );
    const rules = { daily: 7, withinMs: 36 * 3_600_000 };
    expect(retention).toEqual({ rules, protect: ['release'], timeZone: 'Europe/Berlin' });
    const fresh = {
      handle: 'a',
      identity: 'i',
      writerKey: 'w',
      root: '/s',
      backends: [{ name: 'a', url: 'file:///a' }],
    };
    const usual = { daily: 7, weekly: 5, monthly: 12 };
    expect((await load(renderConfig({ ...fresh, require: 1 }))).retention).toEqual({ rules: usual, protect: [] });
    expect((await refusal('retention: {timeZone: Mars/Base}\n')).message).toContain(
      '`retention.timeZone` is no time zone',
    );
    expect((await refusal('retention: {within: 30}\n')).message).toContain('retention.within');
    expect((await refusal('retention: {within: 1y}\n')).message).toContain('not a duration');
    expect((await refusal('retention: {daly: 7}\n')).hint).toBe('Did you mean `daily`?');
  });

  it('keeps keys beside it, named after it, and wants all backends, unless it says otherwise', async () => {
    const config = await load('agent: {handle: a}\nbackends: {a: {url: "file:///a"}, b: {url: "file:///b"}}\n');
    expect(config.agent).toEqual({
      handle: 'a',
      identity: join(folder, 'holdfast.identity.key'),
      writerKey: join(folder, 'holdfast.writer.key'),
    });
    expect(config.commit.require).toBe(2);
    expect(requireSections(config, 'agent', 'backends').backends).toHaveLength(2);
    expect(defaultKeyPaths('/x/y/prod.yml')).toEqual({
      identity: '/x/y/prod.identity.key',
      writerKey: '/x/y/prod.writer.key',
    });
  });
});

it('names are text, whatever else YAML would make of them', async () => {
  const { backends } = await load(
    'backends: {007: {url: "file:///a"}, 1e3: {url: "file:///b"}, null: {url: "file:///c"}}\n',
  );
  expect(backends?.map(({ name }) => name)).toEqual(['007', '1e3', 'null']);
});

describe('a config that cannot be right is refused with its place and a hint', () => {
  it.each([
    [
      'unknown key',
      'agent:\n  handle: a\n  identiy: x\n',
      ':3:3: unknown key `identiy` in `agent`',
      'Did you mean `identity`?',
    ],
    ['unknown section', 'agent: {handle: a}\nbackend: {}\n', ':2:1: unknown key `backend`', 'Did you mean `backends`?'],
    [
      'unknown, nothing near',
      'zebra: 1\n',
      ':1:1: unknown key `zebra`',
      'Known here: agent, state, backends, commit, suspicion, retention, drill, schedule, prune, notify, metrics, log, fleet.',
    ],
    [
      'unknown in a backend',
      'backends:\n  nas:\n    url: file:///a\n    ulr: x\n',
      ':4:5: unknown key `ulr` in `backends.nas`',
      'Did you mean `url`?',
    ],
    ['not available', 'state: {root: /a, profile: nosuch}\n', ':1:19: `state.profile` is not valid', ''],
    ['duplicate key', 'agent: {handle: a}\nagent: {handle: b}\n', ':2:1: Map keys must be unique', ''],
    ['missing key', 'agent: {}\n', ':1:1: `agent.handle` is missing', ''],
    ['wrong type', 'agent: {handle: [1]}\n', ':1:9: `agent.handle` is not valid: it must be text', ''],
    ['wrong type in a list', 'state: {root: /a, exclude: [a, 1]}\n', ':1:32: `state.exclude.1` is not valid', ''],
    ['syntax', 'agent: {handle: a\n', ':2:1: ', ''],
    ['tabs', 'agent:\n\thandle: a\n', ':2:1: Tabs are not allowed as indentation', ''],
    ['unknown tag', 'agent: !!js/function {handle: a}\n', ':1:8: Unresolved tag', ''],
    ['two documents', 'agent: {handle: a}\n---\nstate: {root: /}\n', ':2:1: Source contains multiple documents', ''],
    ['no mapping', 'just text\n', ': the config is not valid', ''],
    [
      'backend name',
      'backends: {"My NAS": {url: "file:///a"}}\n',
      ':1:12: `backends.My NAS` is not valid: a backend name is',
      '',
    ],
    ['no backend', 'backends: {}\n', ':1:1: `backends` is not valid: name at least one backend', ''],
    ['relative URL', 'backends: {a: {url: "file:a/b"}}\n', ': `backends.a.url` must be an absolute path', ''],
    ['host in a file URL', 'backends: {a: {url: "file://a/b"}}\n', ': `backends.a.url` must be an absolute path', ''],
    [
      'path for a URL',
      'backends: {a: {url: /a/b}}\n',
      ': `backends.a.url` is no URL; a folder is written file:///absolute/path',
      '',
    ],
    [
      'one place twice',
      'backends: {a: {url: "file:///x"}, b: {url: "file:///x/"}}\n',
      ': backends a and b are the same place',
      '',
    ],
    [
      'too many required',
      'backends: {a: {url: "file:///x"}}\ncommit: {require: 2}\n',
      ': commit.require is 2, but there are only 1',
      '',
    ],
    ["another's home", 'state: {root: ~root/x}\n', ': cannot resolve ~root/x', ''],
    [
      'control characters',
      'agent: {handle: "a\\tb"}\n',
      ':1:9: `agent.handle` is not valid: must be 1 to 64 characters',
      '',
    ],
    [
      'a bomb of aliases',
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghij'.replace(/./g, (c) => `${c}: &${c} [${`*${String.fromCharCode(c.charCodeAt(0) - 1)},`.repeat(9)}]\n`)}`,
      ': Excessive alias count',
      '',
    ],
  ])('%s', async (_, text, message, hint) => {
    const error = await refusal(text);
    expect(error.message.startsWith(message), error.message).toBe(true);
    expect(error.hint).toContain(hint);
  });

  it('no UTF-8, too large, a folder, not there', async () => {
    expect((await refusal(new Uint8Array([0x61, 0xff, 0xfe]))).message).toBe(': it is no UTF-8 text');
    expect((await refusal('#'.repeat(256 * 1024 + 1))).message).toBe(': it is larger than 262144 bytes');
    await expect(loadConfig(folder)).rejects.toMatchObject({
      code: 'config_invalid',
      message: `${folder}: it is a folder`,
    });
    await expect(loadConfig(join(folder, 'none.yaml'))).rejects.toMatchObject({ code: 'config_invalid' });
  });

  it('exit code 2 and the message, from the command line', async () => {
    await writeFile(file, 'agnet: {}\n');
    const ended = await run(FIXTURE, ['act', 'config', '--config', file]);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(ended.stderr).toBe(`Error: ${file}:1:1: unknown key \`agnet\`\nHint: Did you mean \`agent\`?\n`);
  });
});

describe('where the config is looked for', () => {
  it('--config, then $HOLDFAST_CONFIG, then the current folder, then the XDG folder', async () => {
    const cwd = await mkdtemp(join(folder, 'cwd-'));
    const xdg = await mkdtemp(join(folder, 'xdg-'));
    const env = { HOLDFAST_CONFIG: 'env.yaml', XDG_CONFIG_HOME: xdg };
    expect(findConfigPath('flag.yaml', env, cwd)).toBe(join(cwd, 'flag.yaml'));
    expect(findConfigPath(undefined, env, cwd)).toBe(join(cwd, 'env.yaml'));
    expect(() => findConfigPath(undefined, { XDG_CONFIG_HOME: xdg }, cwd)).toThrow(
      expect.objectContaining({ code: 'config_invalid', hint: expect.stringContaining('holdfast init') }),
    );
    await mkdir(join(xdg, 'holdfast'));
    await writeFile(join(xdg, 'holdfast', 'holdfast.yaml'), '');
    expect(findConfigPath(undefined, { XDG_CONFIG_HOME: xdg }, cwd)).toBe(join(xdg, 'holdfast', 'holdfast.yaml'));
    await writeFile(join(cwd, 'holdfast.yaml'), '');
    expect(findConfigPath(undefined, { HOLDFAST_CONFIG: '', XDG_CONFIG_HOME: xdg }, cwd)).toBe(
      join(cwd, 'holdfast.yaml'),
    );
    expect(newConfigPath(undefined, {}, cwd)).toBe(join(cwd, 'holdfast.yaml'));
    expect(newConfigPath('new.yaml', env, cwd)).toBe(join(cwd, 'new.yaml'));
  });

  it('the environment reaches a command', async () => {
    await writeFile(file, FULL);
    const ended = await run(FIXTURE, ['act', 'config', '--json'], { env: { HOLDFAST_CONFIG: file } });
    expect(JSON.parse(ended.stdout)).toMatchObject({ config: { path: file, agent: { handle: 'my-agent' } } });
  });
});

describe('a config that is written', () => {
  it('is read back as it was given, whatever the names', async () => {
    const text = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 30 })
      .filter((s) => !s.startsWith('~') && s.isWellFormed());
    const awkward = fc.constantFrom(
      'yes',
      'null',
      '1e3',
      '0x10',
      '- a',
      'a: b',
      '# c',
      '"',
      "'",
      'a\nb',
      ' a ',
      '*',
      '&a',
      '!',
      '%',
      '@',
      '`',
      '{',
      '}',
      '[a]',
      '|',
      '>',
      '?',
      '\\',
      '---',
      '~a',
    );
    const name = fc.oneof(
      fc.stringMatching(/^[a-z0-9-]{1,32}$/),
      fc.constantFrom('1e3', 'null', 'true', '007', '0x1f', '-', '---'),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          handle: fc.stringMatching(/^[!-~]{1,64}$/),
          root: fc.oneof(text, awkward).map((s) => `/${s}`),
          exclude: fc.array(fc.oneof(text, awkward), { maxLength: 3 }),
          names: fc.uniqueArray(name, { minLength: 1, maxLength: 4 }),
        }),
        async ({ handle, root, exclude, names }) => {
          const backends = names.map((backend) => ({ name: backend, url: `file:///mnt/${backend}#x` }));
          const given = { handle, identity: '/keys/a b', writerKey: '/keys/w', root, exclude, backends, require: 1 };
          const read = await load(renderConfig(given));
          expect(read.agent).toEqual({ handle, identity: '/keys/a b', writerKey: '/keys/w' });
          expect(read.state?.exclude).toEqual(exclude);
          // A path is normalised on reading; the text itself must survive.
          expect(parse(renderConfig(given)).state.root).toBe(root);
          expect([...(read.backends ?? [])].sort((a, b) => (a.name < b.name ? -1 : 1))).toEqual(
            [...backends].sort((a, b) => (a.name < b.name ? -1 : 1)),
          );
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('backends', () => {
  const backends = (yaml: string) => load(`backends:\n${yaml}`).then((config) => config.backends);

  it('take settings beside the URL as if they stood in its query', async () => {
    expect(
      await backends(`  cloud: {url: "s3://b/p", endpoint: "https://s3.example.org", region: eu, pathStyle: false, storageClass: STANDARD_IA, sse: "aws:kms", kmsKey: k, objectLock: {mode: governance, days: 30}, upload: 2MiB}
  ship: {url: "sftp://u@h:22/p", key: id, knownHosts: /etc/known}
  more: {url: "s3://c?region=x", endpoint: "http://127.0.0.1:1"}
`),
    ).toEqual([
      {
        name: 'cloud',
        url: 's3://b/p?endpoint=https://s3.example.org&region=eu&pathStyle=false&storageClass=STANDARD_IA&sse=aws:kms&kmsKey=k&lock=governance:30d&upload=2MiB',
      },
      { name: 'ship', url: `sftp://u@h:22/p?key=${join(folder, 'id')}&knownHosts=/etc/known` },
      { name: 'more', url: 's3://c?region=x&endpoint=http://127.0.0.1:1' },
    ]);
  });

  it.each([
    ['a: {url: "file:///x", region: eu}', 'a.region'],
    ['a: {url: "sftp://u@h/x", storageClass: X}', 'a.storageClass'],
    ['a: {url: "s3://b/x", key: id}', 'a.key'],
    ['a: {url: "s3://b/x", region: eu}\n  b: {url: "s3://b/x/"}', 'same place'],
    ['a: {url: "s3://b/x?endpoint=https://s"}\n  b: {url: "s3://b/x", endpoint: "https://S:443/"}', 'same place'],
  ])('refuse %j', async (yaml, problem) => {
    await expect(backends(`  ${yaml}\n`)).rejects.toThrow(problem);
  });
});

describe('the config of a recovered agent', () => {
  const fresh = {
    handle: 'ada',
    identity: 'new.identity.key',
    writerKey: 'new.writer.key',
    root: '/new/state',
    backends: [
      { name: 'from', url: 'file:///mnt/nas/' },
      { name: 'extra', url: 'file:///mnt/extra' },
    ],
    require: 2,
  };

  it('is the old one with the places of this machine; what else it says, comments too, stays', async () => {
    const old = `# mine
agent: {handle: ada, identity: old.key}
state:
  root: /old/state # where ada lives
  exclude: ["*.tmp"]
backends:
  nas: {url: "file:///mnt/nas"}
commit: {require: 1}
`;
    const { text, backends } = recoveredConfig(old, fresh);
    expect(backends.map(({ name }) => name)).toEqual(['nas', 'extra']);
    expect(text).toMatch(/^# mine\n/);
    expect(text).toContain('# where ada lives');
    expect(await load(text)).toEqual({
      path: file,
      agent: { handle: 'ada', identity: join(folder, 'new.identity.key'), writerKey: join(folder, 'new.writer.key') },
      state: { profile: 'files', root: '/new/state', exclude: ['*.tmp'] },
      backends: [
        { name: 'nas', url: 'file:///mnt/nas' },
        { name: 'extra', url: 'file:///mnt/extra' },
      ],
      commit: { require: 1 },
    });
  });

  it('is a new one where the old one cannot be used', () => {
    for (const old of ['', 'agent: {', 'agent: {handle: x}\n'])
      expect(recoveredConfig(old, fresh)).toEqual({ text: renderConfig(fresh), backends: fresh.backends });
  });
});

it('the JSON Schema knows every section and refuses unknown keys', () => {
  expect(configJsonSchema()).toMatchObject({
    additionalProperties: false,
    properties: { agent: { additionalProperties: false }, state: {}, backends: {}, commit: {} },
  });
});
