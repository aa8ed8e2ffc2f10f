import type { Command } from 'commander';
import { InputError, quoted } from '../../errors.ts';
import type { LabeledFile } from '../../training/labeled_files.ts';
import { addInferenceOptions, fixed, type InferenceOptions, notice, openDevice, openPipeline, print, printJson } from '../common.ts';
import { classificationTable } from './classification_table.ts';

interface Options extends InferenceOptions {
  data: string;
}

export function addClassification(command: Command): void {
  const classification = command
    .command('classification')
    .description(
      'a classifier, on labeled texts: precision, recall and F1 of each class, and which is taken for which; of scores, correlations',
    )
    .requiredOption(
      '--data <file>',
      "labeled texts as 'ufb finetune' reads them: .tsv, .csv or .jsonl with text, pair, and label or score",
    );
  addInferenceOptions(classification, 'a classifier').action(evaluate);
}

async function evaluate(options: Options): Promise<void> {
  const [{ readLabeledFile }, { withProgress }, { classificationReport }, { pearson, spearman }] = await Promise.all([
    import('../../training/labeled_files.ts'),
    import('../progress.ts'),
    import('../../training/classification_report.ts'),
    import('../../training/metrics.ts'),
  ]);
  const file = await readLabeledFile(options.data);
  using device = await openDevice(options);
  using classify = await openPipeline('text-classification', device, options);
  const { labels, config } = classify.model;
  const names = config.labelNames ?? Array.from({ length: labels }, (_, index) => `LABEL_${index}`);
  if (config.problemType === 'multi_label_classification')
    throw new InputError(
      `${options.model}: of its labels several may hold at once, expected a classifier whose classes exclude each other`,
    );
  if ((labels === 1) !== (file.kind === 'scores'))
    throw new InputError(
      labels === 1
        ? `${options.data}: has classes, but ${options.model} answers with a score: expected a column 'score'`
        : `${options.data}: has scores, but ${options.model} answers with one of ${labels} classes: expected a column 'label'`,
    );
  const truth = labels === 1 ? file.records.map(({ label }) => Number(label)) : classesOf(file, options, names);
  async function* texts() {
    for (const { text, pair } of file.records) yield { text, text_pair: pair };
  }
  const started = performance.now();
  const answers = await withProgress(options, async (onProgress) => {
    const found: { label: string; score: number }[] = [];
    for await (const [best] of classify(texts())) {
      found.push(best);
      onProgress(found.length, truth.length);
    }
    return found;
  });
  const seconds = (performance.now() - started) / 1000;
  const rate = `${(truth.length / seconds).toFixed(0)} a second`;
  if (labels === 1) {
    const scores = answers.map(({ score }) => score);
    const result = { examples: truth.length, spearman: spearman(scores, truth), pearson: pearson(scores, truth) };
    if (options.json) printJson({ ...result, seconds });
    else {
      print(`spearman  ${fixed(result.spearman, 4)}`);
      print(`pearson   ${fixed(result.pearson, 4)}`);
      print(`examples  ${result.examples}, ${rate}`);
    }
    return;
  }
  const predictions = answers.map(({ label }) => names.indexOf(label));
  const report = classificationReport(predictions, truth, names);
  if (options.json) printJson({ ...report, seconds });
  else print(`${classificationTable(report)}\n\n${rate}`);
}

/** The number of each example's class: by its name, or where all of them are numbers of classes and none a name, by that. */
function classesOf({ records }: LabeledFile, options: Options, names: readonly string[]): number[] {
  const isNumber = (label: string) => /^\d+$/.test(label) && Number(label) < names.length;
  const numbered = records.every(({ label }) => !names.includes(`${label}`) && isNumber(`${label}`));
  if (numbered) {
    const shown = names.slice(0, 10).map((name, index) => `${index} ${name}`);
    notice(`${options.data}: its labels are taken for the model's classes by number: ${shown.join(', ')}`, options);
    return records.map(({ label }) => Number(label));
  }
  return records.map(({ label, line }) => {
    const index = names.indexOf(`${label}`);
    if (index >= 0) return index;
    const known = `${names.slice(0, 10).map(quoted).join(', ')}${names.length > 10 ? ', ...' : ''}`;
    throw new InputError(`${options.data}, line ${line}: the model has no class ${quoted(label)}, only ${known}`);
  });
}
