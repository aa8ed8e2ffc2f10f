/** The benchmarks that run other programs beside ours. */
import type { Command } from 'commander';
import { precisions } from '../../backend/prepared_weight.ts';
import type { LayerResult } from '../../bench/layer.ts';
import type { ModelRow } from '../../bench/model.ts';
import { InputError } from '../../errors.ts';
import {
  addBackendOptions,
  addCommonOptions,
  type BackendOptions,
  type CommonOptions,
  notice,
  openBackend,
  parseCount,
  parseInteger,
  print,
  printJson,
} from '../common.ts';
import { countsOf, machine, table, wordsOf, writeReport } from './bench_report.ts';

interface ContestOptions extends BackendOptions, CommonOptions {
  dtype: string;
  batch: string;
  rounds: number;
  quick?: boolean;
  out?: string;
}

interface LayerOptions extends ContestOptions {
  width: number;
  configs: string;
  all?: boolean;
}

interface ModelOptions extends ContestOptions {
  layers: number;
  hidden: number;
  heads: number;
  intermediate: number;
  trees: number;
  depth: number;
  length: number;
}

/** The paper's family (UltraFastBERT, table 1): trees x depth, 3,072 to 4,608 neurons. */
const family = '3072x0,1536x1,512x2,256x3,128x4,64x5,32x6,16x7,8x8,4x9,2x10,1x11';

function addContestOptions(command: Command, batches: string): Command {
  return addBackendOptions(addCommonOptions(command))
    .option('--batch <counts>', 'with commas between them', batches)
    .option('--dtype <precisions>', `of the weights: some of ${precisions.join(', ')}`, precisions.join(','))
    .option('--rounds <count>', 'timings by turns, of which the median counts', parseCount, 9)
    .option('--quick', 'fewer sizes and shorter timings: at most a minute')
    .option('--out <folder>', 'write the results as JSON and as a picture (SVG)');
}

export function layerCommand(parent: Command): void {
  const command = parent
    .command('layer')
    .description("time fast feedforward trees against dense layers of as many neurons, ours and onnxruntime's")
    .option('--width <count>', 'hidden size', parseCount, 768)
    .option('--configs <list>', 'trees x depth, with commas between them', '1x11')
    .option('--all', `all of the paper's: ${family}`);
  addContestOptions(command, '1,128,2048').action(async (options: LayerOptions) => {
    const configs = (options.all ? family : options.configs).split(',').map((config) => {
      const [, trees, depth] = /^([1-9]\d*)x(\d+)$/.exec(config) ?? [];
      if (depth === undefined || Number(depth) > 20)
        throw new InputError(`--configs ${options.configs}: expected trees x depth, as in 1x11, with commas between them`);
      return { trees: Number(trees), depth: Number(depth) };
    });
    const [{ benchmarkLayer }, { loadOnnxRuntime }] = await Promise.all([import('../../bench/layer.ts'), import('../../bench/peers.ts')]);
    // As the paper does: one thread.
    using backend = await openBackend({ ...options, threads: options.threads ?? 1 });
    const peer = await loadOnnxRuntime(backend);
    if ('missing' in peer) notice(peer.missing, options);
    const onResult = (result: LayerResult) => {
      if (!options.json) print(layerTable(result));
    };
    if (!options.json) print(`${machine(backend)}\nmicroseconds a token, median (quartiles); error: largest, over the largest output\n`);
    const results = await benchmarkLayer(backend, {
      width: options.width,
      configs,
      batches: options.quick ? countsOf('--batch', options.batch).slice(0, 2) : countsOf('--batch', options.batch),
      dtypes: wordsOf('--dtype', options.dtype, precisions),
      rounds: options.quick ? 3 : options.rounds,
      roundMilliseconds: options.quick ? 50 : 250,
      onnxRuntime: 'missing' in peer ? undefined : peer,
      onResult,
    });
    const report = { machine: machine(backend), threads: backend.threads, results };
    if (options.json) printJson(report);
    if (!options.out) return;
    const { renderBars } = await import('../../bench/chart.ts');
    const bars = results.flatMap(({ config, batch, dtype, usPerToken, peers }) => [
      { label: `${config}, batch ${batch}, ours ${dtype}`, value: usPerToken, ours: true },
      ...(dtype === 'f32'
        ? peers.map((row) => ({ label: `batch ${batch}, ${row.name} ${row.dtype}`, value: row.usPerToken, ours: false }))
        : []),
    ]);
    await writeReport(options.out, 'layer', report, renderBars('Feedforward layer', 'microseconds a token', bars));
  });
}

