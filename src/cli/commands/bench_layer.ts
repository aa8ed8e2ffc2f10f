import type { Command } from 'commander';
import { precisions } from '../../backend/prepared_weight.ts';
import type { LayerResult } from '../../bench/layer.ts';
import { InputError } from '../../errors.ts';
import { openBackend, parseCount, print } from '../common.ts';
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

interface LayerOptions extends ContestOptions {
  batch: string;
  dtype: string;
  width: number;
  configs: string;
  all?: boolean;
}

/** Trees x depth, 3072 to 4608 neurons: the paper's family. */
const family = '3072x0,1536x1,512x2,256x3,128x4,64x5,32x6,16x7,8x8,4x9,2x10,1x11';

export function layerCommand(parent: Command): void {
  const command = parent
    .command('layer')
    .description("time fast feedforward trees against dense layers of as many neurons, ours and onnxruntime's")
    .option('--width <count>', 'hidden size', parseCount, 768)
    .option('--configs <list>', 'trees x depth, with commas between them', '1x11')
    .option('--all', `all of the paper's: ${family}`);
  addPrecisionsOption(addBatchOption(command, '1,128,2048'), precisions.join(','));
  addContestOptions(command, 9).action(async (options: LayerOptions) => {
    const configs = (options.all ? family : options.configs).split(',').map((config) => {
      const [, trees, depth] = /^([1-9]\d*)x(\d+)$/.exec(config) ?? [];
      if (depth === undefined || Number(depth) > 20)
        throw new InputError(`--configs ${options.configs}: expected trees x depth, as in 1x11, with commas between them`);
      return { trees: Number(trees), depth: Number(depth) };
    });
    const counts = countsOf('--batch', options.batch);
    const dtypes = wordsOf('--dtype', options.dtype, precisions);
    const { benchmarkLayer } = await import('../../bench/layer.ts');
    // As the paper does: one thread.
    using backend = await openBackend({ ...options, threads: options.threads ?? 1 });
    const onnxRuntime = await openOnnxRuntime(backend, options);
    if (!options.json) print(`${machine(backend)}\nmicroseconds a token, median (quartiles); error: largest, over the largest output\n`);
    const results = await benchmarkLayer(backend, {
      ...contestLength(options, 250, 50),
      width: options.width,
      configs,
      batches: options.quick ? counts.slice(0, 2) : counts,
      dtypes,
      onnxRuntime,
      onResult: (result) => {
        if (!options.json) print(layerTable(result));
      },
    });
    await report('layer', backend, options, { results }, ({ renderBars }) => {
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

function layerTable(result: LayerResult): string {
  const ratio = (usPerToken: number) => `${(usPerToken / result.usPerToken).toFixed(1)}x`;
  const rows = [
    [`${result.config}, batch ${result.batch}`, 'dtype', 'us/token', 'over ours', 'error'],
    ['ours trees', result.dtype, timingText(result), '', result.maxAbsError.toExponential(1)],
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
