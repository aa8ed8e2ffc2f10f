import type { Command } from 'commander';
import type { Device } from '../../backend/device.ts';
import { InputError, printable } from '../../errors.ts';
import type { Encoder } from '../../models/encoder.ts';
import type { SentenceModules } from '../../pipelines/sentence_transformer.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import {
  addCommonOptions,
  addDeviceOptions,
  addModelOption,
  type CommonOptions,
  type DeviceOptions,
  type ModelOptions,
  notice,
  openDevice,
  openModelFolder,
  print,
  printJson,
} from '../common.ts';
import { checkOutput } from '../outputs.ts';

interface Options extends CommonOptions, DeviceOptions, ModelOptions {
  text?: string;
  textFile?: string;
  out?: string;
  tensors?: boolean;
}

export function inspectCommand(program: Command): void {
  const command = program
    .command('inspect')
    .argument('[model]', 'as --model')
    .description('what a model is made of, and which way the tokens of a text take through its trees')
    .option('--tensors', 'list every tensor')
    .option('--text <text>', 'show the leaf that each token reaches in each layer')
    .option('--text-file <file>', 'count how the texts of a file, one a line, spread over the leaves of each layer')
    .option('-o, --out <file>', 'with --text: draw the paths (SVG)');
  addModelOption(addDeviceOptions(addCommonOptions(command)))
    .addHelpText('after', '\nExample:\n  ufb inspect --text "The cat sat on the mat." --out paths.svg')
    .action((model: string | undefined, options: Options) => {
      if (model !== undefined && options.model !== undefined) throw new InputError(`${model} and --model ${options.model} are both given`);
      return inspect({ ...options, model: options.model ?? model });
    });
}

async function inspect(options: Options): Promise<void> {
  if (options.out !== undefined && options.text === undefined) throw new InputError('--out draws the paths of a text: give one by --text');
  const [{ openWeights }, { readJson, writeFileAtomic }, { neuronsOf, describeFeedforward }, { parseConfig }, { readSentenceModules }] =
    await Promise.all([
      import('../../io/model_folder.ts'),
      import('../../io/files.ts'),
      import('../../models/config.ts'),
      import('../../models/config_json.ts'),
      import('../../pipelines/sentence_transformer.ts'),
    ]);
  const folder = await openModelFolder(options);
  await checkOutput('--out', options.out, {});
  const config = parseConfig(await readJson(`${folder}/config.json`), `${folder}/config.json`);
  await using weights = await openWeights(folder);
  const tensors = weights.names.map((name) => {
    const { dtype, shape, start, end } = weights.info(name);
    return { name, dtype, shape, bytes: end - start };
  });
  const parameters = tensors.reduce((sum, { shape }) => sum + shape.reduce((product, extent) => product * extent, 1), 0);
  const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  const { feedforward } = config;
  const neurons = neuronsOf(feedforward);
  // What embeds in a way that is not run here can be looked at all the same.
  let [sentences, unsupported]: [SentenceModules?, string?] = [];
  try {
    sentences = await readSentenceModules(folder);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    unsupported = error.message;
  }
  const paths = options.text === undefined ? undefined : await tracePaths(folder, options.text, options);
  const leafUse = options.textFile === undefined ? undefined : await countLeaves(folder, options.textFile, options);
  if (paths && options.out !== undefined) {
    const { drawPaths } = await import('../../pipelines/token_paths.ts');
    await writeFileAtomic(
      options.out,
      drawPaths(paths, `${folder.split('/').filter(Boolean).at(-1)}: ${neurons.used} of ${neurons.total} neurons a token and layer`),
    );
    notice(`${options.out}: the paths of ${paths.tokens.length} tokens`, options);
  }
  if (options.json) {
    printJson({
      folder,
      config,
      sentences: unsupported === undefined ? sentences : { unsupported },
      parameters,
      bytes,
      neurons,
      tensors,
      paths,
      leafUse,
    });
    return;
  }
  const types = [...new Set(tensors.map(({ dtype }) => dtype))].join(', ');
  print(`model        ${printable(folder)}`);
  print(`family       ${config.family}, ${config.numHiddenLayers} layers of ${config.hiddenSize}, ${config.numAttentionHeads} heads`);
  const length = Math.min(config.maxPositionEmbeddings, sentences?.maxLength ?? Number.POSITIVE_INFINITY);
  const vectors = sentences ? `, ${[sentences.pooling].flat().join(' and ')}-pooled${modulesOf(sentences)} into vectors of sentences` : '';
  print(`texts        up to ${length} tokens, vocabulary of ${config.vocabSize}${vectors}`);
  if (unsupported !== undefined) print(`sentences    not supported: ${unsupported}`);
  if (config.numLabels !== undefined) print(`labels       ${config.labelNames?.map(printable).join(', ') ?? config.numLabels}`);
  const share =
    neurons.total > 0 ? `: ${neurons.used} of ${neurons.total} neurons a token and layer (${shareText(neurons.used / neurons.total)})` : '';
  const routing = feedforward.kind === 'fff' && feedforward.thresholds ? ', routing thresholds' : '';
  print(`feedforward  ${describeFeedforward(feedforward)}${routing}${share}`);
  print(`weights      ${parameters} numbers in ${tensors.length} tensors, ${(bytes / 1e6).toFixed(1)} MB, ${types}`);
  if (options.tensors) {
    print();
    const width = Math.max(...tensors.map(({ name }) => printable(name).length));
    for (const { name, dtype, shape, bytes } of tensors)
      print(`${printable(name).padEnd(width)}  ${dtype.padEnd(4)}  [${shape.join(', ')}]  ${bytes} bytes`);
  }
  if (paths) {
    const cells = [
      ['', ...paths.leaves.map((_, layer) => `layer ${layer + 1}`)],
      ...paths.tokens.map((token, t) => [printable(token), ...paths.leaves.map((layer) => layer[t].join(' '))]),
      ['leaves used', ...paths.layers.map(({ used }) => String(used))],
      ['entropy, bits', ...paths.layers.map(({ entropy }) => entropy.toFixed(2))],
    ];
    const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
    print();
    print(`leaf of each token, counted from the left, 0 to ${2 ** paths.depth - 1}${paths.trees > 1 ? ', tree by tree' : ''}:`);
    for (const row of cells)
      print(row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join('  '));
  }
  if (leafUse) print(`\n${await leafUseText(leafUse)}`);
}

