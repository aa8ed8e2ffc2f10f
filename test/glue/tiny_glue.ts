import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generatedSentences } from '../tiny_model.ts';

const sentences = generatedSentences();
const sentence = (index: number) => sentences[(index * 7) % sentences.length];
const bit = (index: number) => `${index % 3 === 0 ? 1 : 0}`;
const entailment = (index: number) => (index % 3 === 0 ? 'entailment' : 'not_entailment');
const genres = ['neutral', 'entailment', 'contradiction'];

/** A task's rows in GLUE's own layout: `part` is train, dev or test, whose columns differ. */
type Layout = (part: 'train' | 'dev' | 'test') => { header?: string; row(index: number, a: string, b: string): string };

const pairs =
  (label: (index: number) => string, columns = 'sentence1\tsentence2'): Layout =>
  (part) => ({
    header: `index\t${columns}${part === 'test' ? '' : '\tlabel'}`,
    row: (index, a, b) => `${index}\t${a}\t${b}${part === 'test' ? '' : `\t${label(index)}`}`,
  });

const layouts: Record<string, Layout> = {
  CoLA: (part) =>
    part === 'test'
      ? { header: 'index\tsentence', row: (index, a) => `${index}\t${a}` }
      : { row: (index, a) => `gj04\t${bit(index)}\t${bit(index) === '0' ? '*' : ''}\t${a}` },
  'SST-2': (part) =>
    part === 'test'
      ? { header: 'index\tsentence', row: (index, a) => `${index}\t${a}` }
      : { header: 'sentence\tlabel', row: (index, a) => `${a}\t${bit(index)}` },
  MRPC: (part) => ({
    header: `\ufeff${part === 'test' ? 'index' : 'Quality'}\t#1 ID\t#2 ID\t#1 String\t#2 String`,
    row: (index, a, b) => `${part === 'test' ? index : bit(index)}\t70${index}\t80${index}\t${a}\t${b}`,
  }),
  'STS-B': (part) => ({
    header: `index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2${part === 'test' ? '' : '\tscore'}`,
    row: (index, a, b) => `${index}\tnews\tfile\t2012\t1\tnone\tnone\t${a}\t${b}${part === 'test' ? '' : `\t${((index * 7) % 26) / 5}`}`,
  }),
  QQP: (part) =>
    part === 'test'
      ? { header: 'id\tquestion1\tquestion2', row: (index, a, b) => `${index}\t${a}\t${b}` }
      : {
          header: 'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate',
          row: (index, a, b) => `${index}\t1${index}\t2${index}\t${a}\t${b}\t${bit(index)}`,
        },
  MNLI: (part) => {
    const labels = part === 'train' ? 1 : part === 'dev' ? 5 : 0;
    const names = Array.from({ length: labels }, (_, index) => `\tlabel${index + 1}`).join('');
    return {
      header: `index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2${names}${labels ? '\tgold_label' : ''}`,
      row: (index, a, b) =>
        `${index}\t9${index}\t9${index}n\tslate\t( ${a} )\t( ${b} )\t(ROOT ${a})\t(ROOT ${b})\t${a}\t${b}${labels ? `\t${genres[index % 3]}`.repeat(labels + 1) : ''}`,
    };
  },
  QNLI: pairs(entailment, 'question\tsentence'),
  RTE: pairs(entailment),
  // Only a test set.
  AX: () => ({ header: 'index\tsentence1\tsentence2', row: (index, a, b) => `${index}\t${a}\t${b}` }),
  WNLI: pairs(bit),
};

/** One file of a task, its examples made by number, from `first` on. */
export function tinyGlueFile(task: string, part: 'train' | 'dev' | 'test', count: number, first = 0): string {
  const { header, row } = layouts[task](part);
  const rows = Array.from({ length: count }, (_, i) => row(first + i, sentence(first + i), sentence(3 * (first + i) + 1)));
  return [...(header === undefined ? [] : [header]), ...rows].map((line) => `${line}\n`).join('');
}

/** Writes tasks into a folder: 24 examples to train on, 12 in each dev set and, where asked for, 5 in each test set. */
export function writeTinyGlue(folder: string, tasks: readonly string[], options: { test?: boolean } = {}): void {
  for (const task of tasks) {
    mkdirSync(join(folder, task), { recursive: true });
    const write = (name: string, ...content: Parameters<typeof tinyGlueFile>) =>
      writeFileSync(join(folder, task, `${name}.tsv`), tinyGlueFile(...content));
    write('train', task, 'train', 24);
    for (const [index, suffix] of (task === 'MNLI' ? ['_matched', '_mismatched'] : ['']).entries()) {
      write(`dev${suffix}`, task, 'dev', 12, 100 + 20 * index);
      if (options.test) write(`test${suffix}`, task, 'test', 5, 200);
    }
  }
}
