/**
 * How vocabularies of BPE and Unigram spell words: bytes as letters (ByteLevel), spaces as a mark (Metaspace). Both cut a text into words and
 * write these anew, unlike other pre-tokenizers, which only cut.
 */
import { compilePattern } from './pattern.ts';

export type SpellingConfig =
  | { type: 'ByteLevel'; add_prefix_space: boolean; use_regex: boolean }
  | { type: 'Metaspace'; replacement: string; prepend: boolean; split: boolean };

/** A word as the vocabulary spells it. */
export interface SpelledWord {
  text: string;
  /** For each code point of `text`, the code point of the original that it stands for, counted from the original's beginning. */
  places(): number[];
}

export type Spelling = (text: string) => SpelledWord[];

export function createSpelling(config: SpellingConfig): Spelling {
  return config.type === 'ByteLevel' ? byteLevel(config) : metaspace(config);
}

/** GPT-2's: contractions, words and numbers with a space before them, punctuation, white space. */
export const gpt2Words = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

function byteLevel({ add_prefix_space: addsSpace, use_regex: cuts }: SpellingConfig & { type: 'ByteLevel' }): Spelling {
  const matches = cuts ? compilePattern({ Regex: gpt2Words }) : undefined;
  return (original) => {
    const added = addsSpace && !original.startsWith(' ') ? 1 : 0;
    const text = added ? ` ${original}` : original;
    const words: SpelledWord[] = [];
    // Counted only where they are asked for.
    let [counted, points] = [0, 0];
    const pointsBefore = (unit: number) => {
      for (; counted < unit; counted += (text.codePointAt(counted) as number) > 0xffff ? 2 : 1) points++;
      return points;
    };
    const add = (start: number, end: number) => {
      const word = text.slice(start, end);
      words.push({
        text: toByteLetters(word),
        places() {
          if (start < counted) [counted, points] = [0, 0];
          const first = pointsBefore(start);
          return Array.from(word).flatMap((character, index) =>
            new Array<number>(utf8Length(character)).fill(Math.max(0, first + index - added)),
          );
        },
      });
    };
    if (!matches) add(0, text.length);
    else {
      let position = 0;
      for (const { start, end } of matches(text)) {
        if (start > position) add(position, start);
        if (end > start) add(start, end);
        position = end;
      }
      if (position < text.length) add(position, text.length);
    }
    return words;
  };
}

function metaspace({ replacement, prepend, split }: SpellingConfig & { type: 'Metaspace' }): Spelling {
  return (original) => {
    const marked = original.replaceAll(' ', replacement);
    const added = prepend && !marked.startsWith(replacement) ? 1 : 0;
    const text = added ? replacement + marked : marked;
    const words: SpelledWord[] = [];
    let points = -added;
    for (let start = 0; start < text.length; ) {
      // The next word begins at the next mark.
      const mark = split ? text.indexOf(replacement, start + 1) : -1;
      const word = text.slice(start, mark < 0 ? text.length : mark);
      const first = points;
      words.push({ text: word, places: () => Array.from(word, (_, index) => Math.max(0, first + index)) });
      for (const _ of word) points++;
      start += word.length;
    }
    return words;
  };
}

const utf8Length = (character: string): number => {
  const code = character.codePointAt(0) as number;
  if (code < 0x80) return 1;
  if (code < 0x800) return 2;
  return code < 0x10000 ? 3 : 4;
};

/** GPT-2's letter for each byte: what is printed stands for itself, the rest for letters from 256 on. */
export const byteLetters: readonly string[] = (() => {
  let next = 256;
  const isPrinted = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrinted(byte) ? byte : next++));
})();
/** What a space is written as. */
export const spaceLetter = byteLetters[0x20];
const byteOfLetter = new Map(byteLetters.map((letter, byte) => [letter, byte]));
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

export function toByteLetters(text: string): string {
  let letters = '';
  for (const byte of encoder.encode(text)) letters += byteLetters[byte];
  return letters;
}

/** The bytes of a token in letters for bytes; a token that has other letters stands for itself. */
export function tokenBytes(token: string): Uint8Array {
  const own = Array.from(token, (letter) => byteOfLetter.get(letter));
  return own.includes(undefined) ? encoder.encode(token) : Uint8Array.from(own as number[]);
}

/** Tokens in letters for bytes as text; bytes that are no text become U+FFFD. */
export function joinByteLetters(tokens: readonly string[]): string {
  return decoder.decode(Uint8Array.from(tokens.flatMap((token) => Array.from(tokenBytes(token)))));
}

/** Tokens with a mark for a space as text; without the first token's where one is put before every text. */
export function joinMarked(tokens: readonly string[], { replacement, prepend }: SpellingConfig & { type: 'Metaspace' }): string {
  return tokens.map((token, index) => token.replaceAll(replacement, index === 0 && prepend ? '' : ' ')).join('');
}
