import { ignoredLabel } from '../models/language_model.ts';
import type { CounterRandom } from './random.ts';

export interface MaskingOptions {
  maskId: number;
  vocabularySize: number;
  /** Share of the positions that are predicted. crammedBERT: 0.25. */
  share?: number;
  /** In place of a share: so many positions, each of them [MASK], as in a text that someone wants filled. */
  blanks?: number;
}

/** Rounds halves to even, as Python does, so that counts agree with crammedBERT's. */
export function roundHalfToEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** How many positions of a sequence of `length` tokens are predicted, and how many of those become [MASK] and a random token; the rest stay. */
export function maskingCounts(length: number, share = 0.25): { predicted: number; masked: number; random: number } {
  const predicted = roundHalfToEven(share * length);
  const masked = roundHalfToEven(0.8 * predicted);
  return { predicted, masked, random: roundHalfToEven(0.9 * predicted) - masked };
}

/**
 * Masks one sequence in place as crammedBERT does (arXiv 2212.14034): exactly 25 % of the positions are predicted, special tokens
 * not exempt; of these 80 % become [MASK], 10 % a random token of the vocabulary, 10 % stay as they are. Or `blanks` positions.
 *
 * @param ids [length], changed in place
 * @param labels [length], overwritten: the original id where predicted, {@link ignoredLabel} elsewhere
 */
export function maskSequence(ids: Int32Array, labels: Int32Array, random: CounterRandom, options: MaskingOptions): void {
  const { length } = ids;
  const { blanks, share } = options;
  const counts = blanks === undefined ? maskingCounts(length, share) : { predicted: blanks, masked: blanks, random: 0 };
  const positions = Int32Array.from({ length }, (_, position) => position);
  labels.fill(ignoredLabel);
  for (let i = 0; i < counts.predicted; i++) {
    // Fisher-Yates, stopped after the positions that are needed.
    const other = i + random.below(length - i);
    const position = positions[other];
    positions[other] = positions[i];
    labels[position] = ids[position];
    if (i < counts.masked) ids[position] = options.maskId;
    else if (i < counts.masked + counts.random) ids[position] = random.below(options.vocabularySize);
  }
}
