import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { PROGRAM, FIXTURE, run, type Ended } from './run.ts';
import { runWarm } from './warm.ts';

/** The same failure once more, in another form: not in a process of its own. */
const again = (...args: string[]) => runWarm(args, { program: FIXTURE });

/** With --json, stdout is one document and nothing else. */
function document(ended: Ended): unknown {
  expect(ended.stdout).toMatch(/^\{.*\}\n$/);
  return JSON.parse(ended.stdout);
}

describe('the result of a command', () => {
  it('is text on stdout, with nothing on stderr', async () => {
    expect(await run(FIXTURE, ['act', 'well'])).toEqual({ code: 0, stdout: 'did well\n', stderr: '' });
  });

  it('is the same data as one JSON document with --json', async () => {
    const ended = await run(FIXTURE, ['act', 'well', '--json']);
    expect(document(ended)).toEqual({ what: 'well', big: '1152921504606846976' });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
  });

  it('can carry an exit code', async () => {
    expect(await run(FIXTURE, ['act', 'incomplete'])).toMatchObject({ code: 3, stdout: 'did incomplete\n' });
  });

  it('finds commands below a topic, with a space between', async () => {
    expect(await run(FIXTURE, ['topic', 'act', 'well'])).toMatchObject({ code: 0, stdout: 'did well\n' });
  });
});

describe('a failure', () => {
  it.each([
    ['refuse', 12, 'wrong_key', 'the key is \\x1b[31mwrong', 'Take another.'],
    ['damaged', 13, 'damaged', 'a header is damaged', '`holdfast verify --level objects` tells'],
    ['bug', 1, 'bug', 'internal error: x is not a function', 'This is a defect of holdfast; please report it'],
    ['system', 1, 'io', "ENOENT: no such file or directory, open '/no/such/file'", 'The system refused this'],
    ['later', 1, 'bug', 'internal error: thrown outside of everything', 'This is a defect of holdfast'],
  ])('%s: exit code, one sentence and a hint, no stack trace', async (what, exit, code, message, hint) => {
    const text = await run(FIXTURE, ['act', what]);
    expect(text).toMatchObject({ code: exit, stdout: '' });
    const [first, second, ...rest] = text.stderr.split('\n');
    expect(first).toBe(`Error: ${message}`);
    expect(second?.startsWith(`Hint: ${hint}`)).toBe(true);
    expect(rest).toEqual(['']);

    const json = await again('act', what, '--json');
    expect(json).toMatchObject({ code: exit, stderr: '' });
    const { error } = document(json) as { error: Record<string, string> };
    expect(Object.keys(error)).toEqual(['code', 'message', 'hint']);
    expect(error).toMatchObject({ code, hint: expect.stringContaining(hint) });
  });

  it('a run that just stops is no success', async () => {
    const ended = await run(FIXTURE, ['act', 'hang', '--json']);
    expect(ended.code).toBe(1);
    expect(document(ended)).toMatchObject({ error: { code: 'bug' } });
  });
});

describe('wrong usage is exit code 2, with a hint', () => {
  it.each([
    [['ac'], 'there is no command "ac"', 'Did you mean `holdfast act`?'],
    [['frobnicate', '--now'], 'there is no such command', 'See `holdfast --help`.'],
    [['topic', 'axt', 'x'], 'there is no command "topic axt"', 'Did you mean `holdfast topic act`?'],
    [['act', 'x', '--taget', 'y'], 'unknown flag --taget', 'Did you mean --target?'],
    [['act', 'x', '--taget=y'], 'unknown flag --taget', 'Did you mean --target?'],
    [['act'], 'missing argument: WHAT', 'See `holdfast act --help`.'],
    [['topic', 'act', 'x', 'y'], '1 unexpected argument', 'See `holdfast topic act --help`.'],
    [['act', 'x', '--target'], 'flag --target expects a value', 'See `holdfast --help`.'],
  ])('%j', async (args, message, hint) => {
    const [text, json] = await Promise.all([
      run(FIXTURE, args),
      again(...args.slice(0, 2), '--json', ...args.slice(2)),
    ]);
    expect(text).toEqual({ code: 2, stdout: '', stderr: `Error: ${message}\nHint: ${hint}\n` });
    expect(json).toMatchObject({ code: 2, stderr: '' });
    expect(document(json)).toEqual({ error: { code: 'usage', message, hint } });
  });

  it('--json alone prints a document too', async () => {
    expect(document(await run(FIXTURE, ['--json']))).toMatchObject({ error: { code: 'usage' } });
  });

  it('--json after -- belongs to the command, not to the frame', async () => {
    expect(await run(FIXTURE, ['nothing', '--', '--json'])).toMatchObject({ code: 2, stdout: '' });
  });
});

