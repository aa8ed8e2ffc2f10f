import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { ConversionOptions, ConversionResult } from '../../convert/convert.ts';
import type { Group } from '../../distributed/group.ts';
import { InputError } from '../../errors.ts';
import { type FeedforwardConfig, feedforwardOf } from '../../models/config.ts';
import {
  addFeedforwardOptions,
  addModelOption,
  checkFeedforward,
  type FeedforwardOptions,
  fixed,
  givenTo,
  type ModelOptions,
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
  checkSameOptions,
  endOf,
  inSession,
  printResult,
  type RankCommandOptions,
  type ResumedRun,
  type RunOptions,
  resumedRun,
  timesOf,
} from '../training_runs.ts';

type Options = RunOptions &
  RankCommandOptions &
  ModelOptions &
  FeedforwardOptions &
  Omit<ConversionOptions, 'model' | 'feedforward' | 'pooling' | 'lowerCase'> & {
    feedforward: FeedforwardConfig['kind'];
    evaluateEvery: number;
  };

export function convertCommand(program: Command): void {
  const command = addModelOption(program.command('convert'), 'a model with dense feedforward layers', { mandatory: false })
    .description(
      'turn a dense BERT into one with fast feedforward trees that answers as it does; Ctrl-C saves and stops, --resume goes on exactly',
    )
    .option('--corpus <file...>', 'text files, plain or gzipped: one paragraph a line, blank lines between documents')
    .requiredOption('-o, --out <folder>', 'where the run and the converted model are kept')
    .option(
      '--resume',
      'go on with the run in --out, with the options and the log it was started with; --corpus and --model may name what was moved',
    )
    .addOption(
      new Option(
        '--feedforward <kind>',
        'what the layers become: trees (fff), dense ones of --intermediate neurons (with --layers: as they were), or none',
      )
        .choices(['fff', 'dense', 'none'])
        .default('fff'),
    );
  addFeedforwardOptions(command, 12)
    .option(
      '--layers <count>',
      'blocks to keep, evenly spread (default: all); with --feedforward dense they keep their neurons too',
      parseCount,
    )
    .option(
      '--fit-tokens <count>',
      'tokens for fitting the new layers one by one; where there are none, fewer blocks as they are, say, these train the whole network too',
      parseInteger,
      1_000_000,
    )
    .option('--tokens <count>', 'tokens for training the whole network after that', parseInteger, 29_000_000)
    .option('-b, --batch <tokens>', 'tokens computed together, about', parseCount, 1024)
    .option('--length <tokens>', 'tokens of a text, at most', parseCount, 256)
    .option('--fit-learning-rate <rate>', 'peak while the new layers are fitted', parsePositive, 1e-2)
    .option('--learning-rate <rate>', 'peak while the whole network is trained', parsePositive, 1e-3)
    .option('--no-train-embeddings', 'leave the embeddings as they are; else they are trained along with the blocks')
    .option(
      '--answer-weight <number>',
      "what the answer (a text's vector, or logits) counts beside one layer's hidden states",
      parsePositive,
      1,
    )
    .addOption(balanceOption('--fit-balance <rate>', 'while layers are fitted', 1))
    .addOption(balanceOption('--balance <rate>', 'while the whole network is trained', 0.1))
    .addOption(branchRateOption(0.2))
    .option('--weight-decay <factor>', "AdamW's, of the new layers; what is kept of the model does not decay", parseNumber, 1)
    .option('--seed <number>', 'of the new layers and the order of the texts', parseInteger, 0)
    .option('--held-out-every <count>', 'which documents the agreement is measured on: every N-th', parseCount, 50)
    .option('--held-out-texts <count>', 'texts of them', parseCount, 512)
    .option('--evaluate-every <seconds>', 'time between two measurements of the agreement', parsePositive, 300);
  accumulateOption(command);
  addRankOptions(addRunOptions(command, 600));
  groupOptions(command, {
    'Required:': '--model --corpus --out',
    'What the layers become:': '--feedforward --trees --depth --leaf-width --always-on --intermediate --layers',
    'How they are trained:':
      '--fit-tokens --tokens --batch --accumulate --length --fit-learning-rate --learning-rate --branch-rate --weight-decay --no-train-embeddings --answer-weight --fit-balance --balance --seed',
    'Held-out text:': '--held-out-every --held-out-texts --evaluate-every',
    'The run:': '--resume --checkpoint-every --revision --dtype --log --json --quiet',
    [ranksHeading]: rankOptions,
    'What computes:': computingOptions,
  });
  command
    .addHelpText(
      'after',
      '\nExample:\n  ufb convert --model sentence-transformers/all-MiniLM-L6-v2 --corpus text.txt.gz --trees 1 --depth 11 --out minilm-1x11',
    )
    .action(async (options: Options) => {
      await asRank(options, async (group) => printResult(await run(options, givenTo(command), group), options, summary, group));
    });
}

