import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { InputError, printable } from '../../errors.ts';
import type { GlueOptions, GlueResults, StoredResults } from '../../glue/results.ts';
import type { Contribution, GlueSummary, Kept, Range } from '../../glue/statistics.ts';
import { findGlueTask, glueTask, glueTasks } from '../../glue/tasks.ts';
import { fineTuningRecipe } from '../../training/fine_tune_recipe.ts';
import {
  addCommonOptions,
  addDeviceOptions,
  addModelOption,
  type CommonOptions,
  type DeviceOptions,
  fixed,
  givenTo,
  type ModelOptions,
  notice,
  openModelFolder,
  parseCount,
  print,
  printJson,
} from '../common.ts';
import { computingOptions, groupOptions } from '../help.ts';
import {
  addTrainingPrecisionOption,
  failUnlessFinished,
  inSession,
  isAfter,
  type ResumedRun,
  resumedRun,
  startLog,
} from '../training_runs.ts';
import { table } from './bench_report.ts';

interface Options extends DeviceOptions, CommonOptions, ModelOptions {
  data?: string;
  tasks?: string;
  seeds: SeedCounts;
  epochs: number;
  precision: GlueOptions['precision'];
  out?: string;
  resume?: boolean;
  log?: string;
  against?: string;
  without?: string;
}

/** Without `seeds` only tasks were named. */
type SeedCounts = Partial<Pick<GlueOptions, 'seeds'>> & Pick<GlueOptions, 'taskSeeds'>;
type KeptOf = { all: Kept; withoutCola?: Kept };

const taskNames = glueTasks.map(({ name }) => name);

const usualSeeds = 3;

/** Time between two saves of the training at hand, seconds. */
const checkpointEvery = 300;

export function glueCommand(program: Command): void {
  const command = addModelOption(program.command('glue'))
    .description(
      "fine-tune and score a model on GLUE's tasks by crammedBERT's recipe, the score that of the last epoch on the dev set; Ctrl-C saves and stops, --resume goes on exactly",
    )
    .option('--data <folder>', 'holds the tasks as gluebenchmark.com has them: CoLA/train.tsv, CoLA/dev.tsv, and so on')
    .option(
      '--tasks <names>',
      `some of ${taskNames.join(', ')} (or as the hub has them, sst2), with commas between them (default: those in --data, without WNLI)`,
    )
    .addOption(
      new Option('--seeds <counts>', 'how many seeds, from 0 on, each task is trained with; TASK=COUNT for one task, as in 3,SST-2=1')
        .argParser(parseSeeds)
        .default(parseSeeds(`${usualSeeds}`), `${usualSeeds}`),
    )
    .option('--epochs <count>', 'times that every example is seen', parseCount, fineTuningRecipe.epochs)
    .option(
      '-o, --out <folder>',
      'where results.json and predictions are kept: test/NAME.tsv for the GLUE server (AX.tsv too if --data has AX/AX.tsv and MNLI is trained), dev/NAME.tsv without test set',
    )
    .option(
      '--resume',
      'go on with the run in --out and the log it had; --tasks and --seeds may be others, what it has is kept; --model and --data may name what was moved',
    )
    .option('--against <folder>', "--out of another model's run: how much of its mean this model keeps")
    .option(
      '--without <folder>',
      '--out of a run of the model without its feedforward layers: with --against, how much of their contribution this model keeps, (model - without) / (against - without)',
    )
    .option('--log <file>', 'add JSON lines about each step to this file');
  addDeviceOptions(addCommonOptions(addTrainingPrecisionOption(command)));
  groupOptions(command, {
    'Required:': '--data',
    'What is trained:': '--model --revision --tasks --seeds --epochs',
    'What it is compared with:': '--against --without',
    'The run:': '--out --resume --log --json --quiet',
    'What computes:': computingOptions,
  });
  command
    .addHelpText('after', '\nExample:\n  ufb glue --model my-model --data glue --out my-model-glue --against bert-base-glue')
    .action(async (options: Options) => {
      await glue(options, givenTo(command));
    });
}

/** '3,SST-2=1' as the seeds of all tasks and those of some. */
function parseSeeds(text: string): SeedCounts {
  const counts: SeedCounts = { taskSeeds: {} };
  for (const part of text.split(',')) {
    const [, named, count] = /^(?:(.+)=)?([^=]+)$/.exec(part) ?? [];
    const task = named === undefined ? undefined : findGlueTask(named)?.name;
    if (count === undefined || (named !== undefined && task === undefined))
      throw new InvalidArgumentError(`'${part}': expected COUNT or TASK=COUNT, TASK one of ${taskNames.join(', ')}.`);
    if (task === undefined) counts.seeds = parseCount(count);
    else counts.taskSeeds[task] = parseCount(count);
  }
  return counts;
}

