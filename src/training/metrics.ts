/** Scores of predictions against labels, as GLUE defines them. Arrays are of one length; where a score is not defined it is 0. */

import { mean } from './statistics.ts';

/** Share of predictions that are the label. */
export function accuracy(predictions: ArrayLike<number>, labels: ArrayLike<number>): number {
  return share(predictions, (prediction, i) => prediction === labels[i]);
}

/** Harmonic mean of precision and recall of class 1. */
export function f1(predictions: ArrayLike<number>, labels: ArrayLike<number>): number {
  const [both, predicted, actual] = [
    share(predictions, (prediction, i) => prediction === 1 && labels[i] === 1),
    share(predictions, (prediction) => prediction === 1),
    share(labels, (label) => label === 1),
  ];
  return predicted + actual > 0 ? (2 * both) / (predicted + actual) : 0;
}

/** The mean of each class's F1, over the classes that occur among predictions or labels. */
export function macroF1(predictions: ArrayLike<number>, labels: ArrayLike<number>): number {
  const counts = new Map<number, { both: number; either: number }>();
  const of = (value: number) =>
    counts.get(value) ?? (counts.set(value, { both: 0, either: 0 }).get(value) as { both: number; either: number });
  for (let i = 0; i < labels.length; i++) {
    of(predictions[i]).either++;
    of(labels[i]).either++;
    if (predictions[i] === labels[i]) of(labels[i]).both++;
  }
  return mean(Array.from(counts.values(), ({ both, either }) => (2 * both) / either));
}

/** Matthews' correlation of two classes, 0 and 1. */
export function matthewsCorrelation(predictions: ArrayLike<number>, labels: ArrayLike<number>): number {
  return pearson(predictions, labels);
}

/** The cosine of the angle between two vectors; 0 if one of them is all zeros. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [product, squaresA, squaresB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    squaresA += a[i] ** 2;
    squaresB += b[i] ** 2;
  }
  return squaresA > 0 && squaresB > 0 ? product / Math.sqrt(squaresA * squaresB) : 0;
}

/** Pearson's correlation. */
export function pearson(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const [meanA, meanB] = [mean(a), mean(b)];
  let [products, squaresA, squaresB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    products += (a[i] - meanA) * (b[i] - meanB);
    squaresA += (a[i] - meanA) ** 2;
    squaresB += (b[i] - meanB) ** 2;
  }
  const scale = Math.sqrt(squaresA) * Math.sqrt(squaresB);
  return scale > 0 ? products / scale : 0;
}

/** Spearman's correlation: Pearson's of the ranks, equal values sharing their mean rank. */
export function spearman(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return pearson(ranks(a), ranks(b));
}

function ranks(values: ArrayLike<number>): Float64Array {
  const order = Array.from({ length: values.length }, (_, i) => i).sort((i, j) => values[i] - values[j]);
  const result = new Float64Array(values.length);
  for (let start = 0, end = 0; start < order.length; start = end) {
    while (end < order.length && values[order[end]] === values[order[start]]) end++;
    for (let at = start; at < end; at++) result[order[at]] = (start + end - 1) / 2;
  }
  return result;
}

function share(values: ArrayLike<number>, holds: (value: number, index: number) => boolean): number {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (holds(values[i], i)) count++;
  return values.length > 0 ? count / values.length : 0;
}

/** Scores by name, as {@link metricNames} lists them. */
export type Scores = Record<string, number>;

/** The scores of a task with so many labels, the one that is compared by default first: 1 label is a regression. */
export function metricNames(labels: number): readonly string[] {
  if (labels === 1) return ['spearman', 'pearson'];
  return labels === 2 ? ['accuracy', 'f1', 'matthews', 'macroF1'] : ['accuracy', 'macroF1'];
}

/** All scores of a task. `predictions`: classes, or with one label numbers. */
export function scoresOf(labels: number, predictions: ArrayLike<number>, truth: ArrayLike<number>): Scores {
  const metrics = { accuracy, f1, matthews: matthewsCorrelation, macroF1, pearson, spearman } as Record<string, typeof accuracy>;
  return Object.fromEntries(metricNames(labels).map((name) => [name, metrics[name](predictions, truth)]));
}
