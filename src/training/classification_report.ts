/** What a classifier gets right, class by class. */

import { accuracy, macroF1 } from './metrics.ts';

/** One class's share of the answers. Where a score is not defined (a class that is never predicted, say) it is 0. */
export interface ClassScores {
  label: string;
  /** Of the examples that were taken for this class, the share that is of it. */
  precision: number;
  /** Of the examples of this class, the share that was taken for it. */
  recall: number;
  /** The harmonic mean of both. */
  f1: number;
  /** Examples of this class. */
  examples: number;
}

export interface ClassificationReport {
  examples: number;
  accuracy: number;
  /** The mean of f1 over the classes that occur, as labels or predictions: each counts alike, however rare. */
  macroF1: number;
  /** The most frequent class, and its share of the examples: the accuracy of always answering it. */
  majority: { label: string; share: number };
  classes: ClassScores[];
  /** The confusion matrix, without its zeros, in the order of the classes: how many examples of `label` were taken for `predicted`. */
  confusion: { label: string; predicted: string; examples: number }[];
}

/** `predictions` and `labels`: a class's number for each example. `names`: what the classes are called, in their order. */
export function classificationReport(
  predictions: ArrayLike<number>,
  labels: ArrayLike<number>,
  names: readonly string[],
): ClassificationReport {
  // Without its zeros, for there may be very many classes.
  const cells = new Map<number, number>();
  const [right, predicted, actual] = Array.from({ length: 3 }, () => new Float64Array(names.length));
  for (let i = 0; i < labels.length; i++) {
    const cell = labels[i] * names.length + predictions[i];
    cells.set(cell, (cells.get(cell) ?? 0) + 1);
    predicted[predictions[i]]++;
    actual[labels[i]]++;
    if (predictions[i] === labels[i]) right[labels[i]]++;
  }
  const ratio = (part: number, whole: number) => (whole > 0 ? part / whole : 0);
  const classes = names.map(
    (label, index): ClassScores => ({
      label,
      precision: ratio(right[index], predicted[index]),
      recall: ratio(right[index], actual[index]),
      f1: ratio(2 * right[index], predicted[index] + actual[index]),
      examples: actual[index],
    }),
  );
  const most = actual.reduce((best, count, index) => (count > actual[best] ? index : best), 0);
  return {
    examples: labels.length,
    accuracy: accuracy(predictions, labels),
    macroF1: macroF1(predictions, labels),
    majority: { label: names[most], share: ratio(actual[most], labels.length) },
    classes,
    confusion: [...cells]
      .sort(([a], [b]) => a - b)
      .map(([cell, examples]) => ({ label: names[Math.floor(cell / names.length)], predicted: names[cell % names.length], examples })),
  };
}
