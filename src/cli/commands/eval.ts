import type { Command } from 'commander';
import { InputError } from '../../errors.ts';
import {
  addInferenceOptions,
  fixed,
  type InferenceOptions,
  notice,
  openDevice,
  openModelFolder,
  openPipeline,
  parseCount,
  parseInteger,
  print,
  printJson,
  sentenceModel,
} from '../common.ts';
import { addClassification } from './eval_classification.ts';
import { addLm } from './eval_lm.ts';
import { addRetrieval } from './eval_retrieval.ts';

interface Options extends InferenceOptions {
  text: string;
  seed: number;
  maxTokens?: number;
  length?: number;
  blanks?: number;
}

interface StsOptions extends InferenceOptions {
  data: string;
}

interface AgreementOptions extends InferenceOptions {
  against: string;
  text: string;
  count: number;
  seed: number;
}

export function evalCommand(program: Command): void {
  const command = program.command('eval').description('measure a model on a text or a task');
  addMlm(command);
  addLm(command);
  addClassification(command);
  addSts(command);
  addRetrieval(command);
  addAgreement(command);
}

function addSts(command: Command): void {
  const sts = command
    .command('sts')
    .description("sentence embeddings: how their cosines go with people's judgement, on STS-B's development set")
    .requiredOption('--data <folder>', 'holds dev.tsv of STS-B, or STS-B/dev.tsv');
  addInferenceOptions(sts, sentenceModel).action(async (options: StsOptions) => {
    const { evaluateSts, readStsB } = await import('../../glue/sts.ts');
    const pairs = await readStsB(options.data);
    using device = await openDevice(options);
    using embed = await openPipeline('feature-extraction', device, options);
    const started = performance.now();
    const pooling = embed.pooling ?? 'mean';
    const scores = await evaluateSts(pairs, async (texts) => (await embed(texts, { pooling })).data);
    const seconds = (performance.now() - started) / 1000;
    if (options.json) {
      printJson({ ...scores, seconds });
      return;
    }
    print(`spearman  ${fixed(scores.spearman, 4)}`);
    print(`pearson   ${fixed(scores.pearson, 4)}`);
    print(`pairs     ${scores.pairs}, ${(scores.pairs / seconds).toFixed(0)} a second`);
  });
}

function addMlm(command: Command): void {
  const mlm = command
    .command('mlm')
    .description('masked language modeling: loss, accuracy and what guessing without context gets')
    .requiredOption('--text <file>', 'text that was not trained on, plain or gzipped: one paragraph a line, blank lines between documents')
    .option('--seed <number>', 'of the masking', parseInteger, 0)
    .option('--max-tokens <count>', 'only so much of the text', parseCount)
    .option('--length <tokens>', 'tokens a sequence (default: as many as the model has positions)', parseCount)
    .option(
      '--blanks <count>',
      'tokens of each sequence that are predicted, each of them [MASK] (default: masked as in training)',
      parseCount,
    );
  addInferenceOptions(mlm).action(async (options: Options) => {
    const [{ evaluateMaskedLanguageModel }, { withProgress }] = await Promise.all([
      import('../../training/evaluate.ts'),
      import('../progress.ts'),
    ]);
    const model = await openModelFolder(options);
    using device = await openDevice(options);
    const scores = await withProgress(options, (onProgress) =>
      evaluateMaskedLanguageModel({ ...options, model, device, onProgress, onNotice: (line) => notice(line, options) }),
    );
    if (options.json) {
      printJson(scores);
      return;
    }
    const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
    print(`loss                 ${scores.loss.toFixed(4)} nats per predicted token, ${scores.lossPerByte.toFixed(4)} nats per byte`);
    print(`top 1, top 5         ${percent(scores.top1)}, ${percent(scores.top5)}`);
    print(`unigram loss         ${scores.unigramLoss.toFixed(4)} nats (token frequencies of this text)`);
    print(`most frequent token  ${percent(scores.mostFrequentTop1)} top 1`);
    print(`tokens               ${scores.tokens}, ${scores.predicted} of them predicted`);
    if (scores.changedPaths !== undefined)
      print(`changed paths        ${(scores.changedPaths * 100).toFixed(2)} % of tokens x layers x trees reach another leaf than in f32`);
    if (scores.layers.length > 0) print(`\n${(await import('../leaf_use_table.ts')).leafUseTable(scores.layers)}`);
  });
}

