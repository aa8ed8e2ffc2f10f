import type { Command } from 'commander';
import type { Precision } from '../../backend/prepared_weight.ts';
import type { Line, Panel } from '../../bench/chart.ts';
import type { ScalingResult, TreePoint } from '../../bench/scaling.ts';
import { InputError } from '../../errors.ts';
import { addPrecisionOption, openDevice, parseCount, parseInteger, print } from '../common.ts';
import { addBatchOption, addContestOptions, type ContestOptions, contestLength, report, timingText } from './bench_contest.ts';
import { countsOf, machine } from './bench_report.ts';

interface ScalingOptions extends ContestOptions {
  batch: string;
  dtype: Precision;
  depth: number;
  width: number;
  depths: string;
  widths: string;
  trees: string;
}

export function scalingCommand(parent: Command): void {
  const command = parent
    .command('scaling')
    .description(
      'time trees over a range of depths, widths and numbers of trees beside dense layers: of as many neurons, and of as much time',
    )
    .option('--depths <counts>', 'depths of one tree of --width, with commas between them', '1,3,5,7,9,11,13')
    .option('--widths <counts>', 'hidden sizes of one tree of --depth', '128,256,512,768,1024,1536,2048')
    .option('--trees <counts>', 'numbers of trees of --depth and --width', '1,2,4,8')
    .option('--depth <levels>', 'depth where another number varies', parseInteger, 11)
    .option('--width <count>', 'hidden size where another number varies', parseCount, 768);
  addContestOptions(addPrecisionOption(addBatchOption(command, '1,128')), 5, '1, and then all').action(async (options: ScalingOptions) => {
    const batches = countsOf('--batch', options.batch);
    const points = sweep(options);
    const { benchmarkScaling } = await import('../../bench/scaling.ts');
    const results: ScalingResult[] = [];
    using device = await openDevice(options);
    const onResult = (result: ScalingResult) => {
      if (!options.json) print(resultRow(result));
    };
    const run = {
      ...contestLength(options, 60, 20),
      points,
      batches: options.quick ? batches.slice(-1) : batches,
      dtype: options.dtype,
      onResult,
    };
    if (!options.json) print(`${machine(device)}\nmicroseconds a token, median (quartiles); ${options.dtype}\n\n${header}`);
    // One thread, and then all of them, unless a number is asked for.
    if (options.threads === undefined && device.threads > 1) {
      using single = await openDevice({ ...options, device: device.name as ScalingOptions['device'], threads: 1 });
      results.push(...(await benchmarkScaling(single, run)));
    }
    results.push(...(await benchmarkScaling(device, run)));
    const { depth, width } = options;
    await report('scaling', device, options, { depth, width, results }, ({ renderPanels }) =>
      renderPanels(`Fast feedforward trees beside dense layers (${options.dtype})`, picture(results, options)),
    );
  });
}

/** Each range with the other numbers held; the point that ranges share comes once. */
function sweep(options: ScalingOptions): TreePoint[] {
  const { depth, width } = options;
  const range = (option: string, text: string) => {
    const counts = countsOf(option, text);
    return options.quick ? [...new Set([0, Math.floor(counts.length / 2), counts.length - 1])].map((i) => counts[i]) : counts;
  };
  const depths = range('--depths', options.depths);
  const deepest = Math.max(depth, ...depths);
  if (deepest > 20) throw new InputError(`a depth of ${deepest}: expected at most 20`);
  const points = [
    ...depths.map((depth) => ({ trees: 1, depth, width })),
    ...range('--widths', options.widths).map((width) => ({ trees: 1, depth, width })),
    ...range('--trees', options.trees).map((trees) => ({ trees, depth, width })),
  ];
  return [...new Map(points.map((point) => [`${point.trees}x${point.depth} ${point.width}`, point])).values()];
}

const columns = [
  'trees',
  'width',
  'batch',
  'threads',
  'trees, us',
  'dense, us',
  'dense/trees',
  'neurons used',
  'dense neurons in that time',
  'error',
];
const header = columns.map((name) => cell(name, name)).join('  ');

function resultRow(result: ScalingResult): string {
  const { trees, depth, width, batch, threads, neurons, used, dense, ratio, denseNeurons, treesError, denseError } = result;
  const cells = [
    `${trees}x${depth}`,
    `${width}`,
    `${batch}`,
    `${threads}`,
    timingText(result),
    timingText(dense),
    `${ratio.toFixed(1)}x`,
    `${used} of ${neurons}`,
    `${Math.round(denseNeurons)}`,
    Math.max(treesError, denseError).toExponential(1),
  ];
  return cells.map((text, i) => cell(text, columns[i])).join('  ');
}

function cell(text: string, column: string): string {
  return text.padStart(Math.max(column.length, / us$/.test(column) ? 21 : column === 'neurons used' ? 14 : 7));
}

/** Two rows of three panels: what trees gain over as many dense neurons, and how many dense neurons run in their time. */
function picture(results: readonly ScalingResult[], { depth, width }: ScalingOptions): Panel[][] {
  const ranges: { title: string; xName: string; linear?: boolean; x: keyof TreePoint; has(point: TreePoint): boolean }[] = [
    { title: `one tree, width ${width}`, xName: 'depth', linear: true, x: 'depth', has: (p) => p.trees === 1 && p.width === width },
    { title: `one tree of depth ${depth}`, xName: 'width', x: 'width', has: (p) => p.trees === 1 && p.depth === depth },
    { title: `depth ${depth}, width ${width}`, xName: 'trees', x: 'trees', has: (p) => p.depth === depth && p.width === width },
  ];
  const lines = (own: readonly ScalingResult[], x: keyof TreePoint, y: (result: ScalingResult) => number): Line[] => {
    const names = new Map<string, [number, number][]>();
    for (const result of own) {
      const name = `batch ${result.batch}, ${result.threads} ${result.threads === 1 ? 'thread' : 'threads'}`;
      names.set(name, [...(names.get(name) ?? []), [result[x], y(result)]]);
    }
    return [...names].map(([name, points]) => ({ name, points: points.sort(([a], [b]) => a - b) }));
  };
  const row = (what: string, y: (result: ScalingResult) => number, dashed: { name: string; y(result: ScalingResult): number }) =>
    ranges.map(({ title, xName, linear, x, has }): Panel => {
      const own = results.filter(has);
      const [measure] = lines(own, x, dashed.y);
      return {
        title: `${what}: ${title}`,
        xName,
        linear,
        lines: [...lines(own, x, y), { name: dashed.name, points: measure.points, dashed: true }],
      };
    });
  return [
    row('dense time / trees’ time', ({ ratio }) => ratio, { name: 'as fast', y: () => 1 }),
    row('dense neurons in that time', ({ denseNeurons }) => denseNeurons, { name: 'neurons that trees use', y: ({ used }) => used }),
  ];
}
