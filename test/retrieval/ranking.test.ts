import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ndcg, recall, reciprocalRank, TopDocuments } from '../../src/retrieval/ranking.ts';

const grades = new Map([
  ['a', 2],
  ['b', 1],
  ['c', 1],
]);

test('nDCG: gains over log2(rank + 1), against the best order', () => {
  const ideal = 2 + 1 / Math.log2(3) + 1 / Math.log2(4);
  expect(ndcg(['a', 'b', 'c', 'x'], grades, 10)).toBeCloseTo(1, 12);
  expect(ndcg(['x', 'a', 'y', 'b'], grades, 10)).toBeCloseTo((2 / Math.log2(3) + 1 / Math.log2(5)) / ideal, 12);
  // Of more relevant documents than the measure looks at, the best order has the best of them.
  expect(ndcg(['b', 'c'], grades, 2)).toBeCloseTo((1 + 1 / Math.log2(3)) / (2 + 1 / Math.log2(3)), 12);
  expect(ndcg(['x', 'a'], grades, 1)).toBe(0);
  expect(ndcg([], grades, 10)).toBe(0);
});

test('recall and the reciprocal rank', () => {
  expect(recall(['x', 'b', 'a'], grades, 2)).toBeCloseTo(1 / 3, 12);
  expect(recall(['x', 'b', 'a'], grades, 3)).toBeCloseTo(2 / 3, 12);
  expect(reciprocalRank(['x', 'b', 'a'], grades, 10)).toBe(1 / 2);
  expect(reciprocalRank(['x', 'b', 'a'], grades, 1)).toBe(0);
});

test('the best of many, of equals the first', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 60 }), fc.integer({ min: 1, max: 9 }), (scores, k) => {
      const top = new TopDocuments(k);
      for (const [index, score] of scores.entries()) top.add(`${index}`, score);
      const order = scores.map((score, index) => ({ score, index })).sort((a, b) => b.score - a.score || a.index - b.index);
      expect(top.ids).toEqual(order.slice(0, k).map(({ index }) => `${index}`));
    }),
  );
});
