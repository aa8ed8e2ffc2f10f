import { describe, expect, test } from 'vitest';
import { ignoredLabel } from '../../src/models/language_model.ts';
import { maskingCounts, maskSequence, roundHalfToEven } from '../../src/training/masking.ts';
import { CounterRandom, randomStream } from '../../src/training/random.ts';

const maskId = 4;
const vocabularySize = 1000;

function masked(seed: number, index: number, length = 128, blanks?: number) {
  const original = Int32Array.from({ length }, (_, position) => 5 + ((position * 31 + index) % 900));
  const ids = original.slice();
  const labels = new Int32Array(length);
  maskSequence(ids, labels, new CounterRandom(seed, randomStream.masking, index), { maskId, vocabularySize, blanks });
  return { original, ids, labels };
}

test('counts are rounded as Python rounds', () => {
  expect([0.5, 1.5, 2.5, 2.4, 2.6, 25.6, 3].map(roundHalfToEven)).toEqual([0, 2, 2, 2, 3, 26, 3]);
  expect(maskingCounts(128)).toEqual({ predicted: 32, masked: 26, random: 3 });
  expect(maskingCounts(32)).toEqual({ predicted: 8, masked: 6, random: 1 });
  expect(maskingCounts(10)).toEqual({ predicted: 2, masked: 2, random: 0 });
});

describe('masking a sequence', () => {
  test.each([16, 100, 128, 512])('of %i tokens: exact counts, labels hold the originals, the rest is untouched', (length) => {
    const { predicted, masked: maskedCount } = maskingCounts(length);
    for (let index = 0; index < 50; index++) {
      const { original, ids, labels } = masked(7, index, length);
      const positions = [...labels.keys()].filter((position) => labels[position] !== ignoredLabel);
      expect(positions).toHaveLength(predicted);
      for (const position of positions) expect(labels[position]).toBe(original[position]);
      for (const position of ids.keys()) if (labels[position] === ignoredLabel) expect(ids[position]).toBe(original[position]);
      expect(positions.filter((position) => ids[position] === maskId).length).toBeGreaterThanOrEqual(maskedCount);
    }
  });

  test('of which so many are to be blanks: those are predicted, and all of them [MASK]', () => {
    for (const blanks of [1, 5, 16]) {
      const { original, ids, labels } = masked(7, 0, 16, blanks);
      const positions = [...labels.keys()].filter((position) => labels[position] !== ignoredLabel);
      expect(positions).toHaveLength(blanks);
      for (const position of ids.keys())
        expect([ids[position], labels[position]]).toEqual(
          positions.includes(position) ? [maskId, original[position]] : [original[position], ignoredLabel],
        );
    }
  });

  test('over many sequences: every position as often as any other, 80 / 10 / 10, random tokens from the whole vocabulary', () => {
    const length = 128;
    const sequences = 4000;
    const perPosition = new Int32Array(length);
    const random = new Map<number, number>();
    let maskedCount = 0;
    let kept = 0;
    for (let index = 0; index < sequences; index++) {
      const { original, ids, labels } = masked(3, index);
      for (let position = 0; position < length; position++) {
        if (labels[position] === ignoredLabel) continue;
        perPosition[position]++;
        if (ids[position] === maskId) maskedCount++;
        else if (ids[position] === original[position]) kept++;
        else random.set(ids[position], (random.get(ids[position]) ?? 0) + 1);
      }
    }
    // 1000 expected at each position, standard deviation 27.
    expect(Math.min(...perPosition)).toBeGreaterThan(850);
    expect(Math.max(...perPosition)).toBeLessThan(1150);
    const all = sequences * 32;
    expect(maskedCount / all).toBeCloseTo(26 / 32, 2);
    expect(kept / all).toBeCloseTo(3 / 32, 2);
    expect(random.size).toBeGreaterThan(0.99 * vocabularySize);
    expect(Math.max(...random.keys())).toBe(vocabularySize - 1);
    expect(Math.min(...random.keys())).toBe(0);
  });

  test('seed and number of the sequence decide alone', () => {
    expect(masked(1, 5)).toEqual(masked(1, 5));
    expect(masked(1, 5).labels).not.toEqual(masked(2, 5).labels);
    const pattern = (index: number) => [...masked(1, index).labels].map((label) => label !== ignoredLabel);
    expect(pattern(5)).not.toEqual(pattern(6));
    expect(pattern(5)).not.toEqual(pattern(5 + 2 ** 32));
  });
});
