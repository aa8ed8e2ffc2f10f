import type { Command } from 'commander';
import type { ConditionalMatmulResult } from '../../bench/conditional_matmul.ts';
import { InputError } from '../../errors.ts';
import { openDevice, parseCount, print } from '../common.ts';
import {
  addBatchOption,
  addContestOptions,
  type ContestOptions,
  contestLength,
  openOnnxRuntime,
  report,
  timingText,
} from './bench_contest.ts';
import { countsOf, machine, table } from './bench_report.ts';

interface ConditionalMatmulOptions extends ContestOptions {
  batch: string;
  width: number;
  neurons: number;
  blockSize: string;
  chosen: string;
}

export function conditionalMatmulCommand(parent: Command): void {
  const command = parent
    .command('conditional-matmul')
    .description("time products of tokens with their own chosen blocks of a weight against products with all of it, ours and onnxruntime's")
    .option('--width <count>', 'numbers a token', parseCount, 768)
    .option('--neurons <count>', 'rows of the weight', parseCount, 4096)
    .option('--block-size <counts>', 'rows that are chosen together, with commas between them', '1,8,32,128')
    .option(
      '--chosen <counts>',
      'rows that each token meets, with commas between them; those that are no whole blocks are left out',
      '16,128,1024',
    );
  addContestOptions(addBatchOption(command, '1,128,2048'), 9, '1').action(async (options: ConditionalMatmulOptions) => {
    const batches = countsOf('--batch', options.batch);
    const blockSizes = countsOf('--block-size', options.blockSize);
    const chosen = countsOf('--chosen', options.chosen);
    const possible = (blockSize: number) =>
      options.neurons % blockSize === 0 && chosen.some((count) => count % blockSize === 0 && count <= options.neurons);
    const none = blockSizes.find((blockSize) => !possible(blockSize));
    if (none !== undefined)
      throw new InputError(
        `--block-size ${none}: expected a divisor of --neurons ${options.neurons} and of one of --chosen ${options.chosen}`,
      );
    const { benchmarkConditionalMatmul } = await import('../../bench/conditional_matmul.ts');
    using device = await openDevice({ ...options, threads: options.threads ?? 1 });
    const onnxRuntime = await openOnnxRuntime(device, options);
    if (!options.json)
      print(
        `${machine(device)}\n${options.neurons} rows of ${options.width}, f32; microseconds a token, median (quartiles); error: largest, over the largest output\n`,
      );
    const results = await benchmarkConditionalMatmul(device, {
      ...contestLength(options, 100, 30),
      width: options.width,
      neurons: options.neurons,
      batches: options.quick ? batches.slice(0, 2) : batches,
      blockSizes,
      chosen,
      onnxRuntime,
      onResult: (result) => {
        if (!options.json) print(resultTable(result));
      },
    });
    const shape = { width: options.width, neurons: options.neurons };
    await report('conditional-matmul', device, options, { ...shape, results }, ({ renderBars }) => {
      const bars = results.flatMap(({ batch, blockSize, chosen, usPerToken, peers }) => [
        { label: `${chosen} rows in blocks of ${blockSize}, batch ${batch}, ours`, value: usPerToken, ours: true },
        ...peers
          .filter(({ kind }) => kind === 'conditional')
          .map(({ name, usPerToken }) => ({ label: name, value: usPerToken, ours: false })),
      ]);
      const dense = batches.flatMap((batch) =>
        (results.find((result) => result.batch === batch)?.peers ?? [])
          .filter(({ kind }) => kind === 'dense')
          .map(({ name, usPerToken }) => ({ label: `all rows, batch ${batch}, ${name}`, value: usPerToken, ours: false })),
      );
      return renderBars(`Conditional matrix product: ${options.neurons} x ${options.width}`, 'microseconds a token', [...bars, ...dense]);
    });
  });
}

function resultTable(result: ConditionalMatmulResult): string {
  const { batch, blockSize, chosen, neurons, peers } = result;
  const title = `${chosen} of ${neurons} rows (${((100 * chosen) / neurons).toPrecision(2)} %), blocks of ${blockSize}, batch ${batch}`;
  const ratio = (usPerToken: number) => `${(usPerToken / result.usPerToken).toFixed(1)}x`;
  return `${table([
    [title, 'us/token', 'over ours', 'error'],
    ['ours', timingText(result), '', result.maxRelativeError.toExponential(1)],
    ...peers.map((peer) => [peer.name, timingText(peer), ratio(peer.usPerToken), peer.maxRelativeError.toExponential(1)]),
  ])}\n`;
}
