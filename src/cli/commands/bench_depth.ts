import type { Command } from 'commander';
import type { Line } from '../../bench/chart.ts';
import type { DepthResult } from '../../bench/depth.ts';
import type { Timing } from '../../bench/timing.ts';
import { InputError } from '../../errors.ts';
import { openDevice, parseCount, parseInteger, print } from '../common.ts';
import { addContestOptions, type ContestOptions, report } from './bench_contest.ts';
import { machine } from './bench_report.ts';

interface DepthOptions extends ContestOptions {
  width: number;
  batch: number;
  batches: number;
  from: number;
  to: number;
}

export function depthCommand(parent: Command): void {
  const command = parent
    .command('depth')
    .description('time a token through one fast feedforward tree, forward and backward, by the depth of the tree')
    .option('--width <count>', 'hidden size', parseCount, 256)
    .option('-b, --batch <tokens>', 'tokens a call', parseCount, 8192)
    .option('--batches <count>', 'calls, each with tokens of its own, a round', parseCount, 2)
    .option('--from <depth>', 'smallest depth', parseInteger, 3)
    .option('--to <depth>', 'largest depth', parseInteger, 15);
  addContestOptions(command, 7).action(async (options: DepthOptions) => {
    if (options.to < options.from || options.to > 20)
      throw new InputError(`depths from ${options.from} to ${options.to}: expected --from at most --to, and --to at most 20`);
    const { benchmarkDepth } = await import('../../bench/depth.ts');
    using device = await openDevice(options);
    const step = options.quick ? 4 : 1;
    const depths = Array.from({ length: Math.floor((options.to - options.from) / step) + 1 }, (_, i) => options.from + i * step);
    if (!options.json) {
      print(machine(device));
      print(`one tree over ${options.width} features, ${options.batches} batches of ${options.batch} tokens; median (quartiles)\n`);
      print('depth  neurons  weights      forward, us/token     backward, us/token         both, us/token     AdamW, us/step');
    }
    const results = await benchmarkDepth(device, {
      ...options,
      rounds: options.quick ? Math.min(options.rounds, 3) : options.rounds,
      depths,
    });
    if (!options.json) for (const result of results) print(depthRow(result));
    const [first, last] = [results[0], results[results.length - 1]];
    const ratio = (part: 'forward' | 'backward' | 'forwardAndBackward') => last[part].median / first[part].median;
    const ratios = { forward: ratio('forward'), backward: ratio('backward'), forwardAndBackward: ratio('forwardAndBackward') };
    if (!options.json)
      print(
        `\ndepth ${last.depth} over depth ${first.depth}: forward ${ratios.forward.toFixed(2)}, backward ${ratios.backward.toFixed(2)}, ` +
          `both ${ratios.forwardAndBackward.toFixed(2)} (nodes a token: ${((last.depth + 1) / (first.depth + 1)).toFixed(2)})`,
      );
    const { width, batch, batches } = options;
    await report('depth', device, options, { width, batch, batches, results, ratios }, ({ renderPanels }) => {
      const line = (name: string, of: (result: DepthResult) => Timing): Line => ({
        name,
        points: results.map((result) => [result.depth, of(result).median]),
      });
      const passes = [line('forward', (result) => result.forward), line('backward', (result) => result.backward)];
      return renderPanels(`One fast feedforward tree, width ${width}`, [
        [
          { title: 'microseconds a token', xName: 'depth', linear: true, lines: passes },
          { title: 'microseconds a step', xName: 'depth', linear: true, lines: [line('AdamW', (result) => result.optimizer)] },
        ],
      ]);
    });
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
