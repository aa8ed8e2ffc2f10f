import type { Command } from 'commander';
import type { DepthResult } from '../../bench/depth.ts';
import type { Timing } from '../../bench/timing.ts';
import { InputError } from '../../errors.ts';
import {
  addBackendOptions,
  addCommonOptions,
  addShapeOptions,
  type BackendOptions,
  type CommonOptions,
  checkShape,
  openBackend,
  parseCount,
  parseInteger,
  print,
  printJson,
} from '../common.ts';
import { conditionalMatmulCommand } from './bench_conditional_matmul.ts';
import { layerCommand } from './bench_layer.ts';
import { modelCommand } from './bench_model.ts';
import { machine } from './bench_report.ts';
import { scalingCommand } from './bench_scaling.ts';

interface DepthOptions extends BackendOptions, CommonOptions {
  width: number;
  batch: number;
  batches: number;
  from: number;
  to: number;
  rounds: number;
}

interface TrainingOptions extends BackendOptions, CommonOptions {
  layers: number;
  hidden: number;
  heads: number;
  vocabulary: number;
  feedforward: 'fff' | 'dense';
  trees: number;
  depth: number;
  leafWidth: number;
  intermediate: number;
  length: number;
  batch: number;
  rounds: number;
}

export function benchCommand(program: Command): void {
  const command = program.command('bench').description('measure how fast this machine computes');
  layerCommand(command);
  conditionalMatmulCommand(command);
  modelCommand(command);
  scalingCommand(command);
  depthCommand(command);
  trainingCommand(command);
}

function depthCommand(parent: Command): void {
  const command = parent
    .command('depth')
    .description('time a token through one fast feedforward tree, forward and backward, by the depth of the tree')
    .option('--width <count>', 'hidden size', parseCount, 256)
    .option('--batch <tokens>', 'tokens a call', parseCount, 8192)
    .option('--batches <count>', 'calls, each with tokens of its own, a round', parseCount, 2)
    .option('--from <depth>', 'smallest depth', parseInteger, 3)
    .option('--to <depth>', 'largest depth', parseInteger, 15)
    .option('--rounds <count>', 'timings, of which the median counts', parseCount, 7);
  addBackendOptions(addCommonOptions(command)).action(async (options: DepthOptions) => {
    if (options.to < options.from || options.to > 20)
      throw new InputError(`depths from ${options.from} to ${options.to}: expected --from at most --to, and --to at most 20`);
    const { benchmarkDepth } = await import('../../bench/depth.ts');
    using backend = await openBackend(options);
    const depths = Array.from({ length: options.to - options.from + 1 }, (_, i) => options.from + i);
    if (!options.json) {
      print(machine(backend));
      print(`one tree over ${options.width} features, ${options.batches} batches of ${options.batch} tokens; median (quartiles)\n`);
      print('depth  neurons  weights      forward, us/token     backward, us/token         both, us/token     AdamW, us/step');
    }
    const onDepth = (result: DepthResult) => {
      if (!options.json) print(depthRow(result));
    };
    const results = await benchmarkDepth(backend, { ...options, depths, onDepth });
    const [first, last] = [results[0], results[results.length - 1]];
    const ratio = (part: 'forward' | 'backward' | 'forwardAndBackward') => last[part].median / first[part].median;
    const ratios = { forward: ratio('forward'), backward: ratio('backward'), forwardAndBackward: ratio('forwardAndBackward') };
    if (options.json) {
      printJson({ machine: machine(backend), width: options.width, batch: options.batch, batches: options.batches, results, ratios });
      return;
    }
    print(
      `\ndepth ${last.depth} over depth ${first.depth}: forward ${ratios.forward.toFixed(2)}, backward ${ratios.backward.toFixed(2)}, ` +
        `both ${ratios.forwardAndBackward.toFixed(2)} (nodes a token: ${((last.depth + 1) / (first.depth + 1)).toFixed(2)})`,
    );
  });
}

function depthRow(result: DepthResult): string {
  const cell = ({ median, low, high }: Timing, digits: number) =>
    `${median.toFixed(digits)} (${low.toFixed(digits)}-${high.toFixed(digits)})`.padStart(23);
  const weights = `${(result.bytes / 2 ** 20).toFixed(1)} MiB`;
  return (
    `${String(result.depth).padStart(5)}  ${String(result.neurons).padStart(7)}  ${weights.padStart(9)}` +
    `${cell(result.forward, 2)}${cell(result.backward, 2)}${cell(result.forwardAndBackward, 2)}${String(Math.round(result.optimizer.median)).padStart(19)}`
  );
}

function trainingCommand(parent: Command): void {
  const command = addShapeOptions(parent.command('training'))
    .description("time training steps of a model, as a share of the backend's own matrix product")
    .option('--vocabulary <count>', 'entries of the vocabulary', parseCount, 8192)
    .option('--batch <sequences>', 'sequences a step', parseCount, 8)
    .option('--rounds <count>', 'timings, of which the median counts', parseCount, 10);
  addBackendOptions(addCommonOptions(command)).action(async (options: TrainingOptions) => {
    checkShape(options);
    const [{ benchmarkTraining }, { crammedBertConfig }] = await Promise.all([
      import('../../bench/training.ts'),
      import('../../models/config.ts'),
    ]);
    const config = crammedBertConfig({
      vocabularySize: options.vocabulary,
      hiddenSize: options.hidden,
      layers: options.layers,
      heads: options.heads,
      positions: options.length,
      feedforward:
        options.feedforward === 'fff'
          ? { kind: 'fff', trees: options.trees, depth: options.depth, leafWidth: options.leafWidth }
          : { kind: 'dense', neurons: options.intermediate },
    });
    using backend = await openBackend(options);
    const result = await benchmarkTraining(backend, { ...options, config });
    if (options.json) {
      printJson({ machine: machine(backend), config, batch: options.batch, length: options.length, ...result });
      return;
    }
    const spread = ({ median, low, high }: Timing) => `${Math.round(median)} (quartiles ${Math.round(low)}-${Math.round(high)})`;
    print(machine(backend));
    print(`training step    ${spread(result.tokensPerSecond)} tokens/s, ${options.batch} x ${options.length} tokens, AdamW included`);
    print(`arithmetic       ${(result.arithmetic / 1e6).toFixed(2)} MFLOP a token`);
    print(`matrix product   ${spread(result.matrixProduct)} GFLOP/s, 1024 cubed`);
    print(`share            ${(result.share * 100).toFixed(1)} %`);
  });
}
