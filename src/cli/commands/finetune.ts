import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Group } from '../../distributed/group.ts';
import { InputError } from '../../errors.ts';
import { fineTuningRecipe, learningRateFor } from '../../training/fine_tune_recipe.ts';
import type { FineTuningResult, FineTuningRunOptions } from '../../training/fine_tune_run.ts';
import {
  addModelOption,
  fixed,
  givenTo,
  type ModelOptions,
  notice,
  openModelFolder,
  parseCount,
  parseInteger,
  parsePositive,
} from '../common.ts';
import { computingOptions, groupOptions, rankOptions, ranksHeading } from '../help.ts';
import { asRank, firstBeforeOthers } from '../ranks.ts';
import {
  accumulateOption,
  addRankOptions,
  addRunOptions,
  endOf,
  inSession,
  printResult,
  type RankCommandOptions,
  type ResumedRun,
  type RunOptions,
  resumedRun,
} from '../training_runs.ts';
import { classificationTable, majorityLine } from './classification_table.ts';

interface Options extends RunOptions, RankCommandOptions, ModelOptions, Omit<FineTuningRunOptions, 'model' | 'train' | 'learningRate'> {
  train?: string;
  learningRate?: number;
}

/** Options that make the run what it is, as opposed to those that may change from session to session. */
const runOptionNames = [
  'model',
  'train',
  'validation',
  'epochs',
  'batch',
  'accumulate',
  'precision',
  'learningRate',
  'length',
  'seed',
  'patience',
  'metric',
  'dtype',
] as const satisfies (keyof FineTuningRunOptions)[];

export function finetuneCommand(program: Command): void {
  const command = addModelOption(program.command('finetune'))
    .description('train a classifier on labeled texts of your own; Ctrl-C saves and stops, --resume goes on exactly')
    .option(
      '--train <file>',
      '.tsv, .csv or .jsonl with the columns text, pair (if there are two texts), and label (a class) or score (a number)',
    )
    .option(
      '--validation <file>',
      'such a file for the scores (default: a tenth of --train, of each class alike, which is then not trained on)',
    )
    .requiredOption('-o, --out <folder>', 'where the run and the model of its best epoch are kept')
    .option(
      '--resume',
      'go on with the run in --out, with the options and the log it was started with; --model, --train and --validation may name what was moved',
    )
    .option('--epochs <count>', 'times that every example is seen, at most', parseCount, fineTuningRecipe.epochs)
    .option('-b, --batch <texts>', 'texts computed together', parseCount, fineTuningRecipe.batch)
    .option(
      '--learning-rate <rate>',
      `peak learning rate (default: by the width of the model, from ${learningRateFor(768)} for 768 to ${learningRateFor(256)} for 256)`,
      parsePositive,
    )
    .option('--length <tokens>', 'tokens of a text; longer ones are cut', parseCount, fineTuningRecipe.length)
    .option('--seed <number>', 'of the order, of dropout and of the new head', parseInteger, 0)
    .option('--patience <epochs>', 'stop after so many epochs without a better score (default: never)', parseCount)
    .option('--metric <name>', 'the score that is compared (default: accuracy; spearman for scores)');
  accumulateOption(command);
  addRankOptions(addRunOptions(command, 300));
  groupOptions(command, {
    'Required:': '--train --out',
    'What is trained:': '--model --revision',
    'How it is trained:': '--epochs --batch --accumulate --learning-rate --length --seed',
    'How it is scored:': '--validation --metric --patience',
    'The run:': '--resume --checkpoint-every --dtype --log --json --quiet',
    [ranksHeading]: rankOptions,
    'What computes:': computingOptions,
  });
  command
    .addHelpText('after', '\nExample:\n  ufb finetune --train reviews.csv --out reviews\n  ufb classify --model reviews "What a fine day."')
    .action(async (options: Options) => {
      await asRank(options, async (group) => printResult(await run(options, givenTo(command), group), options, summary, group));
    });
}

