/**
 * SentencePiece's normalization by a compiled table (the normalizer Precompiled), as Hugging Face's spm_precompiled reads it: a trie of
 * UTF-8 bytes (darts-clone's double array), whose values are places in a text of replacements, each ended by a zero.
 */
import { InputError } from '../errors.ts';
import { type AlignedText, AlignedTextBuilder } from './aligned_text.ts';
import type { Normalizer } from './normalizer.ts';

/** Bytes of a grapheme that is looked up as a whole, at most one less. */
const longestGrapheme = 6;

/** Bytes that stand for a grapheme: Unicode's longest have some fifty. */
const longestReplacement = 256;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class CharacterMap implements Normalizer {
  private readonly units: Uint32Array;
  private readonly replacements: Uint8Array;
  private readonly graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

  /** @param table the `precompiled_charsmap`, base64. Throws RangeError if it is none. Its methods throw InputError where it is damaged. */
  constructor(table: string) {
    const bytes = Uint8Array.from(atob(table), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const size = bytes.length < 4 ? -1 : view.getUint32(0, true);
    if (size < 4 || size % 4 !== 0 || 4 + size > bytes.length) throw new RangeError('is no table of characters');
    this.units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.replacements = bytes.subarray(4 + size);
  }

  normalize(text: string): string {
    let result = '';
    for (const { segment } of this.graphemes.segment(text)) for (const { replaced } of this.parts(segment)) result += replaced;
    return result;
  }

  align(text: AlignedText): AlignedText {
    const result = new AlignedTextBuilder(text);
    let place = 0;
    for (const { segment } of this.graphemes.segment(text.characters.join('')))
      for (const { original, replaced } of this.parts(segment)) {
        const count = Array.from(original).length;
        // What is more than was there takes the place of the last character before it.
        Array.from(replaced).forEach((character, index) => {
          result.push(character, place + Math.min(index, count - 1));
        });
        place += count;
      }
    return result;
  }

  /** A grapheme as a whole or, where the table has nothing for that, its characters, with what they become. */
  private *parts(grapheme: string): Generator<{ original: string; replaced: string }> {
    const bytes = encoder.encode(grapheme);
    const whole = bytes.length < longestGrapheme ? this.find(bytes) : undefined;
    if (whole !== undefined) yield { original: grapheme, replaced: whole };
    else for (const original of grapheme) yield { original, replaced: this.find(encoder.encode(original)) ?? original };
  }

  /** What stands for the shortest beginning of the bytes that the table has. */
  private find(bytes: Uint8Array): string | undefined {
    const { units } = this;
    let node = offsetOf(units[0]);
    for (const byte of bytes) {
      if (byte === 0) return undefined;
      node ^= byte;
      const unit = units[node];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return undefined;
      node ^= offsetOf(unit);
      if ((unit >>> 8) & 1) return this.replacement((units[node] ?? 0) & 0x7fffffff);
    }
    return undefined;
  }

  private replacement(start: number): string {
    const found = this.replacements.indexOf(0, start);
    const end = found < 0 ? this.replacements.length : found;
    if (end - start > longestReplacement)
      throw new InputError(
        `the tokenizer's precompiled_charsmap puts ${end - start} bytes in place of a character, expected at most ${longestReplacement}: its tokenizer.json is damaged`,
      );
    return decoder.decode(this.replacements.subarray(start, end));
  }
}

/** Whether a `precompiled_charsmap` is a table that can be read. */
export function isCharacterMap(table: string): boolean {
  try {
    new CharacterMap(table);
    return true;
  } catch {
    return false;
  }
}

const offsetOf = (unit: number): number => ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;
