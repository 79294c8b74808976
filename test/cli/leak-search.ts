/** Looks for secrets in bytes, in whatever form they may have got there. */

export interface Secrets {
  /** Words that nobody may see one after the other, by name. */
  phrases: Readonly<Record<string, readonly string[]>>;
  /** Raw keys, by name; their hexadecimal, base64 and decimal forms count too. */
  keys: Readonly<Record<string, Uint8Array>>;
  /** Found as they are, in any case of their letters. */
  texts: Readonly<Record<string, string>>;
}

/** The names of the secrets of which something is found, sorted. `program`: the bytes are compiled code, whose texts hold many words. */
export type LeakSearch = (bytes: Uint8Array, options?: { program?: boolean }) => string[];

/** Such a part of a phrase in one place, in any order, is no chance. */
const TOO_MUCH_IN_ONE_PLACE = 1 / 3;
/** So many letters of a word tell it from all others. */
const LETTERS = 4;

/**
 * What is found: two words of a phrase in order with only white space between; three in order with anything but letters between,
 * also when only four letters of each are there; a third of them in any order. Pairs that `programText`, what the program says by itself, has too
 * are no finding, and in a program's code only threes are.
 */
export function leakSearch(secrets: Secrets, programText: string): LeakSearch {
  const innocent = new Set(pairsIn(programText.toLowerCase()));
  const phrases = Object.entries(secrets.phrases).map(([name, words]) => ({
    name,
    pairs: new Set(runsOf(words, 2).filter((pair) => !innocent.has(pair))),
    threes: runsOf(words.map(short), 3),
    words: new Set(words),
    tooMany: Math.ceil(words.length * TOO_MUCH_IN_ONE_PLACE),
  }));
  const keys = Object.entries(secrets.keys).map(([name, key]) => ({
    name,
    key: Buffer.from(key),
    forms: formsOf(key),
  }));
  const texts = Object.entries(secrets.texts).map(([name, text]) => ({ name, text: text.toLowerCase() }));

  return (bytes, { program = false } = {}) => {
    const content = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const found = new Set<string>();
    const plain = content.toString('latin1');
    // Texts of two bytes a character, as some programs keep them, are read with the zeros left out.
    for (const latin1 of plain.includes('\0') ? [plain, plain.replaceAll('\0', '')] : [plain]) {
      const text = latin1.toLowerCase();
      // What stands for a line end in JSON and in source is one.
      const unescaped = text.replaceAll(/\\[nrt]/g, ' ');
      const words = unescaped.match(/[a-z]+/g) ?? [];
      const inARow = ` ${words.map(short).join(' ')} `;
      const pairs = program ? [] : pairsIn(unescaped);
      const distinct = program ? [] : [...new Set(words)];
      for (const phrase of phrases) {
        if (
          pairs.some((pair) => phrase.pairs.has(pair)) ||
          phrase.threes.some((three) => inARow.includes(` ${three} `)) ||
          distinct.filter((word) => phrase.words.has(word)).length >= phrase.tooMany
        )
          found.add(phrase.name);
      }
      const dense = latin1.replaceAll(/\s|\\[nrt]/g, '');
      const base64 = dense.replaceAll('-', '+').replaceAll('_', '/');
      const lower = dense.toLowerCase();
      for (const { name, key, forms } of keys) {
        if (
          content.includes(key) ||
          lower.includes(forms.hex) ||
          lower.includes(forms.decimal) ||
          forms.base64.some((form) => base64.includes(form))
        )
          found.add(name);
      }
      for (const { name, text: secret } of texts) if (text.includes(secret)) found.add(name);
    }
    return [...found].sort();
  };
}

const short = (word: string) => word.slice(0, LETTERS);

function runsOf(words: readonly string[], length: number): string[] {
  return words.slice(length - 1).map((_, i) => words.slice(i, i + length).join(' '));
}

/** Neighbours with only white space between, each once. */
function pairsIn(lowerCase: string): string[] {
  const pairs = new Set<string>();
  for (const [text] of lowerCase.matchAll(/[a-z]+(\s+[a-z]+)+/g))
    for (const pair of runsOf(text.split(/\s+/), 2)) pairs.add(pair);
  return [...pairs];
}

function formsOf(key: Uint8Array): { hex: string; decimal: string; base64: string[] } {
  return {
    hex: Buffer.from(key).toString('hex'),
    decimal: [...key].join(','),
    // As a part of something longer a key may begin at any of three places in a group of base64.
    base64: [0, 1, 2].map((before) => {
      const text = Buffer.concat([Buffer.alloc(before), key]).toString('base64');
      return text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + key.length) * 8) / 6));
    }),
  };
}