async function glue(options: Options, given: (name: string) => boolean): Promise<void> {
  const { out } = options;
  if (options.resume && out === undefined) throw new InputError('--resume needs --out FOLDER, where the run is kept');
  if (options.without !== undefined && options.against === undefined)
    throw new InputError('--without needs --against, the run of the dense model');
  const [{ runGlue }, { glueFiles }, { readGlueResults, resultsFile }, { contributionOf, keptOf, summarize }] = await Promise.all([
    import('../../glue/run.ts'),
    import('../../glue/read.ts'),
    import('../../glue/results.ts'),
    import('../../glue/statistics.ts'),
  ]);
  const stored = async (folder: string | undefined): Promise<StoredResults | undefined> =>
    folder === undefined ? undefined : { folder, results: await readGlueResults(folder) };
  const [against, without] = [await stored(options.against), await stored(options.without)];
  const others = [against, without].filter((other) => other !== undefined);
  const { options: runOptions, log: logged } = options.resume ? await runToResume(options, given) : { options: await newOptions(options) };
  const read = [
    ...runOptions.tasks.flatMap((name) => glueFiles(glueTask(name), runOptions.data)),
    ...others.map(({ folder }) => resultsFile(folder)),
  ];
  const form = '{task} seed {seed} epoch {epoch}  loss {loss}  {rate} tokens/s  ';
  const results = await inSession(options, { logged, read, bar: form }, (session, log, bar) =>
    runGlue(runOptions, {
      ...session,
      out,
      against: others,
      checkpointEvery,
      onStart: (started) =>
        startLog(
          log,
          started,
          (entry) => entry.task === started.task && entry.seed === started.seed && isAfter(started.step)(entry),
          options,
        ),
      onStep(step) {
        const { task, seed, epoch, loss, tokensPerSecond } = step;
        bar.update(step.progress, step.seconds, { task, seed, epoch, loss: loss.toFixed(3), rate: Math.round(tokensPerSecond) });
        log.write({ event: 'step', ...step });
      },
      onSeed(result) {
        log.write({ event: 'run', ...result });
        const { task, seed, scores, seconds } = result;
        const shown = Object.entries(scores).map(([name, score]) => `${name} ${glueTask(task).metric} ${percent(score)}`);
        notice(`seed ${seed}: ${shown.join(', ')} in ${Math.round(seconds)} s`, options);
      },
    }),
  );
  failUnlessFinished(results);
  const summary = summarize(results);
  if (out !== undefined) predictionsNotice(results, out, options);
  if (!options.json) print(scoreTable(summary));
  for (const line of others.flatMap((other) => differences(results, other))) notice(line, options);
  const kept = against && keptOf(results, against.results);
  const contribution = against && without && contributionOf(results, against.results, without.results);
  if (options.json) printJson({ finished: results.finished, options: results.options, ...summary, kept, contribution, out });
  else {
    if (against && kept) print(`\n${keptTable(printable(against.folder), kept)}`);
    if (contribution?.length) print(`\n${contributionTable(contribution)}`);
    if (!results.finished) print(out === undefined ? 'stopped' : 'stopped (go on with --resume)');
  }
}

async function newOptions(options: Options): Promise<GlueOptions> {
  if (options.data === undefined) throw new InputError("--data FOLDER is missing: name the folder with GLUE's tasks");
  const tasks = await chosenTasks(options);
  const { seeds = usualSeeds, taskSeeds } = options.seeds;
  checkTaskSeeds(taskSeeds, tasks);
  const model = resolve(await openModelFolder(options));
  return {
    model,
    data: resolve(options.data),
    tasks,
    seeds,
    taskSeeds,
    epochs: options.epochs,
    precision: options.precision,
  };
}

/** The run that is to go on; tasks and seeds may be others than they were. */
async function runToResume(options: Options, given: (name: string) => boolean): Promise<ResumedRun<GlueOptions>> {
  const { glueOptionsSchema: schema } = await import('../../glue/results.ts');
  const { epochs, precision } = options;
  const model = options.model && resolve(await openModelFolder(options));
  const data = options.data && resolve(options.data);
  const now = { model, data, epochs, precision } as GlueOptions;
  const { options: stored, log } = await resumedRun('glue', options.out as string, now, given, { schema, places: ['model', 'data'] });
  const tasks = given('tasks') ? await chosenTasks({ ...options, data: stored.data }) : stored.tasks;
  if (!given('seeds')) return { options: { ...stored, tasks }, log };
  const { seeds, taskSeeds } = options.seeds;
  checkTaskSeeds(taskSeeds, tasks);
  // Where only tasks are named, the others keep what they have.
  if (seeds === undefined) return { options: { ...stored, tasks, taskSeeds: { ...stored.taskSeeds, ...taskSeeds } }, log };
  return { options: { ...stored, tasks, seeds, taskSeeds }, log };
}

function checkTaskSeeds(taskSeeds: GlueOptions['taskSeeds'], tasks: readonly string[]): void {
  const other = Object.keys(taskSeeds).find((task) => !tasks.includes(task));
  if (other) throw new InputError(`--seeds ${other}=${taskSeeds[other]}: ${other} is not trained, only ${tasks.join(', ')}`);
}