function addAgreement(command: Command): void {
  const agreement = command
    .command('agreement')
    .description(
      'how far a converted model agrees with the one that it was made from, on paragraphs of a text: neighbors, vectors, hidden states',
    )
    .requiredOption('--against <model>', 'the model that --model was made from: a folder, or OWNER/NAME on the hub')
    .requiredOption('--text <file>', 'text, plain or gzipped, one paragraph a line')
    .option('--count <paragraphs>', 'how many are drawn at random', parseCount, 10_000)
    .option('--seed <number>', 'of the draw', parseInteger, 0);
  addInferenceOptions(agreement, sentenceModel).action(async (options: AgreementOptions) => {
    const [{ pipeline }, { poolKindOf }, { isNoticeOfCut }, { sampleLines }, { compareModels }, { withProgress }] = await Promise.all([
      import('../../pipelines/pipeline.ts'),
      import('../../pipelines/pooling.ts'),
      import('../../pipelines/text_pipeline.ts'),
      import('../../convert/neighbors.ts'),
      import('../../convert/compare.ts'),
      import('../progress.ts'),
    ]);
    const [folder, reference] = [await openModelFolder(options), await openModelFolder({ quiet: options.quiet, model: options.against })];
    const texts = await sampleLines(options.text, options.count, options.seed);
    if (texts.length < options.count) {
      const found = `${options.text}: has ${texts.length} paragraphs`;
      if (agreement.getOptionValueSource('count') === 'cli') throw new InputError(`${found}, expected at least --count ${options.count}`);
      notice(`${found}, all of which are taken: among fewer than ${options.count}, neighbors are more easily kept`, options);
    }
    using device = await openDevice(options);
    // Long paragraphs are cut for both models alike; what both say of the texts is said once.
    const told = new Set<string>();
    const tell = (line: string) => {
      if (!isNoticeOfCut(line) && !told.has(line)) notice(line, options);
      told.add(line);
    };
    const settings = { device, notice: tell };
    using theirs = await pipeline('feature-extraction', reference, settings);
    using ours = await pipeline('feature-extraction', folder, { ...settings, dtype: options.dtype });
    const pooling = theirs.pooling ?? 'mean';
    const [first, second] = [theirs, ours].map((extract) => {
      const { model, tokenizer, maxLength } = extract;
      const encode = (text: string, length: number) => tokenizer.encode(text, { maxLength: length });
      const embed = async (some: readonly string[]) => (await extract(some, { pooling, normalize: true })).data;
      return { model, encode, maxLength, embed, width: extract.width };
    });
    const comparison = await withProgress(options, (onProgress) =>
      compareModels(device, first, second, texts, { pooling: poolKindOf(pooling), onProgress }),
    );
    const { recall, states, vectors, cosine, layers } = comparison;
    if (options.json) {
      printJson({ seed: options.seed, ...comparison });
      return;
    }
    print(`recall@10         ${recall.toFixed(4)} of the nearest 10 among ${texts.length} paragraphs (seed ${options.seed})`);
    print(`vectors           R2 ${fixed(vectors, 4)}, cosine ${fixed(cosine, 4)}`);
    print(`R2, hidden states ${states.map((state) => fixed(state, 4)).join(' ')}`);
    if (layers.length > 0) print(`\n${(await import('../leaf_use_table.ts')).leafUseTable(layers)}`);
  });
}
