import type { Command } from 'commander';
import type { Precision } from '../../backend/prepared_weight.ts';
import { InputError } from '../../errors.ts';
import type { Run } from '../../nn/parameter.ts';
import {
  addBackendOptions,
  addModelOption,
  addPrecisionOption,
  type BackendOptions,
  type CommonOptions,
  type ModelOptions,
  notice,
  openBackend,
  openModelFolder,
  parseCount,
  parseInteger,
  print,
  printJson,
  sentenceModel,
} from '../common.ts';

interface Options extends BackendOptions, CommonOptions, ModelOptions {
  text: string;
  seed: number;
  maxTokens?: number;
  dtype: Precision;
}

interface StsOptions extends BackendOptions, CommonOptions, ModelOptions {
  data: string;
  dtype: Precision;
}

interface AgreementOptions extends BackendOptions, CommonOptions, ModelOptions {
  against: string;
  text: string;
  count: number;
  seed: number;
  dtype: Precision;
}

export function evalCommand(program: Command): void {
  const command = program.command('eval').description('measure a model on a text or a task');
  addMlm(command);
  addSts(command);
  addAgreement(command);
}

function addSts(command: Command): void {
  const sts = command
    .command('sts')
    .description("sentence embeddings: how their cosines go with people's judgement, on STS-B's development set")
    .requiredOption('--data <folder>', 'holds dev.tsv of STS-B, or STS-B/dev.tsv')
    .option('--json', 'print JSON instead of text')
    .option('--quiet', 'print results only: no progress, no notices');
  addPrecisionOption(addBackendOptions(addModelOption(sts, sentenceModel))).action(async (options: StsOptions) => {
    const [{ evaluateSts, readStsB }, { pipeline }] = await Promise.all([
      import('../../glue/sts.ts'),
      import('../../pipelines/pipeline.ts'),
    ]);
    const pairs = await readStsB(options.data);
    using backend = await openBackend(options);
    using embed = await pipeline('feature-extraction', await openModelFolder(options), {
      backend,
      dtype: options.dtype,
      notice: (line) => notice(line, options),
    });
    const started = performance.now();
    const pooling = embed.sentence ? undefined : 'mean';
    const scores = await evaluateSts(pairs, async (texts) => (await embed(texts, { pooling })).data);
    const seconds = (performance.now() - started) / 1000;
    if (options.json) {
      printJson({ ...scores, seconds });
      return;
    }
    print(`spearman  ${scores.spearman.toFixed(4)}`);
    print(`pearson   ${scores.pearson.toFixed(4)}`);
    print(`pairs     ${scores.pairs}, ${(scores.pairs / seconds).toFixed(0)} a second`);
  });
}

function addMlm(command: Command): void {
  const mlm = command
    .command('mlm')
    .description('masked language modelling: loss, accuracy and what guessing without context gets')
    .requiredOption('--text <file>', 'text that was not trained on, plain or gzipped: one paragraph a line, blank lines between documents')
    .option('--seed <number>', 'of the masking', parseInteger, 0)
    .option('--max-tokens <count>', 'only so much of the text', parseCount)
    .option('--json', 'print JSON instead of text')
    .option('--quiet', 'print results only: no progress, no notices');
  addPrecisionOption(addBackendOptions(addModelOption(mlm))).action(async (options: Options) => {
    const [{ evaluateMaskedLanguageModel }, { ProgressBar }] = await Promise.all([
      import('../../training/evaluate.ts'),
      import('../progress.ts'),
    ]);
    const model = await openModelFolder(options);
    using backend = await openBackend(options);
    const bar = new ProgressBar(options);
    const started = performance.now();
    const onProgress = (done: number, total: number) => bar.update(done / total, (performance.now() - started) / 1000);
    const scores = await evaluateMaskedLanguageModel({ ...options, model, backend, onProgress });
    bar.stop();
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
  });
}

/** Texts whose hidden states are compared; all of them are embedded. */
const textsOfStates = 512;
const neighbours = 10;

