import type { Command } from 'commander';
import type { Device } from '../../backend/device.ts';
import { precisions } from '../../backend/prepared_weight.ts';
import type { LayerResult } from '../../bench/layer.ts';
import type { ModelLayer } from '../../bench/model_layer.ts';
import { InputError, printable } from '../../errors.ts';
import { addModelOption, givenTo, type ModelOptions, openDevice, openModelFolder, parseCount, parseInteger, print } from '../common.ts';
import {
  addBatchOption,
  addContestOptions,
  addPrecisionsOption,
  type ContestOptions,
  contestLength,
  openOnnxRuntime,
  report,
  timingText,
} from './bench_contest.ts';
import { countsOf, machine, table, wordsOf } from './bench_report.ts';

interface LayerOptions extends ContestOptions, ModelOptions {
  batch: string;
  dtype: string;
  width: number;
  configs: string;
  all?: boolean;
  text?: string;
  layer?: number;
}

/** Trees x depth, 3072 to 4608 neurons: the paper's family. */
const family = '3072x0,1536x1,512x2,256x3,128x4,64x5,32x6,16x7,8x8,4x9,2x10,1x11';

export function layerCommand(parent: Command): void {
  const command = parent
    .command('layer')
    .description("time fast feedforward trees against dense layers of as many neurons, ours and onnxruntime's")
    .option('--width <count>', 'hidden size', parseCount, 768)
    .option('--configs <list>', 'trees x depth, with commas between them', '1x11')
    .option('--all', `all of the paper's: ${family}`)
    .option(
      '--text <file>',
      'measure a layer of --model on what it takes in when the model reads this text, instead of random weights and tokens',
    )
    .option('--layer <index>', 'with --text: which layer, from 0 (default: the middle one)', parseInteger);
  addModelOption(command, undefined, { otherwise: 'the shipped model, with --text' });
  addPrecisionsOption(addBatchOption(command, '1,128,2048'), precisions.join(','));
  addContestOptions(command, 9, '1').action(async (options: LayerOptions) => {
    const asked = givenTo(command);
    const ofText = ['model', 'revision', 'layer'].find(asked);
    if (options.text === undefined && ofText) throw new InputError(`--${ofText} needs --text, the text that the model is to read`);
    const ofRandom = ['width', 'configs', 'all'].find(asked);
    if (options.text !== undefined && ofRandom)
      throw new InputError(`--${ofRandom} and --text are both given: the model's layer has its shape`);
    const configs = configsOf(options);
    const counts = countsOf('--batch', options.batch);
    const dtypes = wordsOf('--dtype', options.dtype, precisions);
    const [{ benchmarkLayer }, { randomTrees }, { randomTokens }] = await Promise.all([
      import('../../bench/layer.ts'),
      import('../../bench/queued_layers.ts'),
      import('../../bench/work.ts'),
    ]);
    // As the paper does: one thread.
    using device = await openDevice({ ...options, threads: options.threads ?? 1 });
    const onnxRuntime = await openOnnxRuntime(device, options);
    if (!options.json) print(`${machine(device)}\nmicroseconds a token, median (quartiles); error: largest, over the largest output\n`);
    const batches = options.quick ? counts.slice(0, 2) : counts;
    const real = options.text === undefined ? undefined : await readLayer(device, options, options.text, batches);
    const results = await benchmarkLayer(device, {
      ...contestLength(options, 250, 50),
      layers: real ? [real.tree] : configs.map((config) => randomTrees({ ...config, width: options.width })),
      tokens: real?.tokens ?? randomTokens(options.width, batches),
      batches,
      dtypes,
      onnxRuntime,
      onResult: (result) => {
        if (!options.json) print(layerTable(result));
      },
    });
    const given = real && { layer: real.layer, leavesReached: real.leavesReached, leaves: real.leaves };
    await report('layer', device, options, { ...given, results }, ({ renderBars }) => {
      const bars = results.flatMap(({ config, batch, dtype, usPerToken, peers }) => [
        { label: `${config}, batch ${batch}, ours ${dtype}`, value: usPerToken, ours: true },
        ...(dtype === dtypes[0]
          ? peers.map((row) => ({ label: `batch ${batch}, ${row.name} ${row.dtype}`, value: row.usPerToken, ours: false }))
          : []),
      ]);
      return renderBars('Feedforward layer', 'microseconds a token', bars);
    });
  });
}

function configsOf({ all, configs }: LayerOptions): { trees: number; depth: number }[] {
  return (all ? family : configs).split(',').map((config) => {
    const [, trees, depth] = /^([1-9]\d*)x(\d+)$/.exec(config) ?? [];
    if (depth === undefined || Number(depth) > 20)
      throw new InputError(`--configs ${configs}: expected trees x depth, as in 1x11, with commas between them`);
    return { trees: Number(trees), depth: Number(depth) };
  });
}

/** The model's layer and what it takes in; says how evenly its tokens spread. */
async function readLayer(device: Device, options: LayerOptions, text: string, batches: readonly number[]): Promise<ModelLayer> {
  const [{ readModelLayer }, { tokensFor }] = await Promise.all([import('../../bench/model_layer.ts'), import('../../bench/work.ts')]);
  const model = await openModelFolder(options);
  const read = await readModelLayer(device, { model, text, layer: options.layer, tokens: tokensFor(batches) });
  const tokens = read.tokens.values.length / read.tokens.width;
  if (!options.json)
    print(
      `layer ${read.layer} of ${printable(String(model))}: ${tokens} tokens of ${printable(String(text))} reach ${read.leavesReached} of ${read.leaves} leaves\n`,
    );
  return read;
}

function layerTable(result: LayerResult): string {
  const ratio = (usPerToken: number) => `${(usPerToken / result.usPerToken).toFixed(1)}x`;
  const rows = [
    [`${result.config}, batch ${result.batch}`, 'dtype', 'us/token', 'over ours', 'error'],
    ['ours trees', result.dtype, timingText(result), '', result.maxRelativeError.toExponential(1)],
    ...result.peers.map((peer) => [
      peer.name,
      peer.dtype,
      timingText(peer),
      ratio(peer.usPerToken),
      peer.maxRelativeError.toExponential(1),
    ]),
  ];
  return `${table(rows)}\nthe fastest dense layer over the trees: ${result.ratio.toFixed(1)} (of the same dtype ${result.ratioSameDtype.toFixed(1)})\n`;
}
