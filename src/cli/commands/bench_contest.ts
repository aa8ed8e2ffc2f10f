/** What the benchmarks share: options, the peer, and where the results go. */
import type { Command } from 'commander';
import type { Device } from '../../backend/device.ts';
import { precisions } from '../../backend/prepared_weight.ts';
import type { OnnxRuntime } from '../../bench/peers.ts';
import type { TokenTiming } from '../../bench/work.ts';
import { addCommonOptions, addDeviceOptions, type CommonOptions, type DeviceOptions, notice, parseCount, printJson } from '../common.ts';
import { machine, makeReportFolder, writeReport } from './bench_report.ts';

export interface ContestOptions extends DeviceOptions, CommonOptions {
  rounds: number;
  quick?: boolean;
  out?: string;
}

/** Adds the options that every benchmark has; `threads` says how many by default, where it is not all. */
export function addContestOptions(command: Command, rounds: number, threads?: string): Command {
  return addDeviceOptions(addCommonOptions(command), threads)
    .option('--rounds <count>', 'timings by turns, of which the median counts', parseCount, rounds)
    .option('--quick', 'fewer sizes and shorter timings: at most a minute')
    .option('-o, --out <folder>', 'write the results as JSON and as a picture (SVG)')
    .hook('preAction', (_, measuring) => makeReportFolder(measuring.opts<ContestOptions>().out));
}

/** Adds --batch, the sizes of calls. */
export function addBatchOption(command: Command, batches: string): Command {
  return command.option('-b, --batch <counts>', 'with commas between them', batches);
}

/** Adds --dtype, as a list. */
export function addPrecisionsOption(command: Command, words: string): Command {
  return command.option('--dtype <precisions>', `of the weights: some of ${precisions.join(', ')}, with commas between them`, words);
}

/** How long a contest takes: `milliseconds` a round, or a fraction of it and few rounds if it has to be quick. */
export function contestLength({ quick, rounds }: ContestOptions, milliseconds: number, quickMilliseconds: number) {
  return quick ? { rounds: Math.min(rounds, 3), roundMilliseconds: quickMilliseconds } : { rounds, roundMilliseconds: milliseconds };
}

/** onnxruntime, or nothing and a line that says how to get it. */
export async function openOnnxRuntime(device: Device, options: CommonOptions): Promise<OnnxRuntime | undefined> {
  const { loadOnnxRuntime } = await import('../../bench/peers.ts');
  const peer = await loadOnnxRuntime(device);
  if (!('missing' in peer)) return peer;
  notice(peer.missing, options);
  return undefined;
}

/** Prints JSON where it is asked for, and writes JSON and the picture where a folder is given. */
export async function report(
  name: string,
  device: Device,
  options: ContestOptions,
  results: object,
  picture: (chart: typeof import('../../bench/chart.ts')) => string,
): Promise<void> {
  const all = { machine: machine(device), threads: device.threads, ...results };
  if (options.json) printJson(all);
  if (options.out) await writeReport(options.out, name, all, picture(await import('../../bench/chart.ts')));
}

/** 1.84 (1.82-1.90). */
export function timingText({ usPerToken, spread: [low, high] }: TokenTiming): string {
  const digits = usPerToken < 10 ? 2 : 1;
  return `${usPerToken.toFixed(digits)} (${low.toFixed(digits)}-${high.toFixed(digits)})`;
}