/** What a file's texts use of the leaves, under a line that says what was counted. */
async function leafUseText({ texts, tokens, layers }: Awaited<ReturnType<typeof countLeaves>>): Promise<string> {
  const { leafUseTable } = await import('../leaf_use_table.ts');
  return `${tokens} tokens of ${texts} texts:\n${leafUseTable(layers)}`;
}

async function tracePaths(folder: string, text: string, options: Options) {
  const [{ pathsOf }, { LossNotice }] = await Promise.all([
    import('../../pipelines/token_paths.ts'),
    import('../../tokenizer/character_loss.ts'),
  ]);
  return await withEncoder(folder, options, (encoder, tokenizer, device) => {
    const tell = (line: string) => notice(line, options);
    const encoding = tokenizer.encode(text);
    new LossNotice(tell).of([encoding]);
    const { clsId } = tokenizer;
    if (clsId !== undefined && !encoding.ids.includes(clsId))
      tell(`no ${tokenizer.idToToken(clsId)} among the tokens: this model reads a text without, as crammedBERT does`);
    return pathsOf(encoder, tokenizer, device, text);
  });
}

async function countLeaves(folder: string, path: string, options: Options) {
  const [{ leafUseOf }, { readLines }, { ProgressBar }] = await Promise.all([
    import('../../pipelines/token_paths.ts'),
    import('../../io/files.ts'),
    import('../progress.ts'),
  ]);
  const bar = new ProgressBar(options, '', '{texts} texts  {rate} a second');
  const started = performance.now();
  try {
    return await withEncoder(folder, options, (encoder, tokenizer, device) =>
      leafUseOf(encoder, tokenizer, device, { lines: readLines(path), source: path }, (texts) => {
        const seconds = (performance.now() - started) / 1000;
        bar.update(0, seconds, { texts, rate: Math.round(texts / seconds) });
      }),
    );
  } finally {
    bar.stop();
  }
}

async function withEncoder<Result>(
  folder: string,
  options: Options,
  work: (encoder: Encoder, tokenizer: Tokenizer, device: Device) => Promise<Result>,
): Promise<Result> {
  const [{ encoderOf, loadModel }, { loadTokenizer }] = await Promise.all([
    import('../../models/checkpoint.ts'),
    import('../../tokenizer/tokenizer_config.ts'),
  ]);
  const tokenizer = await loadTokenizer(folder, (line) => notice(line, options));
  using device = await openDevice(options);
  using model = await loadModel(folder, device, { dtype: 'f32' });
  return await work(encoderOf(model), tokenizer, device);
}

/** What is done to pooled vectors, as in ' and scaled'. */
function modulesOf({ modules, dimensions }: SentenceModules): string {
  const words = { normalize: 'scaled', layerNorm: 'normed', dense: 'mapped' };
  const done = modules.map((module) => words[module.kind]);
  if (dimensions !== undefined) done.push(`cut to ${dimensions} numbers`);
  return done.map((word) => ` and ${word}`).join('');
}

/** 0.0029 as 0.29 %. */
const shareText = (share: number) => `${Number((100 * share).toPrecision(2))} %`;
