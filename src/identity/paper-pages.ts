/** The pages of the recovery document as plain data: every word of them, and nothing of where it stands. */
import { rowCheck, WORDS_A_ROW } from '../crypto/words.ts';
import { sha256Hex } from '../crypto/hash.ts';
import { printable, type PaperDocument, type PaperSecret } from './paper.ts';
import { formatCode, type CodeType } from './paper-code.ts';

export interface PaperPage {
  /** What kind of page it is, and whose. */
  kind: 'words' | 'share' | 'agent-key' | 'in-full';
  heading: string;
  handle: string;
  /** Small, beside the title. */
  corner: readonly string[];
  /** Under the title: what somebody must know who reads nothing else. */
  warning: string;
  grid?: WordGrid;
  /** Beside the grid, under it, or on their own. */
  codes: readonly CodeBox[];
  facts?: { heading: string; note?: string; rows: readonly Fact[] };
  steps: readonly Steps[];
  notes: readonly { heading: string; text: string }[];
  /** Lines to fill in: what stands before each gap. */
  byHand: readonly (readonly string[])[];
}

export interface WordGrid {
  heading: string;
  note: string;
  /** Words in the first row. */
  columns: number;
  /** `first`: number of the first word, from 1. `check`: see `rowCheck`. */
  rows: readonly { first: number; words: readonly string[]; check?: string }[];
}

export interface CodeBox {
  type: CodeType;
  heading: string;
  note: string;
  /** What a scanner reads. */
  text: string;
}

/** `lines` are whole: no longer than the place for them, of characters that are all as wide. */
export interface Fact {
  name: string;
  lines: readonly string[];
}

export interface Steps {
  heading: string;
  intro: string;
  steps: readonly Step[];
}

export interface Step {
  text: string;
  command?: string;
}

/** Characters on a line of facts: beside a code, and over the whole width. */
const FACT_CHARS = 64;
const FACT_CHARS_WIDE = 96;
/** Of addresses on a page with other things; the rest goes to a page of its own. */
const BACKEND_LINES = 4;
const WIDE_LINES_A_PAGE = 56;
const HANDLE_CHARS = 48;
/**
 * Of the body of an encrypted agent key in one code: what a code of 105 modules holds at the highest error correction, of which three
 * stand side by side.
 */
const AGENT_KEY_CODE_CHARS = 390;
const AGENT_KEY_CODES_A_PAGE = 9;
const SHARE_COLUMNS = 3;
const SAMPLE_CHECK = '----';
const NO_CREDENTIALS = 'addresses without users and passwords';
const GOES_ON = 'indented lines go on without a space';

/** The pages, in the order in which they are printed. */
export function pagesOf(document: PaperDocument): PaperPage[] {
  const full = inFullPages(document);
  const secretPages = secretPagesOf(document.secret);
  const keyCodes = agentKeyCodes(document);
  const keyPages = Math.ceil(keyCodes.length / AGENT_KEY_CODES_A_PAGE);
  const total = secretPages + keyPages + full.length;
  const firstInFull = secretPages + keyPages + 1;
  const pages = [
    ...(document.secret.kind === 'words'
      ? [wordsPage(document, document.secret, firstInFull)]
      : document.secret.shares.map((share, i) => sharePage(document, document.secret, share, i, firstInFull))),
    ...Array.from({ length: keyPages }, (_, i) =>
      agentKeyPage(document, keyCodes.slice(i * AGENT_KEY_CODES_A_PAGE, (i + 1) * AGENT_KEY_CODES_A_PAGE)),
    ),
    ...full,
  ];
  return pages.map((page, i) => ({
    ...page,
    corner: [new Date(document.time).toISOString().slice(0, 10), printable(document.tool), `page ${i + 1} of ${total}`],
    warning: document.sample
      ? 'SAMPLE: placeholders stand for every secret. This sheet recovers nothing.'
      : page.warning,
  }));
}