async function chosenTasks(options: Options): Promise<string[]> {
  if (options.tasks !== undefined) return namedTasks(options.tasks);
  const { findGlueTasks } = await import('../../glue/read.ts');
  const folder = options.data as string;
  const found = await findGlueTasks(folder);
  const missing = glueTasks.filter((task) => task.inMean && !found.includes(task));
  const chosen = found.filter(({ inMean }) => inMean);
  if (chosen.length === 0)
    throw new InputError(`${folder}: has none of GLUE's tasks, expected folders such as CoLA with train.tsv and dev.tsv`);
  if (missing.length > 0) notice(`${folder} has no ${namesOf(missing)}: the mean is without`, options);
  return chosen.map(({ name }) => name);
}

function namedTasks(text: string): string[] {
  const tasks = text.split(',').map((name) => findGlueTask(name)?.name);
  if (tasks.includes(undefined))
    throw new InputError(
      `--tasks ${text}: expected some of ${taskNames.join(', ')} (or as the hub has them, sst2), with commas between them`,
    );
  return [...new Set(tasks as string[])];
}

function predictionsNotice({ tasks }: GlueResults, out: string, options: Options): void {
  const untested = Object.values(tasks).flatMap(({ runs, labels }) =>
    Object.keys(labels).filter((name) => runs.length > 0 && !runs.some(({ test }) => name in test)),
  );
  if (untested.length > 0)
    notice(`no test set of ${untested.join(', ')}: ${out}/dev has predictions of the dev set, which are not for the GLUE server`, options);
}

/** What should be known of a comparison with another run. */
function differences({ options }: GlueResults, { folder, results }: StoredResults): string[] {
  const lines = results.finished ? [] : [`${folder}: the run is not finished`];
  if (results.options.epochs !== options.epochs)
    lines.push(`${folder}: trained for ${results.options.epochs} epochs, this model for ${options.epochs}`);
  const [theirs = 'f32', ours = 'f32'] = [results.options.precision, options.precision];
  if (theirs !== ours) lines.push(`${folder}: trained with products in ${theirs}, this model in ${ours}`);
  return lines;
}

function scoreTable({ scores, ...means }: GlueSummary): string {
  const rows = scores.map(({ name, metric, score, mean, range, seeds, tokensPerSecond }) => [
    name,
    metric,
    percent(score),
    percent(mean),
    rangeOf(range, percent),
    `${seeds}`,
    `${Math.round(tokensPerSecond)}`,
  ]);
  const meanRow = (label: string, ofMedians: number | undefined, ofMeans: number | undefined) =>
    ofMedians === undefined || ofMeans === undefined ? [] : [[label, '', percent(ofMedians), percent(ofMeans), '', '', '']];
  const counted = scores.filter(({ inMean }) => inMean);
  return [
    table([
      ['task', 'metric', 'median', 'mean', 'over seeds', 'seeds', 'tokens/s'],
      ...rows,
      ...meanRow('mean', means.mean, means.meanOfMeans),
      ...meanRow('without CoLA', means.meanWithoutCola, means.meanOfMeansWithoutCola),
    ]),
    `scores of dev sets x 100, median and mean over seeds; the last rows' means are over ${namesOf(counted) || 'no tasks'}`,
  ].join('\n');
}

function keptTable(folder: string, { all, withoutCola }: KeptOf): string {
  const row = (label: string, { ratio, range, interval }: Kept) => [label, ...spreadOf(ratio, range, interval, 3)];
  const rows = [
    [`kept of ${folder}`, 'ratio', ...spreadColumns],
    row(all.sets.join(', '), all),
    ...(withoutCola ? [row('without CoLA', withoutCola)] : []),
  ];
  return `${table(rows)}\na ratio is that of the means of medians, and need not lie among those of single seeds`;
}

function contributionTable(rows: readonly Contribution[]): string {
  return table([
    ["the feedforward's contribution", 'model', 'dense', 'without', 'kept', ...spreadColumns],
    ...rows.map(({ name, model, dense, none, kept, range, interval }) => [
      name,
      percent(model),
      percent(dense),
      percent(none),
      ...spreadOf(kept, range, interval, 2),
    ]),
  ]);
}

const spreadColumns = ['over seeds', '95 % of resamples'];

/** A ratio and the cells of {@link spreadColumns}; '-' for what is no number. */
function spreadOf(ratio: number, range: Range, interval: Range, digits: number): string[] {
  const text = (value: number) => fixed(value, digits);
  return [
    Number.isNaN(ratio) ? '-' : text(ratio),
    ...[range, interval].map((ends) => (ends.some(Number.isNaN) ? '-' : rangeOf(ends, text))),
  ];
}

const percent = (score: number) => fixed(100 * score, 1);
const rangeOf = ([low, high]: readonly [number, number], text: (value: number) => string) => `${text(low)} - ${text(high)}`;
const namesOf = (tasks: readonly { name: string }[]) => tasks.map(({ name }) => name).join(', ');
