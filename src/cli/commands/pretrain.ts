import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { Group } from '../../distributed/group.ts';
import { InputError } from '../../errors.ts';
import { objectiveNames } from '../../training/objective_names.ts';
import type { PretrainOptions, PretrainResult } from '../../training/pretrain.ts';
import { scheduleNames } from '../../training/schedules.ts';
import {
  addModelOption,
  addShapeOptions,
  checkFeedforward,
  checkShape,
  dashed,
  givenTo,
  type ModelOptions,
  normalizerOption,
  notice,
  openModelFolder,
  parseCount,
  parseInteger,
  parseNumber,
  parsePositive,
} from '../common.ts';
import { computingOptions, groupOptions, rankOptions, ranksHeading } from '../help.ts';
import { asRank, firstBeforeOthers } from '../ranks.ts';
import {
  accumulateOption,
  addRankOptions,
  addRunOptions,
  balanceOption,
  branchRateOption,
  endOf,
  inSession,
  printResult,
  type RankCommandOptions,
  type ResumedRun,
  type RunOptions,
  resumedRun,
  timesOf,
} from '../training_runs.ts';

interface Options extends RunOptions, RankCommandOptions, ModelOptions, Omit<PretrainOptions, 'model'> {
  variedShare: number;
  evaluateEvery: number;
}

/** Options of a new model, which one that is named has already. */
const newModelOptions = [
  'tokenizer',
  'vocabulary',
  'normalizer',
  'layers',
  'hidden',
  'heads',
  'feedforward',
  'trees',
  'depth',
  'leafWidth',
  'alwaysOn',
  'intermediate',
] as const satisfies (keyof PretrainOptions)[];

/** Options that make the run what it is, as opposed to those that may change from session to session. */
const runOptionNames = [
  'objective',
  'model',
  ...newModelOptions,
  'corpus',
  'length',
  'batch',
  'accumulate',
  'variedShare',
  'withinDocuments',
  'precision',
  'tokens',
  'minutes',
  'learningRate',
  'branchRate',
  'balance',
  'schedule',
  'seed',
  'heldOut',
  'heldOutEvery',
  'heldOutSequences',
  'shuffle',
  'dtype',
] as const satisfies (keyof PretrainOptions)[];

/** A step's tokens are all in memory. 16 times the batch of crammedBERT. */
const maximumStepTokens = 2 ** 24;

export function pretrainCommand(program: Command): void {
  const command = addModelOption(
    addShapeOptions(program.command('pretrain')),
    'a model to go on from, as this command makes with the same objective, whose shape and tokenizer it then is (default: a new one)',
    { mandatory: false },
  )
    .description('pretrain a language model on text files; Ctrl-C saves and stops, --resume goes on exactly')
    .option('--corpus <file...>', 'text files, plain or gzipped: one paragraph a line, blank lines between documents')
    .addOption(
      new Option(
        '--objective <name>',
        'what is predicted: masked tokens (a BERT), or at each place the next token (causal: a GPT-2, which writes)',
      )
        .choices(objectiveNames)
        .default('masked'),
    )
    .addOption(
      new Option('--feedforward <kind>', 'fast feedforward trees, dense layers, or attention alone')
        .choices(['fff', 'dense', 'none'])
        .default('fff'),
    )
    .requiredOption('-o, --out <folder>', 'where the run and its checkpoint are kept')
    .option(
      '--resume',
      'go on with the run in --out, with the options and the log it was started with; --corpus may name files that were moved',
    )
    .option('--tokenizer <file>', 'tokenizer.json to use (default: one is trained on the corpus)')
    .option('--vocabulary <count>', 'entries of the tokenizer that is trained', parseCount, 8192)
    .addOption(normalizerOption())
    .option('-b, --batch <sequences>', 'sequences computed together', parseCount, 8)
    .option(
      '--varied-share <share>',
      'share of the batches in a varied form, as texts with blanks are: sequences whole or cut shorter, from one token to half of each predicted',
      parseNumber,
      0,
    )
    .option('--within-documents', 'causal: no token sees what comes before its document (default: documents are packed as one text)')
    .option('--tokens <count>', 'budget: stop after so many tokens', parseCount)
    .option('--minutes <count>', 'budget: stop after so much time', parsePositive)
    .option('--learning-rate <rate>', 'peak learning rate; a model to go on from takes less, 3e-4 say', parsePositive, 1e-3)
    .addOption(branchRateOption(1))
    .addOption(balanceOption('--balance <rate>', 'of a new model from three tenths of the budget on', 0.3))
    .addOption(
      new Option('--schedule <name>', 'how the learning rate follows the budget').choices([...scheduleNames]).default('budget-triangle'),
    )
    .option('--seed <number>', 'of the start, the shuffling and the masking', parseInteger, 0)
    .option('--held-out <file>', 'text for the held-out loss (default: a share of the corpus that is then not trained on)')
    .option('--held-out-every <count>', 'which documents of the corpus are held out: every N-th', parseCount, 50)
    .option('--held-out-sequences <count>', 'sequences of the held-out loss, at most', parseCount, 256)
    .option('--shuffle <sequences>', 'sequences in the pool through which the corpus is shuffled', parseCount, 32768)
    .option('--evaluate-every <seconds>', 'time between two held-out losses', parsePositive, 300);
  accumulateOption(command);
  addRankOptions(addRunOptions(command, 600));
  groupOptions(command, {
    'Required, with one of --tokens and --minutes:': '--corpus --out --tokens --minutes',
    'What is trained:': '--objective --model --revision --tokenizer --vocabulary --normalizer --layers --hidden --heads',
    'Its feedforward layers:': '--feedforward --trees --depth --leaf-width --always-on --intermediate',
    'How it is trained:':
      '--length --batch --accumulate --varied-share --within-documents --shuffle --learning-rate --schedule --branch-rate --balance --seed',
    'Held-out text:': '--held-out --held-out-every --held-out-sequences --evaluate-every',
    'The run:': '--resume --checkpoint-every --dtype --log --json --quiet',
    [ranksHeading]: rankOptions,
    'What computes:': computingOptions,
  });
  command.action(async (options: Options) => {
    await asRank(options, async (group) => printResult(await run(options, givenTo(command), group), options, summary, group));
  });
}