function addAgreement(command: Command): void {
  const agreement = command
    .command('agreement')
    .description(
      'how far a converted model agrees with the one that it was made from, on paragraphs of a text: neighbours, vectors, hidden states',
    )
    .requiredOption('--against <model>', 'the model that --model was made from: a folder, or OWNER/NAME on the hub')
    .requiredOption('--text <file>', 'text, plain or gzipped, one paragraph a line')
    .option('--count <paragraphs>', 'how many are drawn at random', parseCount, 10_000)
    .option('--seed <number>', 'of the draw', parseInteger, 0)
    .option('--json', 'print JSON instead of text')
    .option('--quiet', 'print results only: no progress, no notices');
  addPrecisionOption(addBackendOptions(addModelOption(agreement, sentenceModel))).action(async (options: AgreementOptions) => {
    const [
      { pipeline },
      { recallOfNeighbours, sampleLines },
      { measureAgreement },
      { blockMap },
      { Arena },
      { ProgressBar },
      { batchesByLength, batchOf },
    ] = await Promise.all([
      import('../../pipelines/pipeline.ts'),
      import('../../convert/neighbours.ts'),
      import('../../convert/agreement.ts'),
      import('../../convert/student.ts'),
      import('../../backend/arena.ts'),
      import('../progress.ts'),
      import('../../models/text_batches.ts'),
    ]);
    const [folder, reference] = [await openModelFolder(options), await openModelFolder({ quiet: options.quiet, model: options.against })];
    const texts = await sampleLines(options.text, options.count, options.seed);
    using backend = await openBackend(options);
    const settings = { backend, notice: () => {} }; // long paragraphs are cut for both models alike
    using theirs = await pipeline('feature-extraction', reference, settings);
    using ours = await pipeline('feature-extraction', folder, { ...settings, dtype: options.dtype });
    const bar = new ProgressBar(options);
    const started = performance.now();
    const vectors: Float32Array[] = [];
    const part = 256;
    for (const [index, embed] of [theirs, ours].entries()) {
      const all = new Float32Array(texts.length * embed.model.config.hiddenSize);
      for (let first = 0; first < texts.length; first += part) {
        const { data } = await embed(texts.slice(first, first + part), { pooling: embed.sentence ? undefined : 'mean', normalize: true });
        all.set(data, first * embed.model.config.hiddenSize);
        bar.update((index * texts.length + first) / (2 * texts.length), (performance.now() - started) / 1000);
      }
      vectors.push(all);
    }
    bar.stop();
    const width = theirs.model.config.hiddenSize;
    if (width !== ours.model.config.hiddenSize)
      throw new InputError(`${folder}: has a hidden size of ${ours.model.config.hiddenSize}, expected ${width} as ${reference} has`);
    const recall = await recallOfNeighbours(backend, vectors[0], vectors[1], { width, k: neighbours });
    const maxLength = Math.min(theirs.maxLength, ours.maxLength);
    const encoded = texts.slice(0, textsOfStates).map((text) => theirs.tokenizer.encode(text, { maxLength }));
    const batches = [...batchesByLength(encoded, { unpadded: true })].map((members) => batchOf(encoded, members));
    using arena = new Arena(backend);
    const map = blockMap(theirs.model.config.layers, ours.model.config.layers);
    const infer = <Result>(work: (run: Run) => Promise<Result>) => {
      arena.reset();
      return work({ backend, arena, training: false });
    };
    const { states, cosine, leaves } = await measureAgreement(infer, theirs.model, ours.model, map, batches);
    if (options.json) {
      printJson({ texts: texts.length, seed: options.seed, recall, cosine, states, leaves });
      return;
    }
    print(
      `recall@${neighbours}         ${recall.toFixed(4)} of the nearest ${neighbours} among ${texts.length} paragraphs (seed ${options.seed})`,
    );
    print(`cosine            ${cosine.toFixed(4)}`);
    print(`R2, hidden states ${states.map((state) => state.toFixed(4)).join(' ')}`);
    if (leaves.length > 0)
      print(
        `leaves reached    ${leaves.map(({ used, leaves: all, entropy }) => `${used} of ${all} (${entropy.toFixed(1)} bits)`).join(', ')}`,
      );
  });
}
