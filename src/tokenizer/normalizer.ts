import { InputError } from '../errors.ts';
import { type AlignedText, AlignedTextBuilder, codePointIndex } from './aligned_text.ts';
import { CharacterMap } from './character_map.ts';
import { compilePattern, type Pattern } from './pattern.ts';

/** The `normalizer` part of a tokenizer.json, for the types that tokenizers of encoders use. */
export type NormalizerConfig =
  | { type: 'Sequence'; normalizers: NormalizerConfig[] }
  | { type: 'BertNormalizer'; clean_text: boolean; handle_chinese_chars: boolean; strip_accents: boolean | null; lowercase: boolean }
  | { type: 'Replace'; pattern: Pattern; content: string }
  | { type: 'Strip'; strip_left: boolean; strip_right: boolean }
  | { type: 'Prepend'; prepend: string }
  | { type: 'Precompiled'; precompiled_charsmap: string }
  | { type: 'NFC' | 'NFD' | 'NFKC' | 'NFKD' | 'Lowercase' | 'StripAccents' };

/**
 * One step of normalization, in two forms with the same result: on a plain string, which is fast, and on a text that keeps track
 * of where its characters came from, which is what offsets need.
 */
export interface Normalizer {
  normalize(text: string): string;
  align(text: AlignedText): AlignedText;
}

/**
 * Builds the normalizer that `config` describes. The rules, odd ones included, are those of Hugging Face's `tokenizers`.
 * Its methods throw InputError where a text would become many times as long.
 */
export function createNormalizer(config: NormalizerConfig): Normalizer {
  const steps = stepsOf(config);
  return {
    normalize: (text) =>
      steps.reduce((before, step) => {
        const after = step.normalize(before);
        checkGrowth(after.length, text.length);
        return after;
      }, text),
    align: (text) =>
      steps.reduce((before, step) => {
        const after = step.align(before);
        checkGrowth(after.characters.length, text.characters.length);
        return after;
      }, text),
  };
}

/** Whether a normalizer lower-cases, as far as its type tells. */
export function lowerCases(config: NormalizerConfig | null): boolean {
  if (config?.type === 'Sequence') return config.normalizers.some(lowerCases);
  return config?.type === 'Lowercase' || (config?.type === 'BertNormalizer' && config.lowercase);
}

/** One character becomes 18 in NFKD, at most. */
function checkGrowth(length: number, before: number): void {
  const most = 10_000 + 64 * before;
  if (length > most)
    throw new InputError(
      `the tokenizer's normalizer makes more than ${most} characters of a text of ${before}, expected fewer: its tokenizer.json is no model's`,
    );
}

function stepsOf(config: NormalizerConfig): Normalizer[] {
  switch (config.type) {
    case 'Sequence':
      return config.normalizers.flatMap(stepsOf);
    case 'BertNormalizer': {
      const steps: Normalizer[] = [];
      if (config.clean_text) steps.push(cleanText);
      if (config.handle_chinese_chars) steps.push(spaceChineseCharacters);
      if (config.strip_accents ?? config.lowercase) steps.push(unicodeForm('NFD'), remove(/\p{Mn}/u));
      if (config.lowercase) steps.push(lowercase);
      return steps;
    }
    case 'Replace':
      return [replace(config.pattern, config.content)];
    case 'Strip':
      return [strip(config.strip_left, config.strip_right)];
    case 'Prepend':
      return [prepend(config.prepend)];
    case 'Precompiled':
      return [new CharacterMap(config.precompiled_charsmap)];
    case 'Lowercase':
      return [lowercase];
    case 'StripAccents':
      return [remove(/\p{M}/u)];
    default:
      return [unicodeForm(config.type)];
  }
}

/** Each character becomes `map(character)`: none, one or several characters, which all keep its place. */
function mapCharacters(normalize: (text: string) => string, map: (character: string) => string): Normalizer {
  return {
    normalize,
    align(text) {
      const result = new AlignedTextBuilder(text);
      for (let i = 0; i < text.characters.length; i += 1) {
        for (const character of map(text.characters[i])) result.push(character, i);
      }
      return result;
    },
  };
}

/** Removes each character that matches `pattern`, which matches single characters only. */
function remove(pattern: RegExp): Normalizer {
  const everywhere = new RegExp(pattern, `${pattern.flags}g`);
  return mapCharacters(
    (text) => (isAscii(text) ? text : text.replace(everywhere, '')),
    (character) => (pattern.test(character) ? '' : character),
  );
}

/** Character by character, unlike JavaScript's own, which knows that a sigma at the end of a word has a form of its own. */
const lowercase = mapCharacters(
  (text) => (text.includes('Σ') ? text.replaceAll('Σ', 'σ') : text).toLowerCase(),
  (character) => character.toLowerCase(),
);

const whitespace = /\p{White_Space}/u;
const control = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\ufffd]/u;

function clean(character: string): string {
  if (character === '\t' || character === '\n' || character === '\r') return ' ';
  // First the control characters, for some of them, such as U+0085, count as whitespace too.
  if (control.test(character)) return '';
  return whitespace.test(character) ? ' ' : character;
}

