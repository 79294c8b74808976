/** The log of runs: one JSON document a line, on stderr, in a file or in the journal. */
import { spawn, type ChildProcess } from 'node:child_process';
import { appendFileSync, fstatSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Clock } from '../clock.ts';
import { messageOf } from '../errors.ts';
import { escapeJson } from '../raw-path.ts';

export type LogLevel = 'debug' | 'info' | 'warning' | 'error';

export interface LogSettings {
  to: 'journald' | 'stderr-json' | { file: string };
  /** The least that is told. */
  level: LogLevel;
}

/** The priorities of syslog, which the journal goes by. */
const PRIORITY: Readonly<Record<LogLevel, number>> = { error: 3, warning: 4, info: 6, debug: 7 };

type Environment = Readonly<Record<string, string | undefined>>;

/** For one run. Writing never throws: the first problem is kept for whoever asks at the end. */
export class RunLog {
  readonly #settings: LogSettings | undefined;
  readonly #common: Readonly<Record<string, unknown>>;
  readonly #clock: Clock;
  readonly #env: Environment;
  #journal: ChildProcess | undefined;
  #problem: string | undefined;

  /** @param common what every line says besides its time, level and event */
  constructor(settings: LogSettings | undefined, common: Record<string, unknown>, clock: Clock, env: Environment) {
    this.#settings = settings;
    this.#common = common;
    this.#clock = clock;
    this.#env = env;
  }

  write(level: LogLevel, event: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (!this.#settings || PRIORITY[level] > PRIORITY[this.#settings.level]) return;
    const time = new Date(this.#clock.now()).toISOString();
    const line = `${escapeJson(JSON.stringify({ time, level, event, ...this.#common, ...fields }))}\n`;
    const { to } = this.#settings;
    try {
      if (to === 'stderr-json') process.stderr.write(line);
      else if (to === 'journald') this.#toJournal(`<${PRIORITY[level]}>${line}`);
      else append(to.file, line);
    } catch (error) {
      this.#problem ??= messageOf(error);
    }
  }

  /** Hands over what was written. @returns why the log is not whole */
  async close(): Promise<string | undefined> {
    const journal = this.#journal;
    if (journal && journal.exitCode === null && journal.pid !== undefined) {
      const ended = new Promise<number | null>((resolve) => journal.once('close', resolve));
      journal.stdin?.end();
      const code = await ended;
      if (code !== 0) this.#problem ??= `systemd-cat ended with exit code ${code}`;
    }
    return this.#problem;
  }

  #toJournal(line: string): void {
    if (stderrIsJournal(this.#env['JOURNAL_STREAM'])) {
      process.stderr.write(line);
      return;
    }
    if (!this.#journal) {
      const args = ['--identifier=holdfast', '--level-prefix=yes'];
      this.#journal = spawn('systemd-cat', args, { stdio: ['pipe', 'ignore', 'ignore'], env: { ...this.#env } });
      const failed = (error: Error) => void (this.#problem ??= messageOf(error));
      this.#journal.on('error', failed);
      this.#journal.stdin?.on('error', failed);
    }
    this.#journal.stdin?.write(line);
  }
}

/** Each line in one write at the end of the file, so that runs at the same time do not mix theirs, and the file may be moved away at any time. */
function append(file: string, line: string): void {
  mkdirSync(dirname(file), { recursive: true });
  appendFileSync(file, line, { mode: 0o600 });
}

/** As systemd.exec(5) has it: the variable names the stream, which may have been redirected since. */
function stderrIsJournal(stream: string | undefined): boolean {
  if (!stream) return false;
  const { dev, ino } = fstatSync(2);
  return stream === `${dev}:${ino}`;
}