function wordsPage(
  document: PaperDocument,
  { words, ageIdentity }: Extract<PaperSecret, { kind: 'words' }>,
  firstInFull: number,
): PaperPage {
  return {
    ...common(document, firstInFull),
    kind: 'words',
    heading: 'Recovery sheet',
    warning: 'SECRET: it opens every backup and acts as this agent. Use it only on a machine that you trust.',
    grid: {
      heading: 'The 24 recovery words',
      note: 'row by row; a wrong row is told by its check',
      columns: WORDS_A_ROW,
      rows: rowsOf(words, WORDS_A_ROW).map((row, i) => ({
        first: i * WORDS_A_ROW + 1,
        words: row,
        check: document.sample ? SAMPLE_CHECK : rowCheck(i + 1, row),
      })),
    },
    codes: [
      ...codeBoxes('words', words.join(' '), 'The 24 words', 'all of them, in order'),
      ...codeBoxes('age-key', ageIdentity, 'The age key', 'restores with age alone'),
    ],
    steps: [withHoldfast(document), withoutHoldfast(document)],
    notes: [
      {
        heading: 'What this sheet is worth',
        text: 'This sheet and any one backend bring the agent back: its state and its identity. Without it, nobody can open the backups, unless another restore recipient was added.',
      },
      keep('if a stranger may have read it, he can read every backup: make a new identity and a new repository.'),
    ],
  };
}

function sharePage(
  document: PaperDocument,
  secret: PaperSecret,
  share: readonly string[],
  i: number,
  firstInFull: number,
): PaperPage {
  const { threshold, count, identifier } =
    secret.kind === 'shares'
      ? { ...secret.scheme, identifier: secret.identifier }
      : { threshold: 0, count: 0, identifier: 0 };
  const others = threshold - 1;
  return {
    ...common(document, firstInFull),
    kind: 'share',
    heading: `Recovery share ${i + 1} of ${count}`,
    warning: `SECRET: any ${threshold} of the ${count} shares open every backup and act as this agent. One alone tells nothing.`,
    grid: {
      heading: `The ${share.length} words of share ${i + 1}`,
      note: `group 1 of 1, share ${i + 1} of ${count}, ${threshold} needed, set ${document.sample ? 'SAMPLE' : String(identifier).padStart(5, '0')}`,
      columns: SHARE_COLUMNS,
      rows: rowsOf(share, SHARE_COLUMNS).map((words, row) => ({ first: row * SHARE_COLUMNS + 1, words })),
    },
    codes: codeBoxes('share', share.join(' '), `Share ${i + 1} of ${count}`, 'all its words, in order'),
    steps: [sharesWithHoldfast(document, threshold), sharesWithoutHoldfast(document)],
    notes: [
      {
        heading: 'What this sheet is worth',
        text: `It is one share (SLIP-39) of the agent's root. With ${others} other${others === 1 ? '' : 's'} of the same set, and any one backend, the agent comes back. Up to ${count - threshold} of the ${count} may be lost.`,
      },
      keep(`keep no two shares in one place; when fewer than ${threshold + 1} are left, make a new set.`),
    ],
  };
}

function agentKeyPage(document: PaperDocument, codes: readonly CodeBox[]): PaperPage {
  return {
    ...common(document, 0),
    kind: 'agent-key',
    heading: "The agent's key, encrypted",
    warning: `Only ${document.secret.kind === 'words' ? 'the words or the age key open' : 'enough shares open'} it. Every backend holds the key too; this is the copy for when none does.`,
    codes,
    facts: { heading: 'Which key it is', rows: keyFacts(document) },
    steps: [
      {
        heading: 'With holdfast',
        intro: '',
        steps: [
          {
            text: 'Nothing to do: recover takes the key from the backend. Where it cannot, scan these codes into the same file as those of the root (mode 600) and give that:',
            command: 'holdfast recover --from URL --target DIR --words-file FILE',
          },
        ],
      },
      {
        heading: 'Without holdfast',
        intro: '',
        steps: [
          {
            text: 'Scan the parts, in their order, into parts.txt, then:',
            command: "grep -v '#' parts.txt | tr -d ' \\r\\n' | base64 -d | age -d -i key.txt -o agent.key",
          },
        ],
      },
    ],
    notes: [],
    byHand: [],
  };
}