async function run(options: Options, given: (name: string) => boolean, group: Group): Promise<FineTuningResult> {
  const { runFineTuning } = await import('../../training/fine_tune_run.ts');
  const absolute = (path: string | undefined) => path && resolve(path);
  const now = {
    ...Object.fromEntries(runOptionNames.map((name) => [name, options[name]])),
    accumulate: options.accumulate ?? (group.size > 1 ? group.size : undefined),
    model: options.resume && options.model ? resolve(await openModelFolder(options)) : undefined,
    train: absolute(options.train),
    validation: absolute(options.validation),
    dtype: options.dtype.toUpperCase(),
  } as FineTuningRunOptions;
  if (!options.resume && !options.train) throw new InputError('--train FILE is missing: name the labeled texts to train on');
  const { options: runOptions, log: logged } = options.resume
    ? await group.fromFirst('the run', () => runToResume(options, now, given))
    : { options: await firstBeforeOthers(group, 'options', () => newOptions(now, options)) };
  const read = [runOptions.train, runOptions.validation];
  return inSession(options, { logged, read, group, bar: 'epoch {epoch}  loss {loss}  {rate} tokens/s  ' }, (session, log, bar) =>
    runFineTuning(runOptions, {
      ...session,
      out: options.out,
      checkpointEvery: options.checkpointEvery,
      onStep(report) {
        const { epoch, loss, tokensPerSecond } = report;
        bar.update(report.progress, report.seconds, { epoch, loss: loss.toFixed(3), rate: Math.round(tokensPerSecond) });
        log.write({ event: 'step', ...report });
      },
      onEpoch(report) {
        log.write({ event: 'epoch', ...report });
        notice(epochLine(report), options);
      },
      onExamples(majority) {
        if (!options.resume && options.learningRate === undefined)
          notice(`learning rate ${runOptions.learningRate}, by the width of the model; --learning-rate takes another`, options);
        if (majority) notice(majorityLine(majority), options);
      },
    }),
  );
}

async function runToResume(
  { out }: Options,
  now: FineTuningRunOptions,
  given: (name: string) => boolean,
): Promise<ResumedRun<FineTuningRunOptions>> {
  const { fineTuningOptionsSchema: schema } = await import('../../training/fine_tune_options.ts');
  return resumedRun('finetune', out, now, given, { schema, places: ['model', 'train', 'validation'] });
}

/** The options of a new run, those by the model too. */
async function newOptions(now: FineTuningRunOptions, options: Options): Promise<FineTuningRunOptions> {
  const model = resolve(await openModelFolder(options));
  if (options.learningRate !== undefined) return { ...now, model };
  const [{ readJson }, { parseConfig }] = await Promise.all([import('../../io/files.ts'), import('../../models/config_json.ts')]);
  const { hiddenSize } = parseConfig(await readJson(`${model}/config.json`), `${model}/config.json`);
  return { ...now, model, learningRate: learningRateFor(hiddenSize) };
}

function epochLine({ epoch, loss, validationLoss, scores }: FineTuningResult['epochs'][number]): string {
  const shown = Object.entries({ ...(validationLoss === undefined ? {} : { 'validation loss': validationLoss }), ...scores });
  return `epoch ${epoch}: loss ${loss.toFixed(4)}, ${shown.map(([name, value]) => `${name} ${fixed(value, 4)}`).join(', ')}`;
}

async function summary(result: FineTuningResult, out: string): Promise<string> {
  const { finished, diverged, epochs, best, seconds, labels, training, validation, feedforward, report } = result;
  const { describeLeafUse } = await import('../../training/leaf_use.ts');
  const state = endOf({ finished, diverged });
  const what = labels.length > 0 ? `${labels.length} classes` : 'scores';
  const lines = [`${state}: ${training} examples of ${what} in ${Math.round(seconds)} s, scored on ${validation}`];
  if (best > 0) lines.push(`best, in ${out}: ${epochLine(epochs[best - 1])}`);
  const { layers = [] } = epochs.at(-1) ?? {};
  if (layers.length > 0) lines.push(`leaf use after the last epoch: ${describeLeafUse(layers, feedforward)}`);
  if (report) lines.push('', classificationTable(report));
  return lines.join('\n');
}
