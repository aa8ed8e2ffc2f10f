import { compilePattern, type Matcher, type Pattern, regExpMatcher } from './pattern.ts';

type SplitBehavior = 'Removed' | 'Isolated' | 'MergedWithPrevious' | 'MergedWithNext' | 'Contiguous';

/** The `pre_tokenizer` part of a tokenizer.json, for the types that WordPiece tokenizers use. */
export type PreTokenizerConfig =
  | { type: 'Sequence'; pretokenizers: PreTokenizerConfig[] }
  | { type: 'BertPreTokenizer' | 'Whitespace' | 'WhitespaceSplit' }
  | { type: 'Punctuation'; behavior: SplitBehavior }
  | { type: 'Digits'; individual_digits: boolean }
  | { type: 'CharDelimiterSplit'; delimiter: string }
  | { type: 'Split'; pattern: Pattern; behavior: SplitBehavior; invert: boolean };

/**
 * Cuts a text into words. Returns start, end, start, end, ... in UTF-16 units, in rising order; what lies between is dropped.
 */
export type PreTokenizer = (text: string) => number[];

/** Builds the pre-tokenizer that `config` describes. The rules are those of Hugging Face's `tokenizers`. */
export function createPreTokenizer(config: PreTokenizerConfig): PreTokenizer {
  switch (config.type) {
    case 'Sequence':
      return sequence(config.pretokenizers.map(createPreTokenizer));
    case 'BertPreTokenizer':
      return byClass(/\p{White_Space}/u, /[!-/:-@[-`{-~\p{P}]/u, 'alone');
    case 'Whitespace':
      return byClass(/\p{White_Space}/u, /[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u, 'together');
    case 'WhitespaceSplit':
      return byClass(/\p{White_Space}/u, undefined, 'together');
    case 'Digits':
      return byClass(undefined, /\p{N}/u, config.individual_digits ? 'alone' : 'together');
    case 'Punctuation':
      return byPattern(regExpMatcher(/[!-/:-@[-`{-~\p{P}]/gu), config.behavior, false);
    case 'CharDelimiterSplit':
      return byPattern(compilePattern({ String: config.delimiter }), 'Removed', false);
    case 'Split':
      return byPattern(compilePattern(config.pattern), config.behavior, config.invert);
  }
}

const separatorClass = 0;
const wordClass = 1;
const otherClass = 2;

/**
 * The common case, by the class of each character: separators are dropped; characters of the class `other` form words `together`,
 * or each one `alone`; all the rest form words.
 */
function byClass(separator: RegExp | undefined, other: RegExp | undefined, grouping: 'together' | 'alone'): PreTokenizer {
  const classify = (character: string): number => {
    if (separator?.test(character)) return separatorClass;
    return other?.test(character) ? otherClass : wordClass;
  };
  const asciiClass = Uint8Array.from({ length: 128 }, (_, code) => classify(String.fromCharCode(code)));
  const alone = grouping === 'alone';
  return (text) => {
    const spans: number[] = [];
    let start = 0;
    let previous = separatorClass;
    for (let position = 0; position < text.length; ) {
      const code = text.charCodeAt(position);
      let length = 1;
      let current: number;
      if (code < 128) {
        current = asciiClass[code];
      } else {
        const character = String.fromCodePoint(text.codePointAt(position) as number);
        length = character.length;
        current = classify(character);
      }
      if (current !== previous || (alone && current === otherClass)) {
        if (previous !== separatorClass) spans.push(start, position);
        start = position;
        previous = current;
      }
      position += length;
    }
    if (previous !== separatorClass) spans.push(start, text.length);
    return spans;
  };
}

/** Cuts wherever a pattern matches (`invert`: wherever it does not); `behavior` says what becomes of the matches. */
function byPattern(matches: Matcher, behavior: SplitBehavior, invert: boolean): PreTokenizer {
  return (text) => {
    const pieces: { start: number; end: number; match: boolean }[] = [];
    let position = 0;
    const add = (end: number, match: boolean): void => {
      // What matches nothing separates what it stands between.
      if (end > position || (match && behavior === 'Contiguous')) pieces.push({ start: position, end, match: match !== invert });
      position = end;
    };
    for (const { start, end } of matches(text)) {
      add(start, false);
      add(end, true);
    }
    add(text.length, false);

    const spans: number[] = [];
    let previousMatch = false;
    pieces.forEach(({ start, end, match }, index) => {
      const joins =
        index > 0 &&
        ((behavior === 'MergedWithPrevious' && match && !previousMatch) ||
          (behavior === 'MergedWithNext' && !match && previousMatch) ||
          (behavior === 'Contiguous' && match === previousMatch));
      if (start === end || (behavior === 'Removed' && match)) {
        // dropped
      } else if (joins) {
        spans[spans.length - 1] = end;
      } else {
        spans.push(start, end);
      }
      previousMatch = match;
    });
    return spans;
  };
}

function sequence(steps: readonly PreTokenizer[]): PreTokenizer {
  return (text) => {
    let spans = [0, text.length];
    for (const step of steps) {
      const finer: number[] = [];
      for (let i = 0; i < spans.length; i += 2) {
        for (const position of step(text.slice(spans[i], spans[i + 1]))) finer.push(spans[i] + position);
      }
      spans = finer;
    }
    return spans;
  };
}

/** A slice keeps the whole text that it was cut from alive; this copy does not. */
export function copyOfWord(word: string): string {
  const codes: number[] = [];
  for (let i = 0; i < word.length; i += 1) codes.push(word.charCodeAt(i));
  return String.fromCharCode(...codes);
}