async function run(options: Options, given: (name: string) => boolean, group: Group): Promise<PretrainResult & { seconds: number }> {
  const { pretrain } = await import('../../training/pretrain.ts');
  const { options: runOptions, log: logged } = options.resume
    ? await group.fromFirst('the run', () => oldRun(options, given))
    : { options: await firstBeforeOthers(group, 'options', () => newOptions(options, given, group)) };
  const read = [...runOptions.corpus, runOptions.tokenizer, runOptions.heldOut];
  return inSession(options, { logged, read, group, bar: 'step {step}  loss {loss}  {rate} tokens/s  ' }, (session, log, bar) =>
    pretrain(runOptions, {
      ...session,
      out: options.out,
      checkpointEvery: options.checkpointEvery,
      evaluateEvery: options.evaluateEvery,
      onStep(report) {
        bar.update(report.progress, report.seconds, {
          step: report.step,
          loss: report.loss.toFixed(3),
          rate: report.tokensPerSecond > 0 ? Math.round(report.tokensPerSecond) : '-',
        });
        log.write({ event: 'step', ...report });
      },
      onEvaluation: (report) => log.write({ event: 'evaluation', ...report }),
      onCheckpoint: (report) => log.write({ event: 'checkpoint', ...report }),
    }),
  );
}

async function newOptions(all: Options, given: (name: string) => boolean, group: Group): Promise<PretrainOptions> {
  const options = { ...all, accumulate: all.accumulate ?? group.size };
  if (!options.corpus) throw new InputError('--corpus FILE... is missing: name the text files to train on');
  if (options.tokens !== undefined && options.minutes !== undefined)
    throw new InputError('--tokens and --minutes are both given; a run has one budget');
  if (options.tokens === undefined && options.minutes === undefined)
    throw new InputError('the budget is missing: pass --tokens COUNT or --minutes COUNT');
  checkShape(options);
  checkFeedforward(options.feedforward, given);
  const ofTokenizer = (['vocabulary', 'normalizer'] as const).find(given);
  if (given('tokenizer') && ofTokenizer)
    throw new InputError(`--tokenizer and --${ofTokenizer} are both given: the tokenizer has its ${ofTokenizer}`);
  checkOfObjective(options, given);
  if (options.variedShare > 1) throw new InputError(`--varied-share ${options.variedShare} is more than all batches, 1`);
  const { batch, length, accumulate } = options;
  if (batch * length * accumulate > maximumStepTokens)
    throw new InputError(
      `--batch ${batch} sequences of --length ${length}, --accumulate ${accumulate}: a step has ${batch * length * accumulate} tokens, expected at most ${maximumStepTokens}`,
    );
  if (options.model !== undefined) checkNoShape(given);
  else if (options.revision !== undefined) throw new InputError('--revision is of a model on the hub, but there is no --model');
  const picked = await pick(options);
  if (picked.model !== undefined) await checkOfModel(picked.model, given);
  return picked;
}