/** BERT's cleaning: control characters and U+FFFD go, every kind of whitespace becomes a space. */
const cleanText = mapCharacters((text) => text.replace(/[\p{White_Space}\p{Cc}\p{Cf}\p{Co}\p{Cs}\ufffd]/gu, clean), clean);

// From U+2B920, where the block begins at U+2B820, because the reference has it so.
const chinese =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/u;
const chineseEverywhere = new RegExp(chinese, 'gu');

/** Puts a space on either side of each Chinese character. */
const spaceChineseCharacters = mapCharacters(
  (text) => (isAscii(text) ? text : text.replace(chineseEverywhere, ' $& ')),
  (character) => (chinese.test(character) ? ` ${character} ` : character),
);

function strip(left: boolean, right: boolean): Normalizer {
  const leading = /^\p{White_Space}+/u;
  return {
    normalize(text) {
      const start = left ? (leading.exec(text)?.[0].length ?? 0) : 0;
      let end = text.length;
      while (right && end > start && whitespace.test(text[end - 1])) end -= 1;
      return text.slice(start, end);
    },
    align(text) {
      let start = 0;
      let end = text.characters.length;
      while (left && start < end && whitespace.test(text.characters[start])) start += 1;
      while (right && end > start && whitespace.test(text.characters[end - 1])) end -= 1;
      return {
        characters: text.characters.slice(start, end),
        starts: text.starts.slice(start, end),
        ends: text.ends.slice(start, end),
        first: text.first,
      };
    },
  };
}

function prepend(prefix: string): Normalizer {
  return {
    normalize: (text) => (text === '' ? '' : prefix + text),
    align(text) {
      const result = new AlignedTextBuilder(text);
      if (text.characters.length > 0) for (const character of prefix) result.push(character, 0);
      text.characters.forEach((character, index) => {
        result.push(character, index);
      });
      return result;
    },
  };
}

function replace(pattern: Pattern, content: string): Normalizer {
  const matches = compilePattern(pattern);
  return {
    normalize(text) {
      let result = '';
      let position = 0;
      for (const { start, end } of matches(text)) {
        result += text.slice(position, start) + content;
        position = end;
        checkGrowth(result.length, text.length);
      }
      return result + text.slice(position);
    },
    align(text) {
      const result = new AlignedTextBuilder(text);
      const plain = text.characters.join('');
      const indices = codePointIndex(text.characters);
      let position = 0;
      for (const match of matches(plain)) {
        const start = indices[match.start];
        const end = indices[match.end];
        for (; position < start; position += 1) result.push(text.characters[position], position);
        // What replaces a match counts as inserted after it, so it takes the place of the last character replaced.
        for (const character of content) result.push(character, end - 1);
        position = end;
        checkGrowth(result.characters.length, text.characters.length);
      }
      for (; position < text.characters.length; position += 1) result.push(text.characters[position], position);
      return result;
    },
  };
}

const mark = /\p{M}/u;

function unicodeForm(form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): Normalizer {
  const decomposed = form === 'NFC' || form === 'NFD' ? 'NFD' : 'NFKD';

  /** Normalizes the characters from `start` to `end`, which do not interact with their neighbors. */
  function alignSegment(text: AlignedText, start: number, end: number, result: AlignedTextBuilder): void {
    const segment = text.characters.slice(start, end);
    // Every piece of a decomposed character but its first counts as inserted; of like pieces the first is taken first.
    const pieces = new Map<string, boolean[]>();
    for (const character of segment)
      Array.from(character.normalize(decomposed)).forEach((piece, index) => {
        const found = pieces.get(piece);
        if (found) found.push(index > 0);
        else pieces.set(piece, [index > 0]);
      });
    const taken = new Map<string, number>();
    let consumed = 0;
    for (const character of segment.join('').normalize(form)) {
      let count = 0;
      for (const wanted of character.normalize(decomposed)) {
        const next = taken.get(wanted) ?? 0;
        const inserted = pieces.get(wanted)?.[next];
        if (inserted === undefined) continue;
        taken.set(wanted, next + 1);
        if (!inserted) count += 1;
      }
      // A composed character takes the place of the first of its parts.
      result.push(character, count === 0 ? start + consumed - 1 : start + consumed);
      consumed += count;
    }
  }

  return {
    normalize: (text) => (isAscii(text) ? text : text.normalize(form)),
    align(text) {
      const { characters } = text;
      const result = new AlignedTextBuilder(text);
      let start = 0;
      let segment = '';
      for (let i = 0; i < characters.length; i += 1) {
        const character = characters[i];
        const apart =
          !mark.test(character) && (segment + character).normalize(form) === segment.normalize(form) + character.normalize(form);
        if (apart && i > 0) {
          alignSegment(text, start, i, result);
          start = i;
          segment = '';
        }
        segment += character;
      }
      if (start < characters.length) alignSegment(text, start, characters.length, result);
      return result;
    },
  };
}

function isAscii(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII includes the control characters
  return !/[^\x00-\x7f]/.test(text);
}
