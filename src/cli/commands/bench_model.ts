import type { Command } from 'commander';
import { precisions } from '../../backend/prepared_weight.ts';
import type { ModelRow } from '../../bench/model.ts';
import { InputError } from '../../errors.ts';
import type { ModelConfig } from '../../models/config.ts';
import {
  addFeedforwardOptions,
  addModelOption,
  checkShape,
  type FeedforwardOptions,
  givenTo,
  type ModelOptions,
  openDevice,
  openModelFolder,
  parseCount,
  print,
} from '../common.ts';
import {
  addBatchOption,
  addContestOptions,
  addPrecisionsOption,
  type ContestOptions,
  contestLength,
  openOnnxRuntime,
  report,
} from './bench_contest.ts';
import { countsOf, machine, table, wordsOf } from './bench_report.ts';

interface Options extends ContestOptions, FeedforwardOptions, ModelOptions {
  batch: string;
  dtype: string;
  layers: number;
  hidden: number;
  heads: number;
  length: number;
}

export function modelCommand(parent: Command): void {
  const command = addModelOption(parent.command('model'), undefined, { otherwise: 'random weights of the shape below' })
    .description(
      "time a whole encoder of BERT's form: ours with trees and dense, onnxruntime's dense with the same weights. Weights are random, or --model's for the part of its kind",
    )
    .option('--layers <count>', 'transformer blocks', parseCount, 12)
    .option('--hidden <width>', 'hidden size', parseCount, 768)
    .option('--heads <count>', 'attention heads', parseCount, 12)
    .option('--length <tokens>', 'tokens a sequence', parseCount, 128);
  addFeedforwardOptions(command, 3072);
  addPrecisionsOption(addBatchOption(command, '1,8'), precisions.join(','));
  addContestOptions(command, 9).action(async (options: Options) => {
    checkShape(options);
    const given = shapeOptions.filter(givenTo(command));
    if (options.model !== undefined && given.length > 0)
      throw new InputError(`--${given[0]} and --model are both given: the model has a shape of its own`);
    const counts = countsOf('--batch', options.batch);
    const dtypes = wordsOf('--dtype', options.dtype, precisions);
    const [{ benchmarkModel, benchmarkConfig }, { feedforwardOf }] = await Promise.all([
      import('../../bench/model.ts'),
      import('../../models/config.ts'),
    ]);
    const model = options.model === undefined ? undefined : await openModelFolder(options);
    const config = model
      ? await configOf(model, options)
      : benchmarkConfig({ ...options, width: options.hidden, neurons: options.intermediate });
    using device = await openDevice(options);
    const results = await benchmarkModel(device, {
      ...contestLength(options, 600, 200),
      config,
      model,
      other: feedforwardOf(config.feedforward.kind === 'fff' ? 'dense' : 'fff', options),
      length: options.length,
      batches: options.quick ? counts.slice(0, 1) : counts,
      dtypes,
      onnxRuntime: await openOnnxRuntime(device, options),
    });
    if (!options.json)
      print(
        `${machine(device)}\n${config.numHiddenLayers} layers of ${config.hiddenSize}${model ? ` (${model})` : ''}, ${options.length} tokens a sequence; milliseconds a call, median (quartiles); error: root of mean squares, over that of the output in f32\n\n${modelTable(results)}`,
      );
    await report('model', device, options, { model, length: options.length, results }, ({ renderBars }) => {
      const bars = results.map(({ name, dtype, batch, milliseconds }) => ({
        label: `batch ${batch}, ${name} ${dtype}`,
        value: milliseconds.median,
        ours: name.startsWith('ours'),
      }));
      return renderBars('Encoder', 'milliseconds a call', bars);
    });
  });
}

/** What a model says of itself. */
const shapeOptions = ['layers', 'hidden', 'heads'] as const;

async function configOf(folder: string, { length }: Options): Promise<ModelConfig> {
  const [{ readJson }, { parseConfig }, { familyOf }] = await Promise.all([
    import('../../io/files.ts'),
    import('../../models/config_json.ts'),
    import('../../models/families/families.ts'),
  ]);
  const path = `${folder}/config.json`;
  const config = parseConfig(await readJson(path), path);
  if (familyOf(config).normPlacement === 'pre')
    throw new InputError(
      `${path}: 'model_type' is "${config.family}", expected "bert" or "ultrafastbert": the peer's fused operators are BERT's, whose norms come after`,
    );
  if (config.activation !== undefined)
    throw new InputError(`${path}: the activation is ${config.activation}, expected gelu: the peer's fused operators have no other`);
  if (length > config.maxPositionEmbeddings)
    throw new InputError(`--length ${length}: ${folder} takes at most ${config.maxPositionEmbeddings} tokens`);
  return config;
}

/** Ours beside onnxruntime's dense in the same dtype, if that ran. */
function modelTable(rows: readonly ModelRow[]): string {
  const lines = rows.map(({ name, dtype, batch, milliseconds: { median, low, high }, relativeError }) => {
    const peer = rows.find((row) => row.batch === batch && row.dtype === dtype && !row.name.startsWith('ours'));
    const ratio = peer && name.startsWith('ours') ? `${(peer.milliseconds.median / median).toFixed(2)}x` : '';
    return [
      `batch ${batch}, ${name}`,
      dtype,
      `${median.toFixed(1)} (${low.toFixed(1)}-${high.toFixed(1)})`,
      ratio,
      relativeError.toExponential(1),
    ];
  });
  return table([['', 'dtype', 'ms', 'onnxruntime over it', 'error'], ...lines]);
}
