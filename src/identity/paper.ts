/** The recovery document: what it says. Its pages are made in paper-pages.ts and drawn in paper-pdf.ts. */
import type { Random } from '../clock.ts';
import { ageRecipientOf, sealAge, type AgeKind } from '../crypto/age.ts';
import { hex } from '../crypto/hash.ts';
import { parseShare, SHARE_WORDS, SHARES_MAX, splitSecret } from '../crypto/slip39.ts';
import { WORDS, wordsOf } from '../crypto/words.ts';
import { assert, HoldfastError } from '../errors.ts';
import { escapeForDisplay } from '../raw-path.ts';
import { fingerprint } from './agent-key.ts';
import { agentKey, recoveryKey, restoreIdentity, type Root } from './root.ts';

/** How many shares restore the root, of how many. */
export interface ShareScheme {
  threshold: number;
  count: number;
}

/** Everything that is printed. `sample` marks a document in which placeholders stand for every secret. */
export interface PaperDocument {
  sample: boolean;
  handle: string;
  /** `publicKey`: 64 hexadecimal digits. `generation`: of a derived key, the n of its label `identity/<n>`. */
  agent: { publicKey: string; fingerprint: string; origin: 'derived' | 'imported'; generation: number };
  /** Fingerprint of the recovery key; undefined where only its owner could tell (in a sample). */
  recovery: string | undefined;
  /** 32 hexadecimal digits. */
  repository: string;
  /** URLs as `withoutCredentials` leaves them. */
  backends: readonly { name: string; url: string }[];
  /** Of the restore identity. */
  kind: AgeKind;
  /** `holdfast/<version>`. */
  tool: string;
  /** When the document was made, milliseconds since the Unix epoch. */
  time: number;
  secret: PaperSecret;
  /** An imported agent key: an age file with the OpenSSH key file, for the restore identity alone. */
  wrappedAgentKey?: Uint8Array;
}

/** Secret. Words, or shares in their place: then neither words nor age key are on the document. */
export type PaperSecret =
  | { kind: 'words'; words: readonly string[]; ageIdentity: string }
  | { kind: 'shares'; scheme: ShareScheme; identifier: number; shares: readonly (readonly string[])[] };

/** What `paperOf` is given besides the root. */
export interface PaperFacts {
  handle: string;
  /** The agent's current public key, 64 hexadecimal digits. */
  agentPublicKey: string;
  origin: 'derived' | 'imported';
  repository: string;
  backends: readonly { name: string; url: string }[];
  kind: AgeKind;
  tool: string;
  time: number;
  shares?: ShareScheme | undefined;
  /** The OpenSSH file of an imported key. */
  agentKeyFile?: Uint8Array | undefined;
}

/** Nobody changes keys more often; it bounds the search for the generation of a key. */
const GENERATIONS_MAX = 1000;
/** As long as the wrapped form of a key with a short comment. */
const SAMPLE_KEY_BYTES = 588;

/** The document of a root. Throws `wrong_key` when the agent's key is said to derive from the root and does not. */
export async function paperOf(root: Root, facts: PaperFacts, random: Random): Promise<PaperDocument> {
  const { agentPublicKey, origin, shares, agentKeyFile, backends, ...plain } = facts;
  const identity = restoreIdentity(root, facts.kind);
  assert(origin === 'derived' || agentKeyFile !== undefined, 'an imported key comes with its file');
  return {
    ...plain,
    sample: false,
    agent: {
      publicKey: agentPublicKey,
      fingerprint: fingerprint(agentPublicKey),
      origin,
      generation: origin === 'derived' ? generationOf(root, agentPublicKey) : 0,
    },
    recovery: fingerprint(recoveryKey(root, 0).publicKey),
    backends: backends.map(({ name, url }) => ({ name, url: withoutCredentials(url) })),
    secret: shares ? sharesOf(root, shares, random) : { kind: 'words', words: wordsOf(root), ageIdentity: identity },
    ...(origin === 'imported' && agentKeyFile
      ? { wrappedAgentKey: (await sealAge(agentKeyFile, [await ageRecipientOf(identity)], random)).bytes }
      : {}),
  };
}