/** What did not fit beside the words, whole. */
function inFullPages(document: PaperDocument): PaperPage[] {
  const handle = printable(document.handle);
  const all = backendFacts(document, FACT_CHARS_WIDE);
  const rows: Fact[] = [
    ...(handle.length > HANDLE_CHARS ? [{ name: 'agent', lines: wrap(handle, FACT_CHARS_WIDE) }] : []),
    ...(backendFacts(document, FACT_CHARS).flatMap(({ lines }) => lines).length > BACKEND_LINES ? all : []),
  ];
  const pages: Fact[][] = [];
  let used = WIDE_LINES_A_PAGE;
  for (const { name, lines } of rows) {
    for (let at = 0; at < lines.length;) {
      // A short one is not split over two pages.
      if (
        used >= WIDE_LINES_A_PAGE ||
        (at === 0 && lines.length <= WIDE_LINES_A_PAGE && used + lines.length > WIDE_LINES_A_PAGE)
      ) {
        pages.push([]);
        used = 0;
      }
      const part = lines.slice(at, at + WIDE_LINES_A_PAGE - used);
      pages.at(-1)?.push({ name: at === 0 ? name : `${name} (on)`, lines: part });
      at += part.length;
      used += part.length;
    }
  }
  return pages.map((facts) => ({
    ...common(document, 0),
    kind: 'in-full',
    heading: 'In full',
    warning: 'Not secret, but it tells where the backups are: keep it with the other pages.',
    codes: [],
    facts: {
      heading: 'What is cut on the other pages',
      note: `${NO_CREDENTIALS}; ${GOES_ON}`,
      rows: facts,
    },
    steps: [],
    notes: [],
    byHand: [],
  }));
}

/** What the words page and the pages of shares have in common. */
function common(
  document: PaperDocument,
  firstInFull: number,
): Pick<PaperPage, 'handle' | 'corner' | 'facts' | 'byHand'> & {
  facts: NonNullable<PaperPage['facts']>;
} {
  const { agent, repository } = document;
  const backends = backendFacts(document, FACT_CHARS);
  const lines = backends.flatMap(({ lines: some }) => some);
  const fits = lines.length <= BACKEND_LINES;
  return {
    handle: cut(printable(document.handle), HANDLE_CHARS),
    corner: [],
    facts: {
      heading: 'What it belongs to',
      note: fits && lines.some((line) => line.startsWith(' ')) ? `${NO_CREDENTIALS}; ${GOES_ON}` : NO_CREDENTIALS,
      rows: [
        ...keyFacts(document),
        { name: 'recovery key', lines: [document.recovery ?? 'SAMPLE'] },
        { name: 'repository', lines: [repository] },
        {
          name: backends.length === 1 ? 'backend' : 'backends',
          lines: fits
            ? lines
            : [
                ...document.backends
                  .slice(0, BACKEND_LINES - 1)
                  .map((backend) => cut(backendText(backend), FACT_CHARS)),
                `${backends.length === 1 ? 'whole' : `all ${backends.length}, whole`}: page ${firstInFull}`,
              ],
        },
        {
          name: 'derivation',
          lines: [
            `HKDF-SHA256, salt holdfast/v1: restore, ${agent.origin === 'derived' ? `identity/${agent.generation}, ` : ''}recovery/0`,
          ],
        },
      ],
    },
    byHand: [
      ['made by', 'kept at'],
      ['last drilled on', 'by', 'result'],
      ['last drilled on', 'by', 'result'],
      ['last drilled on', 'by', 'result'],
    ],
  };
}

function keyFacts({ agent }: PaperDocument): Fact[] {
  return [
    { name: 'agent key', lines: [`${agent.fingerprint} (${agent.origin})`] },
    { name: 'public key', lines: [agent.publicKey] },
  ];
}

function backendFacts({ backends }: PaperDocument, chars: number): Fact[] {
  return backends.map((backend) => ({ name: 'backend', lines: wrap(backendText(backend), chars) }));
}

function backendText({ name, url }: PaperDocument['backends'][number]): string {
  return `${printable(name)}  ${url}`;
}

function withHoldfast(document: PaperDocument): Steps {
  return holdfastSteps(
    document,
    'Restore from any one backend.',
    'Type the words when asked; the first four letters of each are enough. Or scan their code into a file (mode 600) and add',
  );
}

function sharesWithHoldfast(document: PaperDocument, threshold: number): Steps {
  return holdfastSteps(
    document,
    `Bring any ${threshold} shares together, and restore from any one backend.`,
    'Type the words of each when asked. Or scan their codes into one file (mode 600) and add',
  );
}

