import type { Command } from 'commander';
import { precisions } from '../../backend/prepared_weight.ts';
import type { ModelRow } from '../../bench/model.ts';
import { checkShape, openBackend, parseCount, parseInteger, print } from '../common.ts';
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

interface ModelOptions extends ContestOptions {
  batch: string;
  dtype: string;
  layers: number;
  hidden: number;
  heads: number;
  intermediate: number;
  trees: number;
  depth: number;
  length: number;
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
  addPrecisionsOption(addBatchOption(command, '1,8'), precisions.join(','));
  addContestOptions(command, 9).action(async (options: ModelOptions) => {
    checkShape(options);
    const counts = countsOf('--batch', options.batch);
    const dtypes = wordsOf('--dtype', options.dtype, precisions);
    const { benchmarkModel } = await import('../../bench/model.ts');
    using backend = await openBackend(options);
    const results = await benchmarkModel(backend, {
      ...options,
      ...contestLength(options, 600, 200),
      width: options.hidden,
      neurons: options.intermediate,
      batches: options.quick ? counts.slice(0, 1) : counts,
      dtypes,
      onnxRuntime: await openOnnxRuntime(backend, options),
    });
    if (!options.json)
      print(
        `${machine(backend)}\n${options.layers} layers of ${options.hidden}, ${options.length} tokens a sequence; milliseconds a call, median (quartiles)\n\n${modelTable(results)}`,
      );
    await report('model', backend, options, { length: options.length, results }, ({ renderBars }) => {
      const bars = results.map(({ name, dtype, batch, milliseconds }) => ({
        label: `batch ${batch}, ${name} ${dtype}`,
        value: milliseconds.median,
        ours: name.startsWith('ours'),
      }));
      return renderBars('Encoder', 'milliseconds a call', bars);
    });
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
