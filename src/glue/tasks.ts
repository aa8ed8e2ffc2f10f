/** GLUE's tasks (arXiv 1804.07461) as data: what their files look like and how they are scored. */

import { accuracy, f1, matthewsCorrelation, pearson } from '../training/metrics.ts';

/** A dev set, and the test set that goes with it; named as the GLUE server names the predictions of the latter. */
export interface GlueSet {
  name: string;
  dev: string;
  test: string;
}

export interface GlueTask {
  /** Also its folder's. */
  name: string;
  /** The columns with the text, or the two texts that are judged together. */
  texts: readonly [string] | readonly [string, string];
  label: string;
  /** The columns of train.tsv and dev.tsv where they have no first line that names them; test.tsv always has one. */
  columns?: readonly string[];
  /** The classes as the files and the GLUE server have them, in the order of their numbers; none for a number from 0 to 5. */
  classes: readonly string[];
  metric: keyof typeof glueMetrics;
  sets: readonly GlueSet[];
  /** A test set of other texts that the task's models answer too: the GLUE server's name for it, and where its file may be. */
  diagnostic?: { name: string; files: readonly string[] };
  /** Rows with this label are no examples: those who labeled them did not agree. */
  undecided?: string;
  /** Rows of train.tsv and dev.tsv that lack columns, or the label, are left out: a text had a line end in it. */
  brokenRows?: boolean;
  /** Counts in the mean. */
  inMean: boolean;
}

/** The scores as the UltraFastBERT paper (arXiv 2311.10770) has them. F1 is that of class 1. */
export const glueMetrics = { Matthews: matthewsCorrelation, accuracy, F1: f1, Pearson: pearson };

const binary = ['0', '1'] as const;
const entailment = ['entailment', 'not_entailment'] as const;
const sentences = ['sentence1', 'sentence2'] as const;
const oneSet = (name: string): GlueSet[] => [{ name, dev: 'dev.tsv', test: 'test.tsv' }];

/** In the order in which they are trained on: the fewer tokens they have, the earlier. */
export const glueTasks: readonly GlueTask[] = [
  {
    // Its dev set contradicts its training set, so that nothing is learnt from it: the paper leaves it out of the mean.
    name: 'WNLI',
    texts: sentences,
    label: 'label',
    classes: binary,
    metric: 'accuracy',
    sets: oneSet('WNLI'),
    inMean: false,
  },
  {
    name: 'CoLA',
    texts: ['sentence'],
    label: 'label',
    columns: ['source', 'label', 'mark', 'sentence'],
    classes: binary,
    metric: 'Matthews',
    sets: oneSet('CoLA'),
    inMean: true,
  },
  { name: 'STS-B', texts: sentences, label: 'score', classes: [], metric: 'Pearson', sets: oneSet('STS-B'), inMean: true },
  { name: 'RTE', texts: sentences, label: 'label', classes: entailment, metric: 'accuracy', sets: oneSet('RTE'), inMean: true },
  {
    name: 'MRPC',
    texts: ['#1 String', '#2 String'],
    label: 'Quality',
    classes: binary,
    metric: 'F1',
    sets: oneSet('MRPC'),
    inMean: true,
  },
  { name: 'SST-2', texts: ['sentence'], label: 'label', classes: binary, metric: 'accuracy', sets: oneSet('SST-2'), inMean: true },
  {
    name: 'QNLI',
    texts: ['question', 'sentence'],
    label: 'label',
    classes: entailment,
    metric: 'accuracy',
    sets: oneSet('QNLI'),
    inMean: true,
  },
  {
    name: 'QQP',
    texts: ['question1', 'question2'],
    label: 'is_duplicate',
    classes: binary,
    metric: 'F1',
    sets: oneSet('QQP'),
    brokenRows: true,
    inMean: true,
  },
  {
    name: 'MNLI',
    texts: sentences,
    label: 'gold_label',
    classes: ['entailment', 'neutral', 'contradiction'],
    metric: 'accuracy',
    sets: [
      { name: 'MNLI-m', dev: 'dev_matched.tsv', test: 'test_matched.tsv' },
      { name: 'MNLI-mm', dev: 'dev_mismatched.tsv', test: 'test_mismatched.tsv' },
    ],
    diagnostic: { name: 'AX', files: ['AX/AX.tsv', 'diagnostic/diagnostic.tsv'] },
    undecided: '-',
    inMean: true,
  },
];

const letters = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** The task of a name as people write it: SST-2, and sst2 as the Hugging Face hub has it. */
export function findGlueTask(name: string): GlueTask | undefined {
  return glueTasks.find((task) => letters(task.name) === letters(name));
}

/** The task of a name that {@link glueTasks} has. */
export function glueTask(name: string): GlueTask {
  return glueTasks.find((task) => task.name === name) as GlueTask;
}
