/** How commands show what a classifier gets right. */
import { printable } from '../../errors.ts';
import type { ClassificationReport } from '../../training/classification_report.ts';
import { table } from './bench_report.ts';

/** A matrix of more columns does not fit a terminal: the most frequent mistakes stand in its place. */
const widestMatrix = 8;
const mistakesShown = 10;

/** Each class's precision, recall and F1, their means, what always answering one class gives, and which classes were taken for which. */
export function classificationTable(given: ClassificationReport): string {
  const report = withPrintableNames(given);
  const { classes, accuracy, macroF1, majority, examples } = report;
  const rows = [
    ['class', 'precision', 'recall', 'F1', 'examples'],
    ...classes.map(({ label, precision, recall, f1, examples: own }) => [label, score(precision), score(recall), score(f1), `${own}`]),
  ];
  return [
    table(rows),
    `\naccuracy ${score(accuracy)}, macro-F1 ${score(macroF1)} over ${examples} examples; ${majorityLine(report.majority)}`,
    ...(accuracy > majority.share ? [] : ['it is no better than that']),
    `\n${confusion(report)}`,
  ].join('\n');
}

/** Names come from files. */
function withPrintableNames({ classes, confusion, majority, ...others }: ClassificationReport): ClassificationReport {
  const named = <Row extends { label: string }>(row: Row): Row => ({ ...row, label: printable(row.label) });
  return {
    ...others,
    majority: named(majority),
    classes: classes.map(named),
    confusion: confusion.map((cell) => ({ ...named(cell), predicted: printable(cell.predicted) })),
  };
}

/** What a classifier has to beat. */
export const majorityLine = ({ label, share }: ClassificationReport['majority']) =>
  `always answering '${printable(label)}', the most frequent class, has accuracy ${score(share)}`;

function confusion({ classes, confusion: cells }: ClassificationReport): string {
  if (classes.length <= widestMatrix) {
    const names = classes.map(({ label }) => label);
    const count = (label: string, predicted: string) =>
      cells.find((cell) => cell.label === label && cell.predicted === predicted)?.examples ?? 0;
    return table([
      ['class \\ taken for', ...names],
      ...names.map((label) => [label, ...names.map((predicted) => `${count(label, predicted)}`)]),
    ]);
  }
  const mistakes = cells.filter(({ label, predicted }) => label !== predicted).sort((a, b) => b.examples - a.examples);
  if (mistakes.length === 0) return 'no mistakes';
  return table([
    ['the most frequent mistakes', 'taken for', 'examples'],
    ...mistakes.slice(0, mistakesShown).map(({ label, predicted, examples }) => [label, predicted, `${examples}`]),
  ]);
}

const score = (value: number) => value.toFixed(4);