function layerTable(result: LayerResult): string {
  const spread = ({ usPerToken, spread: [low, high] }: { usPerToken: number; spread: [number, number] }) => {
    const digits = usPerToken < 10 ? 2 : 1;
    return `${usPerToken.toFixed(digits)} (${low.toFixed(digits)}-${high.toFixed(digits)})`;
  };
  const ratio = (usPerToken: number) => `${(usPerToken / result.usPerToken).toFixed(1)}x`;
  const rows = [
    [`${result.config}, batch ${result.batch}`, 'dtype', 'us/token', 'over ours', 'error'],
    ['ours trees', result.dtype, spread(result), '', result.maxAbsError.toExponential(1)],
    ...result.peers.map((peer) => [peer.name, peer.dtype, spread(peer), ratio(peer.usPerToken), peer.maxRelativeError.toExponential(1)]),
  ];
  return `${table(rows)}\nthe fastest dense layer over the trees: ${result.ratio.toFixed(1)} (of the same dtype ${result.ratioSameDtype.toFixed(1)})\n`;
}

export function modelCommand(parent: Command): void {
  const command = parent
    .command('model')
    .description("time a whole encoder of BERT's form: ours with trees and dense, onnxruntime's dense with the same weights")
    .option('--layers <count>', 'transformer blocks', parseCount, 12)
    .option('--hidden <width>', 'hidden size', parseCount, 768)
    .option('--heads <count>', 'attention heads', parseCount, 12)
    .option('--intermediate <count>', 'neurons of the dense layers', parseCount, 3072)
    .option('--trees <count>', 'trees a layer', parseCount, 1)
    .option('--depth <levels>', 'depth of a tree', parseInteger, 11)
    .option('--length <tokens>', 'tokens a sequence', parseCount, 128);
  addContestOptions(command, '1,8').action(async (options: ModelOptions) => {
    if (options.hidden % options.heads !== 0)
      throw new InputError(`--hidden ${options.hidden} is not a multiple of --heads ${options.heads}`);
    const [{ benchmarkModel }, { loadOnnxRuntime }] = await Promise.all([import('../../bench/model.ts'), import('../../bench/peers.ts')]);
    using backend = await openBackend(options);
    const peer = await loadOnnxRuntime(backend);
    if ('missing' in peer) notice(peer.missing, options);
    const counts = countsOf('--batch', options.batch);
    const rows = await benchmarkModel(backend, {
      ...options,
      width: options.hidden,
      neurons: options.intermediate,
      batches: options.quick ? counts.slice(0, 1) : counts,
      dtypes: wordsOf('--dtype', options.dtype, precisions),
      rounds: options.quick ? 3 : options.rounds,
      roundMilliseconds: options.quick ? 200 : 600,
      onnxRuntime: 'missing' in peer ? undefined : peer,
    });
    const report = { machine: machine(backend), threads: backend.threads, length: options.length, results: rows };
    if (options.json) printJson(report);
    else
      print(
        `${machine(backend)}\n${options.layers} layers of ${options.hidden}, ${options.length} tokens a sequence; milliseconds a call, median (quartiles)\n\n${modelTable(rows)}`,
      );
    if (!options.out) return;
    const { renderBars } = await import('../../bench/chart.ts');
    const bars = rows.map(({ name, dtype, batch, milliseconds }) => ({
      label: `batch ${batch}, ${name} ${dtype}`,
      value: milliseconds.median,
      ours: name.startsWith('ours'),
    }));
    await writeReport(options.out, 'model', report, renderBars('Encoder', 'milliseconds a call', bars));
  });
}

/** Each row beside the slowest way to the same: onnxruntime's dense in the same dtype, if it ran, over it. */
function modelTable(rows: readonly ModelRow[]): string {
  const lines = rows.map(({ name, dtype, batch, milliseconds: { median, low, high }, relativeError }) => {
    const peer = rows.find((row) => row.batch === batch && row.dtype === dtype && !row.name.startsWith('ours'));
    const ratio = peer && name.startsWith('ours') ? `${(peer.milliseconds.median / median).toFixed(2)}x` : '';
    return [
      `batch ${batch}, ${name}`,
      dtype,
      `${median.toFixed(1)} (${low.toFixed(1)}-${high.toFixed(1)})`,
      ratio,
      relativeError === undefined ? '' : relativeError.toExponential(1),
    ];
  });
  return table([['', 'dtype', 'ms', 'onnxruntime over it', 'error'], ...lines]);
}
