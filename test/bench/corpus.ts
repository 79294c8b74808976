/** The trees that the benchmark works on: made from a seed, the same on every machine. */
import { appendFileSync, closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** xoshiro128**: small, fast, good enough for test data. */
class Seeded {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed >>> 0;
    const next = () => {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return (z ^ (z >>> 16)) >>> 0;
    };
    [this.#a, this.#b, this.#c, this.#d] = [next(), next(), next(), next()];
  }

  /** 32 random bits. */
  next(): number {
    const product = Math.imul(this.#b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  bytes(length: number): Uint8Array {
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.next();
    return new Uint8Array(words.buffer, 0, length);
  }
}

const SYLLABLES =
  'ka lo mi ren tas ver don pel sur ing ter al bo ni qua sel for mun dre hal ex con pro re un dis tion ment ly er'.split(
    ' ',
  );

/**
 * Text with the statistics of notes and messages: words of which a few are common, in phrases of which many come again, with numbers
 * and names in between. zstd at level 3 makes about a quarter of it, as of real agents' notes and logs.
 */
class Writer {
  readonly #random: Seeded;
  readonly #phrases: string[];

  constructor(random: Seeded) {
    this.#random = random;
    const language = new Seeded(1);
    const words = Array.from({ length: 3000 }, () =>
      Array.from({ length: 1 + language.below(3) }, () => SYLLABLES[language.below(SYLLABLES.length)]).join(''),
    );
    const word = () => words[Math.floor((language.next() / 2 ** 32) ** 2.5 * words.length)] ?? '';
    this.#phrases = Array.from({ length: 4000 }, () => Array.from({ length: 3 + language.below(7) }, word).join(' '));
  }

  /** About `length` characters of sentences. */
  text(length: number): string {
    const parts: string[] = [];
    for (let made = 0; made < length;) {
      const rank = Math.floor((this.#random.next() / 2 ** 32) ** 2 * this.#phrases.length);
      const phrase = this.#random.below(8) === 0 ? this.#random.below(1e6).toString() : (this.#phrases[rank] ?? '');
      parts.push(phrase, this.#random.below(4) === 0 ? '.\n' : ' ');
      made += phrase.length + 1;
    }
    return parts.join('').slice(0, length);
  }

  /** One message of a session log. */
  message(id: number): string {
    const random = this.#random;
    const time = new Date(1_760_000_000_000 + id * 61_000).toISOString();
    return `${JSON.stringify({ id: `msg_${random.next().toString(16)}`, seq: id, time, role: id % 2 ? 'assistant' : 'user', tokens: random.below(4000), content: this.text(80 + random.below(900)) })}\n`;
  }
}

interface AgentsShape {
  agents: number;
  days: number;
  sessions: number;
  sessionBytes: number;
  rows: number;
}

/** About 9,000 files and 400 MB. */
const AGENTS: AgentsShape = { agents: 60, days: 125, sessions: 20, sessionBytes: 180_000, rows: 5000 };

/** Agents' folders: markdown, session logs, a database each. */
function makeAgents(root: string, shape: AgentsShape): void {
  for (let agent = 0; agent < shape.agents; agent++) {
    const writer = new Writer(new Seeded(1000 + agent));
    const home = join(root, `agent-${String(agent).padStart(2, '0')}`);
    mkdirSync(join(home, 'memory'), { recursive: true });
    mkdirSync(join(home, 'sessions'));
    for (const name of ['MEMORY.md', 'HEARTBEAT.md', 'SOUL.md', 'USER.md'])
      writeFileSync(join(home, name), writer.text(4000));
    for (let day = 0; day < shape.days; day++)
      writeFileSync(
        join(home, 'memory', `day-${String(day).padStart(3, '0')}.md`),
        writer.text(1500 + (day % 7) * 700),
      );
    for (let session = 0; session < shape.sessions; session++) {
      const lines: string[] = [];
      for (let bytes = 0, id = 0; bytes < shape.sessionBytes; id++) {
        const line = writer.message(id);
        lines.push(line);
        bytes += line.length;
      }
      writeFileSync(join(home, 'sessions', `session-${session}.jsonl`), lines.join(''));
    }
    makeDatabase(join(home, 'agent.sqlite'), shape.rows, writer);
  }
}

/** What a row and its place in the index take, on average. */
const ROW_BYTES = 480;

function makeDatabase(path: string, rows: number, writer: Writer): void {
  const database = new DatabaseSync(path);
  database.exec(
    'PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; CREATE TABLE events (id INTEGER PRIMARY KEY, session TEXT, kind TEXT, body TEXT); CREATE INDEX by_session ON events (session)',
  );
  const insert = database.prepare('INSERT INTO events (session, kind, body) VALUES (?, ?, ?)');
  database.exec('BEGIN');
  for (let i = 0; i < rows; i++)
    insert.run(`session-${i % 97}`, i % 3 ? 'message' : 'tool', writer.text(100 + (i % 11) * 60));
  database.exec('COMMIT');
  database.close();
}

function changeRow(path: string, id: number, writer: Writer): void {
  const database = new DatabaseSync(path);
  database.exec('PRAGMA synchronous = OFF');
  database.prepare('UPDATE events SET body = ? WHERE id = ?').run(writer.text(200), id);
  database.close();
}

/** A day's work of the agents: a line appended to a log, a row of the database changed, a file more, for each. */
function changeAgents(root: string, round: number, shape: AgentsShape): void {
  for (let agent = 0; agent < shape.agents; agent++) {
    const writer = new Writer(new Seeded(5_000_000 + round * 1000 + agent));
    const home = join(root, `agent-${String(agent).padStart(2, '0')}`);
    appendFileSync(join(home, 'sessions', `session-${agent % shape.sessions}.jsonl`), writer.message(round));
    changeRow(join(home, 'agent.sqlite'), 1 + ((agent * 31 + round * 7) % shape.rows), writer);
    writeFileSync(join(home, 'memory', `round-${round}.md`), writer.text(3000));
  }
}

/** Many small files, in folders of 100. */
function makeSmallFiles(root: string, files: number): void {
  const writer = new Writer(new Seeded(77));
  for (let i = 0; i < files; i++) {
    const folder = join(root, `f${String(Math.floor(i / 10_000))}`, String(Math.floor(i / 100) % 100));
    if (i % 100 === 0) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `note-${i}.md`), writer.text(200 + (i % 13) * 150));
  }
}

/** One database file of about `bytes`. */
function makeLargeDatabase(path: string, bytes: number): void {
  makeDatabase(path, rowsOf(bytes), new Writer(new Seeded(99)));
}

const rowsOf = (bytes: number): number => Math.ceil(bytes / ROW_BYTES);

/** Data that no compressor shrinks. */
function makeIncompressible(root: string, bytes: number): void {
  mkdirSync(root, { recursive: true });
  const random = new Seeded(11);
  const pieceBytes = 4 * 1024 * 1024;
  for (let made = 0, file = 0; made < bytes; file++) {
    const fd = openSync(join(root, `media-${file}.bin`), 'w');
    for (let piece = 0; piece < 8 && made < bytes; piece++, made += pieceBytes) writeSync(fd, random.bytes(pieceBytes));
    closeSync(fd);
  }
}

const PIECE_BYTES = 4096;
const LARGE_FILE_BYTES = 32 * 1024 * 1024;

/**
 * Cheap to make in any number: files of `fileBytes`, in folders of 1000, cut anywhere from one long text, each with a number of its
 * own every `PIECE_BYTES`. No two chunks are the same.
 */
export function makePieces(root: string, files: number, fileBytes: number): void {
  const random = new Seeded(33);
  const text = Buffer.from(new Writer(random).text(16 * 1024 * 1024), 'latin1');
  const file = Buffer.alloc(fileBytes);
  for (let i = 0; i < files; i++) {
    const folder = join(root, String(Math.floor(i / 1000)));
    if (i % 1000 === 0) mkdirSync(folder, { recursive: true });
    for (let at = 0; at < fileBytes; at += PIECE_BYTES) {
      const from = random.below(text.length - PIECE_BYTES);
      text.copy(file, at, from, from + PIECE_BYTES);
      file.write(`${i} ${at} ${random.next()}\n`, at, 'latin1');
    }
    writeFileSync(join(folder, `piece-${i}.md`), file);
  }
}

/** One tree of about `bytes`, of large files that compress as text does. */
export function makeLargeTree(root: string, bytes: number): void {
  const files = Math.max(1, Math.round(bytes / LARGE_FILE_BYTES));
  makePieces(root, files, Math.round(bytes / files));
}

/** A tree and what is done to it. `scale` makes it smaller; the same scale makes the same tree. */
export interface Corpus {
  title: string;
  make: (root: string, scale: number) => void;
  /** The small change of one round; none: not measured. */
  change?: (root: string, round: number, scale: number) => void;
  /** The file that is restored alone; none: not measured. */
  oneFile?: (scale: number) => string;
  unchanged: boolean;
  check: boolean;
}

const agentsShape = (scale: number): AgentsShape => ({
  ...AGENTS,
  agents: Math.max(1, Math.round(AGENTS.agents * scale)),
});
const DATABASE = 'agent.sqlite';
const DATABASE_BYTES = 2 * 1024 ** 3;

export const CORPORA = {
  agents: {
    title: '60 agents: markdown, JSONL, SQLite',
    make: (root, scale) => makeAgents(root, agentsShape(scale)),
    change: (root, round, scale) => changeAgents(root, round, agentsShape(scale)),
    oneFile: (scale) => {
      const middle = Math.floor(agentsShape(scale).agents / 2);
      return `agent-${String(middle).padStart(2, '0')}/sessions/session-10.jsonl`;
    },
    unchanged: true,
    check: true,
  },
  small: {
    title: '50,000 small files',
    make: (root, scale) => makeSmallFiles(root, Math.ceil(50_000 * scale)),
    unchanged: true,
    check: false,
  },
  database: {
    title: 'one database of 2 GiB',
    make: (root, scale) => {
      mkdirSync(root, { recursive: true });
      makeLargeDatabase(join(root, DATABASE), DATABASE_BYTES * scale);
    },
    change: (root, round, scale) =>
      changeRow(
        join(root, DATABASE),
        1 + ((round * 7_654_321) % rowsOf(DATABASE_BYTES * scale)),
        new Writer(new Seeded(88_000 + round)),
      ),
    unchanged: true,
    check: false,
  },
  incompressible: {
    title: 'incompressible data, 512 MiB',
    make: (root, scale) => makeIncompressible(root, 512 * 1024 ** 2 * scale),
    unchanged: false,
    check: false,
  },
} as const satisfies Record<string, Corpus>;
export type CorpusName = keyof typeof CORPORA;
