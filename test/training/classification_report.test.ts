import { expect, test } from 'vitest';
import { classificationReport } from '../../src/training/classification_report.ts';

// Expected values by scikit-learn 1.9: classification_report, confusion_matrix and f1_score(average='macro').
test('precision, recall, F1 and their mean, class by class, and which is taken for which', () => {
  const labels = [0, 0, 1, 2, 2, 2, 1, 0, 2, 1, 2, 2];
  const predictions = [0, 1, 1, 2, 2, 0, 1, 0, 2, 2, 2, 1];
  const report = classificationReport(predictions, labels, ['a', 'b', 'c']);
  expect(report).toMatchObject({ examples: 12, accuracy: 8 / 12, majority: { label: 'c', share: 0.5 } });
  expect(report.macroF1).toBeCloseTo(0.6551226551, 9);
  const expected = [
    ['a', 0.666667, 0.666667, 0.666667, 3],
    ['b', 0.5, 0.666667, 0.571429, 3],
    ['c', 0.8, 0.666667, 0.727273, 6],
  ] as const;
  expected.forEach(([label, precision, recall, f1, examples], index) => {
    const { [index]: found } = report.classes;
    expect([found.label, found.examples]).toEqual([label, examples]);
    for (const [value, wanted] of [
      [found.precision, precision],
      [found.recall, recall],
      [found.f1, f1],
    ])
      expect(value).toBeCloseTo(wanted, 6);
  });
  const cells = report.confusion.map(({ label, predicted, examples }) => `${label}${predicted}${examples}`);
  expect(cells).toEqual(['aa2', 'ab1', 'bb2', 'bc1', 'ca1', 'cb1', 'cc4']);
});

test('classes that are never predicted, or never occur, count as scikit-learn has them', () => {
  const report = classificationReport([0, 0, 0, 0, 0], [0, 0, 1, 1, 3], ['a', 'b', 'c', 'd']);
  expect(report.macroF1).toBeCloseTo(0.1904761905, 9);
  expect(report.classes.map(({ precision, recall }) => [precision, recall])).toEqual([
    [0.4, 1],
    [0, 0],
    [0, 0],
    [0, 0],
  ]);
  expect(report.majority).toEqual({ label: 'a', share: 0.4 });
});

test('very many classes need no matrix of all of them', () => {
  const count = 100_000;
  const names = Array.from({ length: count }, (_, index) => `class ${index}`);
  const labels = Int32Array.from(names, (_, index) => index);
  const report = classificationReport(labels, labels, names);
  expect([report.accuracy, report.macroF1, report.confusion.length]).toEqual([1, 1, count]);
});