/** The same document with a placeholder for every secret; what it says otherwise, and how it looks, stays. */
export function sampleOf(
  facts: Omit<PaperFacts, 'agentKeyFile'> & { generation?: number; recovery?: string | undefined },
): PaperDocument {
  const { agentPublicKey, origin, shares, backends, generation = 0, recovery, ...plain } = facts;
  const word = 'SAMPLE';
  return {
    ...plain,
    sample: true,
    agent: {
      publicKey: agentPublicKey,
      fingerprint: fingerprint(agentPublicKey),
      origin,
      generation,
    },
    recovery,
    backends: backends.map(({ name, url }) => ({ name, url: withoutCredentials(url) })),
    secret: shares
      ? {
          kind: 'shares',
          scheme: shares,
          identifier: 0,
          shares: Array.from({ length: shares.count }, () => Array.from({ length: SHARE_WORDS }, () => word)),
        }
      : {
          kind: 'words',
          words: Array.from({ length: WORDS }, () => word),
          ageIdentity: `AGE-SECRET-KEY-${facts.kind === 'hybrid' ? 'PQ-' : ''}1${word.repeat(10)}`,
        },
    ...(origin === 'imported' ? { wrappedAgentKey: Buffer.from(word.repeat(SAMPLE_KEY_BYTES / word.length)) } : {}),
  };
}

/** `2of3`. Throws `usage` for anything that is no such scheme. */
export function parseShareScheme(text: string): ShareScheme {
  const [, threshold, count] = /^(\d{1,2})-?of-?(\d{1,2})$/i.exec(text.trim())?.map(Number) ?? [];
  if (threshold === undefined || count === undefined || threshold < 2 || threshold > count || count > SHARES_MAX) {
    throw new HoldfastError(
      'usage',
      `${JSON.stringify(text.slice(0, 40))} does not say how many shares restore, of how many`,
      {
        hint: `Write it like 2of3: at least 2 must be needed, and at most ${SHARES_MAX} can be made.`,
      },
    );
  }
  return { threshold, count };
}

function sharesOf(root: Root, scheme: ShareScheme, random: Random): PaperSecret {
  const phrases = splitSecret(root, [scheme], 1, random)[0];
  assert(phrases?.length === scheme.count, 'as many shares as were asked for');
  const shares = phrases.map((phrase) => phrase.split(' '));
  const [first] = shares.map(parseShare);
  assert(first, 'a share');
  return { kind: 'shares', scheme, identifier: first.identifier, shares };
}

/** The n for which `identity/<n>` gives the key. */
function generationOf(root: Root, publicKey: string): number {
  for (let generation = 0; generation < GENERATIONS_MAX; generation++)
    if (hex(agentKey(root, generation).publicKey) === publicKey) return generation;
  throw new HoldfastError('wrong_key', "the agent's key does not derive from these words", {
    hint: 'The words open the repository, but its agent has a key from elsewhere. Compare the repository with another backend.',
  });
}

const SECRET_NAME = /key|secret|token|pass|pwd|auth|sig|cred|sas|session|code|user|login|account/i;
/** A long run of letters and digits is no word that people choose. */
const LIKE_A_SECRET = /(?=[\w+/=~-]*\d)(?=[\w+/=~-]*[a-z])[\w+/=~-]{20,}|[\w+/=~-]{40,}/i;
/** What stands where a value was. */
const LEFT_OUT = '...';

/**
 * A URL without user, password and fragment, and with `...` for each query value that is, or looks like, a secret. What is not printable
 * ASCII is percent-encoded, so that the URL can be typed.
 */
export function withoutCredentials(url: string): string {
  const typed = url.replace(/[^\x21-\x7e]+/g, (text) =>
    [...Buffer.from(text)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );
  const [, head = '', query] = /^([^?#]*)(?:\?([^#]*))?/.exec(typed) ?? [];
  // Any number of slashes begins an authority, except for files, whose paths may hold an @.
  const place = head
    .replace(/^(file:\/\/)[^/]*@/i, '$1')
    .replace(/^((?!file:)[a-z][a-z0-9+.-]*:[/\\]*)[^/\\]*@/i, '$1');
  if (query === undefined) return place;
  const pairs = query.split('&').map((pair) => {
    const [, name = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(pair) ?? [];
    const plain = decoded(value ?? name);
    if (SECRET_NAME.test(decoded(name)) && value !== undefined) return `${name}=${LEFT_OUT}`;
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(plain) && value !== undefined) {
      const inner = withoutCredentials(plain);
      return inner === plain ? pair : `${name}=${encodeURIComponent(inner)}`;
    }
    if (!LIKE_A_SECRET.test(plain)) return pair;
    return value === undefined ? LEFT_OUT : `${name}=${LEFT_OUT}`;
  });
  return `${place}?${pairs.join('&')}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Text in the characters that every PDF reader has a font for (Latin-1); others as `\u{1f600}`. */
export function printable(text: string): string {
  return escapeForDisplay(text).replace(
    /[^\x20-\x7e\xa1-\xac\xae-\xff]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}
