import type { Command } from 'commander';
import { precisions } from '../../backend/prepared_weight.ts';
import type { DecodeRow } from '../../bench/decode.ts';
import { addFeedforwardOptions, checkShape, type FeedforwardOptions, openDevice, parseCount, print } from '../common.ts';
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

interface Options extends ContestOptions, FeedforwardOptions {
  batch: string;
  dtype: string;
  layers: number;
  hidden: number;
  heads: number;
  vocabulary: number;
  prompt: number;
  written: number;
}

export function decodeCommand(parent: Command): void {
  const command = parent
    .command('decode')
    .description(
      "time how fast a decoder of GPT-2's form writes, with trees and with dense layers, beside onnxruntime's dense: tokens a second, and reading a prompt. Weights are random",
    )
    .option('--layers <count>', 'transformer blocks', parseCount, 12)
    .option('--hidden <width>', 'hidden size', parseCount, 768)
    .option('--heads <count>', 'attention heads', parseCount, 12)
    .option('--vocabulary <count>', 'entries of the vocabulary', parseCount, 50257)
    .option('--prompt <tokens>', 'tokens of the prompt', parseCount, 128)
    .option('--written <tokens>', 'tokens written on from it, before it begins anew', parseCount, 64);
  addFeedforwardOptions(command, 3072);
  addPrecisionsOption(addBatchOption(command, '1'), 'f32,i8');
  addContestOptions(command, 9).action(async (options: Options) => {
    checkShape(options);
    const batches = countsOf('--batch', options.batch);
    const dtypes = wordsOf('--dtype', options.dtype, precisions);
    const [{ benchmarkDecode }, { feedforwardOf }] = await Promise.all([import('../../bench/decode.ts'), import('../../models/config.ts')]);
    const { layers, hidden, heads, vocabulary, prompt, written } = options;
    using device = await openDevice(options);
    const results = await benchmarkDecode(device, {
      ...contestLength(options, 600, 200),
      shape: { vocabSize: vocabulary, hiddenSize: hidden, numHiddenLayers: layers, numAttentionHeads: heads },
      feedforwards: [feedforwardOf('fff', options), feedforwardOf('dense', options)],
      prompt,
      written,
      batches: options.quick ? batches.slice(0, 1) : batches,
      dtypes,
      onnxRuntime: await openOnnxRuntime(device, options),
    });
    if (!options.json)
      print(
        `${machine(device)}\n${layers} layers of ${hidden}, ${vocabulary} tokens in the vocabulary, a prompt of ${prompt}; median (quartiles)\n\n${decodeTable(results)}`,
      );
    await report('decode', device, options, { layers, hidden, heads, vocabulary, prompt, results }, ({ renderBars }) => {
      const bars = results.map(({ name, dtype, batch, tokensPerSecond }) => ({
        label: `batch ${batch}, ${name} ${dtype}`,
        value: tokensPerSecond.median,
        ours: name.startsWith('ours'),
      }));
      return renderBars('Decoder', 'tokens a second', bars);
    });
  });
}

/** Trees beside dense layers of the same batch and precision. */
function decodeTable(rows: readonly DecodeRow[]): string {
  const lines = rows.map(({ name, dtype, batch, tokensPerSecond: { median, low, high }, promptMilliseconds, bytes, bandwidth, error }) => {
    const of = (isIt: (name: string) => boolean) => rows.find((row) => row.batch === batch && row.dtype === dtype && isIt(row.name));
    const [dense, peer] = [of((other) => other.startsWith('ours dense')), of((other) => !other.startsWith('ours'))];
    const over = (row: DecodeRow | undefined) => (row && row.name !== name ? `${(median / row.tokensPerSecond.median).toFixed(2)}x` : '');
    return [
      `batch ${batch}, ${name}`,
      dtype,
      `${median.toFixed(1)} (${low.toFixed(1)}-${high.toFixed(1)})`,
      over(dense),
      over(peer),
      promptMilliseconds.median.toFixed(1),
      (bytes / 1e6).toFixed(1),
      bandwidth.toFixed(1),
      error.toExponential(1),
    ];
  });
  return table([['', 'dtype', 'tokens/s', 'over our dense', 'over onnxruntime', 'prompt, ms', 'MB a token', 'GB/s', 'error'], ...lines]);
}