async function run(options: Options, given: (name: string) => boolean, group: Group): Promise<ConversionResult> {
  const [{ convert }, { readSentenceModules }, { poolKindOf }] = await Promise.all([
    import('../../convert/convert.ts'),
    import('../../pipelines/sentence_transformer.ts'),
    import('../../pipelines/pooling.ts'),
  ]);
  if (!options.resume && options.model === undefined) throw new InputError('--model is missing: name the model to convert');
  if (!options.resume) checkFeedforward(options.feedforward, given);
  if (!options.resume && !options.corpus) throw new InputError('--corpus FILE... is missing: name the text files to train on');
  const folder =
    options.model === undefined ? undefined : resolve(await firstBeforeOthers(group, 'the model', () => openModelFolder(options)));
  const modules = folder === undefined ? undefined : await readSentenceModules(folder);
  const now: ConversionOptions = {
    model: folder ?? '',
    corpus: (options.corpus ?? []).map((path) => resolve(path)),
    feedforward: feedforwardOf(options.feedforward, folder === undefined ? options : await withOwnNeurons(folder, options, given)),
    layers: options.layers,
    fitTokens: options.fitTokens,
    tokens: options.tokens,
    batch: options.batch,
    length: options.length,
    accumulate: options.accumulate ?? (group.size > 1 ? group.size : undefined),
    precision: options.precision,
    fitLearningRate: options.fitLearningRate,
    learningRate: options.learningRate,
    trainEmbeddings: options.trainEmbeddings,
    pooling: modules && poolKindOf(modules.pooling),
    lowerCase: modules?.lowerCase || undefined,
    answerWeight: options.answerWeight,
    fitBalance: options.fitBalance,
    balance: options.balance,
    branchRate: options.branchRate,
    weightDecay: options.weightDecay,
    seed: options.seed,
    heldOutEvery: options.heldOutEvery,
    heldOutTexts: options.heldOutTexts,
    dtype: options.dtype.toUpperCase() as ConversionOptions['dtype'],
  };
  const { options: runOptions, log: logged } = options.resume
    ? await group.fromFirst('the run', () => runToResume(options, now, given))
    : { options: now };
  let lastStep = 0;
  const { corpus: read } = runOptions;
  return inSession(options, { logged, read, group, bar: '{phase}  loss {loss}  {rate} tokens/s  ' }, (session, log, bar) =>
    convert(runOptions, {
      ...session,
      out: options.out,
      checkpointEvery: options.checkpointEvery,
      evaluateEvery: options.evaluateEvery,
      onStart(started) {
        lastStep = started.step;
        return session.onStart(started);
      },
      onStep(report) {
        lastStep = report.step;
        const { phase, loss, tokensPerSecond, progress, seconds } = report;
        bar.update(progress, seconds, { phase, loss: loss.toFixed(3), rate: tokensPerSecond > 0 ? Math.round(tokensPerSecond) : '-' });
        log.write({ event: 'step', ...report });
      },
      onAgreement(report) {
        log.write({ event: 'agreement', step: lastStep, ...report });
        notice(agreementLine(report), options);
      },
    }),
  );
}

/** The run that is to go on; what is given again must be as it was, the shape of its layers too. */
async function runToResume(
  options: Options,
  now: ConversionOptions,
  given: (name: string) => boolean,
): Promise<ResumedRun<ConversionOptions>> {
  const { conversionOptionsSchema: schema } = await import('../../convert/convert_options.ts');
  const isOther = (name: string) => name !== 'feedforward' && given(name);
  const run = await resumedRun('convert', options.out, now, isOther, { schema, places: ['corpus', 'model'] });
  const { kind, ...shape } = run.options.feedforward;
  const { feedforward, trees, depth, leafWidth, alwaysOn, intermediate } = options;
  const started = { feedforward: kind, intermediate: 'neurons' in shape ? shape.neurons : undefined, ...shape };
  if (kind !== 'fff') Object.assign(started, { leafWidth: undefined, alwaysOn: undefined });
  checkSameOptions({ feedforward, trees, depth, leafWidth, alwaysOn, intermediate }, started, given);
  return run;
}

/** Dense layers of fewer blocks have as many neurons as they had, unless --intermediate says otherwise. */
async function withOwnNeurons(folder: string, options: Options, given: (name: string) => boolean): Promise<FeedforwardOptions> {
  if (options.layers === undefined || given('intermediate')) return options;
  const [{ readJson }, { parseConfig }] = await Promise.all([import('../../io/files.ts'), import('../../models/config_json.ts')]);
  const { feedforward } = parseConfig(await readJson(`${folder}/config.json`), `${folder}/config.json`);
  return feedforward.kind === 'dense' ? { ...options, intermediate: feedforward.neurons } : options;
}

function agreementLine({ fitted, trained, states, vectors, logits, cosine, layers }: ConversionResult['history'][number]): string {
  const millions = (tokens: number) => `${(tokens / 1e6).toFixed(1)} M`;
  const use = layers.map(({ used, entropy }) => `${used} (${entropy.toFixed(1)} bits)`).join(', ');
  const answers = `of vectors ${fixed(vectors, 3)}${logits === undefined ? '' : `, of logits ${fixed(logits, 3)}`}, cosine ${fixed(cosine, 4)}`;
  return `${millions(fitted)} tokens fitted, ${millions(trained)} trained: R2 of hidden states ${states.map((state) => fixed(state, 3)).join(' ')}, ${answers}${use ? `; leaves used ${use}` : ''}`;
}

async function summary(result: ConversionResult, out: string): Promise<string> {
  const { duration } = await import('../progress.ts');
  const state = endOf(result);
  const last = result.history.at(-1);
  const rate = Math.round((result.fitted + result.trained) / result.seconds);
  return `${state}: step ${result.step}, ${duration(result.seconds)}, ${rate} tokens/s, the corpus ${timesOf(result.passes)}${last ? `; ${agreementLine(last)}` : ''}; ${out}`;
}
