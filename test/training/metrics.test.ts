import { expect, test } from 'vitest';
import { accuracy, f1, matthewsCorrelation, pearson, spearman } from '../../src/training/metrics.ts';
import { goldenJson } from '../goldens.ts';

interface Case {
  labels: number[];
  predictions: number[];
  [score: string]: number | number[];
}
const { classification, regression } = goldenJson<{ classification: Case[]; regression: Case[] }>('metrics.json');

test.each(classification)('classification %#', ({ labels, predictions, ...scores }) => {
  expect(accuracy(predictions, labels)).toBeCloseTo(scores.accuracy as number, 12);
  expect(f1(predictions, labels)).toBeCloseTo(scores.f1 as number, 12);
  expect(matthewsCorrelation(predictions, labels)).toBeCloseTo(scores.matthews_correlation as number, 12);
});

test.each(regression)('regression %#', ({ labels, predictions, ...scores }) => {
  expect(pearson(predictions, labels)).toBeCloseTo(scores.pearson as number, 10);
  expect(spearman(predictions, labels)).toBeCloseTo(scores.spearmanr as number, 10);
});

test('equal values share their rank, and what does not vary correlates with nothing', () => {
  expect(spearman([1, 2, 2, 4], [10, 20, 20, 30])).toBeCloseTo(1, 12);
  expect(spearman([1, 1, 1], [1, 2, 3])).toBe(0);
  expect(f1([0, 0], [0, 0])).toBe(0);
});