describe('interruption', () => {
  it.each(['SIGINT', 'SIGTERM'] as const)('%s ends the work with exit code 130', async (signal) => {
    const ended = await run(FIXTURE, ['act', 'wait'], {
      meanwhile: (child) => child.stderr?.once('data', () => child.kill(signal)),
    });
    expect(ended).toMatchObject({ code: 130, stdout: '' });
    expect(ended.stderr).toContain('Error: interrupted\nHint: ');
  });

  it('a reader that goes away ends a stream quietly', async () => {
    const ended = await run(FIXTURE, ['act', 'flood'], {
      meanwhile: (child) => child.stdout?.once('data', () => child.stdout?.destroy()),
    });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
  });
});

it.runIf(existsSync('/dev/full')).each([[[]], [['--json']]])(
  'a full disk below stdout is a failure with %j',
  async (flags) => {
    const full = await open('/dev/full', 'w');
    try {
      const ended = await run(FIXTURE, ['act', 'well', ...flags], { stdout: full.fd });
      expect(ended.code).toBe(1);
      expect(ended.stderr).toMatch(/^Error: ENOSPC: .*\nHint: .*\n$/);
    } finally {
      await full.close();
    }
  },
);

describe('help', () => {
  it.each([[[]], [['--help']], [['-h']], [['help']]])('%j lists the commands', async (args) => {
    const ended = await runWarm(args);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout).toMatch(/^ {2}completion {2}/m);
  });

  it.each([[['topic', 'act', '--help']], [['help', 'topic', 'act']]])(
    '%j shows the flags of the command',
    async (args) => {
      const ended = await again(...args);
      expect(ended).toMatchObject({ code: 0, stderr: '' });
      expect(ended.stdout).toContain('holdfast topic act WHAT');
      expect(ended.stdout).toContain('--target');
      expect(ended.stdout).toContain('GLOBAL FLAGS');
    },
  );

  it('a topic alone lists its commands', async () => {
    const ended = await run(FIXTURE, ['topic']);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout).toContain('topic act');
  });

  it('--version names version and Node', async () => {
    expect((await run(PROGRAM, ['--version'])).stdout).toMatch(/^holdfast\/\d+\.\d+\.\d+ \S+ node-v\d+/);
  });
});

it('colours a terminal only, and not where NO_COLOR is set', async () => {
  const [pipe, terminal, forbidden] = await Promise.all([
    run(FIXTURE, ['act', 'refuse']),
    run(FIXTURE, ['act', 'refuse'], { env: { FORCE_COLOR: '1' } }), // stands for a terminal
    run(FIXTURE, ['act', 'refuse'], { env: { NO_COLOR: '1' } }),
  ]);
  expect(pipe.stderr).not.toContain('\x1b');
  expect(terminal.stderr).toContain('\x1b[31mError:\x1b[39m');
  expect(forbidden.stderr).not.toContain('\x1b');
});

it.each([['act', 'incomplete'], ['act', 'refuse'], ['act', 'later', '--json'], ['act', 'well'], ['--version']])(
  '%s %s %s ends in a process that ran others before as in one of its own',
  async (...args) => {
    await again('act', 'damaged');
    expect(await again(...args)).toEqual(await run(FIXTURE, args));
  },
);