/** Options of masked tokens alone, and of next ones. */
const ofMasked = ['normalizer', 'variedShare'] as const;
const ofCausal = ['withinDocuments'] as const;

/** @throws InputError if an option is given that the objective has no use for */
function checkOfObjective({ objective }: Options, given: (name: string) => boolean): void {
  const isCausal = objective === 'causal';
  const other = (isCausal ? ofMasked : ofCausal).find(given);
  if (other)
    throw new InputError(
      `--${dashed(other)} is of ${isCausal ? 'masked' : 'next'} tokens, but there is --objective ${objective}; leave it out`,
    );
}

/** @throws InputError if an option is given that trains what the model does not have */
async function checkOfModel(model: string, given: (name: string) => boolean): Promise<void> {
  const [{ readJson }, { parseConfig }] = await Promise.all([import('../../io/files.ts'), import('../../models/config_json.ts')]);
  const path = `${model}/config.json`;
  const { feedforward } = parseConfig(await readJson(path), path);
  checkFeedforward(feedforward.kind, given, `--model ${model}, ${feedforwardWords[feedforward.kind]},`);
}

const feedforwardWords = { fff: 'of trees', dense: 'of dense feedforward layers', none: 'without feedforward layers' };

/** What the run in --out was started with. */
async function oldRun(options: Options, given: (name: string) => boolean): Promise<ResumedRun<PretrainOptions>> {
  if (options.model !== undefined) checkNoShape(given);
  const { pretrainOptionsSchema: schema } = await import('../../training/pretrain_options.ts');
  const extend = (stored: PretrainOptions) => extended(stored, options, given);
  return resumedRun('pretrain', options.out, await pick(options), given, { schema, places: ['corpus', 'heldOut'], extend });
}

/** The options of a run with another budget, where the learning rates of the steps taken did not depend on it. */
function extended(stored: PretrainOptions, options: Options, given: (name: string) => boolean): PretrainOptions {
  const units = (['tokens', 'minutes'] as const).filter(given);
  if (units.length === 2) throw new InputError('--tokens and --minutes are both given; a run has one budget');
  const [unit] = units;
  if (unit === undefined || stored[unit] === options[unit]) return stored;
  const before = stored.tokens === undefined ? `${stored.minutes} minutes` : `${stored.tokens} tokens`;
  const { schedule, learningRate } = stored;
  if (schedule !== 'constant')
    throw new InputError(
      `--${unit} ${options[unit]}: the run was started with ${before}, and its learning rate follows the budget (--schedule ${schedule}): the steps taken would have had another; leave it out, and train further what comes out: ufb pretrain --model ${options.out} --out ANOTHER`,
    );
  notice(`${options[unit]} ${unit} in place of ${before}; the learning rate stays at ${learningRate} (--schedule constant)`, options);
  const { tokens, minutes, startedWith = { tokens, minutes } } = stored;
  return { ...stored, startedWith, tokens: undefined, minutes: undefined, [unit]: options[unit] };
}

function checkNoShape(given: (name: string) => boolean): void {
  const own = newModelOptions.find(given);
  if (own) throw new InputError(`--model and --${dashed(own)} are both given: the model has its shape and its tokenizer`);
}

async function pick(options: Options): Promise<PretrainOptions> {
  const picked = Object.fromEntries(runOptionNames.map((name) => [name, options[name]])) as unknown as PretrainOptions;
  const absolute = (path: string | undefined) => path && resolve(path);
  return {
    ...picked,
    model: options.model === undefined ? undefined : resolve(await openModelFolder(options)),
    corpus: (options.corpus ?? []).map((path) => resolve(path)),
    tokenizer: absolute(options.tokenizer),
    heldOut: absolute(options.heldOut),
    dtype: options.dtype.toUpperCase() as PretrainOptions['dtype'],
  };
}

async function summary(result: PretrainResult, out: string): Promise<string> {
  const [{ duration }, { describeLeafUse }] = await Promise.all([import('../progress.ts'), import('../../training/leaf_use.ts')]);
  const { heldOutLoss: loss, layers = [] } = result.history.findLast((point) => point.heldOutLoss !== undefined) ?? {};
  const state = endOf(result);
  const found = [
    `step ${result.step}, ${result.tokens} tokens (the corpus ${timesOf(result.passes)}), ${duration(result.seconds)}`,
    ...(loss === undefined ? [] : [`held-out loss ${loss.toFixed(4)}`]),
    ...(layers.length > 0 ? [`leaf use ${describeLeafUse(layers, result.feedforward)}`] : []),
  ];
  return `${state}: ${found.join(', ')}; ${out}`;
}