function holdfastSteps({ tool }: PaperDocument, restore: string, words: string): Steps {
  return {
    heading: 'Recover with holdfast',
    intro: 'First make sure that the old agent runs nowhere.',
    steps: [
      {
        text: 'Install holdfast from the package kept with this sheet; Node.js 22.18 or newer must be there.',
        command: `npm install -g ./${printable(tool).replace('/', '-')}.tgz`,
      },
      { text: restore, command: 'holdfast recover --from URL --target DIR' },
      { text: words, command: '--words-file FILE' },
      { text: 'Compare the agent key with this sheet.', command: 'holdfast identity show' },
      { text: 'Delete what was scanned, and go on.', command: 'holdfast backup' },
    ],
  };
}

function withoutHoldfast(document: PaperDocument): Steps {
  return standardSteps(document, {
    text: 'Scan the code of the age key into key.txt, or make that from the words:',
    command: `python3 holdfast-words-to-key.py${document.kind === 'hybrid' ? ' --post-quantum' : ''} --output key.txt`,
  });
}

function sharesWithoutHoldfast(document: PaperDocument): Steps {
  return standardSteps(document, {
    text: 'Any SLIP-39 tool makes the root of the shares (no passphrase). From there to key.txt: docs/recovery.md.',
    command: "pip install 'shamir-mnemonic[cli]' && shamir recover",
  });
}

function standardSteps({ agent, kind, secret, wrappedAgentKey }: PaperDocument, key: Step): Steps {
  const file = sha256Hex(Buffer.from(agent.publicKey, 'hex')).slice(0, 8);
  return {
    heading: 'Recover without holdfast',
    intro: `With age${kind === 'hybrid' ? ' 1.3 or newer' : ''}, zstd, GNU tar, jq, Python 3 and the scripts in bin/ of the package. In full: docs/recovery.md. Begin with umask 077.`,
    steps: [
      key,
      {
        text: 'The state, from a copy of one backend in the folder COPY:',
        command: 'sh holdfast-recover.sh --identity key.txt --repository COPY --target DIR',
      },
      {
        text: `The agent's key${wrappedAgentKey ? ` (also on page ${secretPagesOf(secret) + 1})` : ''}:`,
        command: `age -d -i key.txt -o agent.key COPY/identity/${file}*.age`,
      },
      { text: 'No scripts? This unpacks a pack:', command: 'age -d -i key.txt PACK | zstd -d | tar x' },
      { text: 'In the end: shred -u key.txt' },
    ],
  };
}

function secretPagesOf(secret: PaperSecret): number {
  return secret.kind === 'words' ? 1 : secret.shares.length;
}

function keep(last: string): { heading: string; text: string } {
  return {
    heading: 'How to keep it',
    text: `On paper only: no photo, no file, no cloud. Dry and dark, away from the agent's machine and from the backends. Once a quarter, try it: holdfast paper verify. And ${last}`,
  };
}

function agentKeyCodes({ wrappedAgentKey }: PaperDocument): CodeBox[] {
  if (!wrappedAgentKey) return [];
  const body = Buffer.from(wrappedAgentKey).toString('base64');
  return codeBoxes('agent-key', body, 'Agent key', 'encrypted', AGENT_KEY_CODE_CHARS);
}

function codeBoxes(type: CodeType, body: string, heading: string, note: string, partChars = body.length): CodeBox[] {
  const texts = formatCode({ type, body }, partChars);
  return texts.map((text, i) => ({
    type,
    heading: texts.length === 1 ? heading : `${heading}, part ${i + 1} of ${texts.length}`,
    note,
    text,
  }));
}

function rowsOf(words: readonly string[], columns: number): string[][] {
  return Array.from({ length: Math.ceil(words.length / columns) }, (_, row) =>
    words.slice(row * columns, (row + 1) * columns),
  );
}

/** In lines of at most `chars`; all but the first are indented. */
function wrap(text: string, chars: number): string[] {
  const lines = [text.slice(0, chars)];
  for (let at = chars; at < text.length; at += chars - 2) lines.push(`  ${text.slice(at, at + chars - 2)}`);
  return lines;
}

function cut(text: string, chars: number): string {
  return text.length <= chars ? text : `${text.slice(0, chars - 3)}...`;
}
