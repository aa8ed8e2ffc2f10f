import type { Device } from '../backend/device.ts';
import type { Precision } from '../backend/prepared_weight.ts';
import { ReferenceDevice } from '../backend/reference.ts';
import { contest } from './contest.ts';
import { denseLayer, randomDense, randomTrees, treeLayer } from './queued_layers.ts';
import {
  checkedTokens,
  type Inputs,
  largestError,
  perToken,
  type QueuedLayer,
  queuedWork,
  randomTokens,
  type TokenTiming,
  type Work,
} from './work.ts';

export interface TreePoint {
  trees: number;
  depth: number;
  width: number;
}

export interface ScalingBenchmarkOptions {
  points: readonly TreePoint[];
  /** Tokens a call. */
  batches: readonly number[];
  dtype: Precision;
  rounds: number;
  roundMilliseconds: number;
  onResult?(result: ScalingResult): void;
}

/** Trees, beside the dense layer of as many neurons and the dense layer of as much time. */
export interface ScalingResult extends TreePoint, TokenTiming {
  batch: number;
  threads: number;
  dtype: Precision;
  /** Of all trees, and those that a token uses. */
  neurons: number;
  used: number;
  /** Our dense layer of as many neurons. */
  dense: TokenTiming;
  /** Its time over the trees'. */
  ratio: number;
  /** Neurons that a dense layer computes in the trees' time, between the two measured sizes that enclose it. */
  denseNeurons: number;
  /** Largest differences from the reference backend's answers over the largest values of those: of the first measured tokens. */
  treesError: number;
  denseError: number;
}

/** Sizes of the dense layers that trees are compared with, besides those of as many neurons: doubling from here to there. */
const [smallestDense, largestDense] = [8, 4096];

/**
 * Times trees of several shapes beside dense layers of growing size. All shapes of one width take turns with the dense layers of that
 * width. Everything is ours and of one dtype; onnxruntime's dense layers stand beside ours in the layer benchmark.
 */
export async function benchmarkScaling(device: Device, options: ScalingBenchmarkOptions): Promise<ScalingResult[]> {
  const results: ScalingResult[] = [];
  for (const width of new Set(options.points.map((point) => point.width))) {
    const points = options.points.filter((point) => point.width === width);
    results.push(...(await benchmarkWidth(device, options, width, points)));
  }
  return results;
}

/** A layer that takes part, and the reference's output. */
interface Entrant {
  work: Work;
  neurons: number;
  expected: Float32Array;
}

async function benchmarkWidth(
  device: Device,
  options: ScalingBenchmarkOptions,
  width: number,
  points: readonly TreePoint[],
): Promise<ScalingResult[]> {
  const { batches, dtype } = options;
  const inputs = { x: randomTokens(width, batches) };
  const made: Work[] = [];
  const enter = async (neurons: number, layer: (device: Device, dtype: Precision) => QueuedLayer): Promise<Entrant> => {
    const expected = await referenceOutput((reference) => layer(reference, 'f32'), inputs);
    const work = queuedWork(device, layer(device, dtype), inputs);
    made.push(work);
    return { work, neurons, expected };
  };
  try {
    const trees: Entrant[] = [];
    for (const point of points) {
      const weights = randomTrees(point);
      trees.push(await enter(weights.bias.length, (on, precision) => treeLayer(on, weights, precision)));
    }
    const dense: Entrant[] = [];
    for (const neurons of denseSizes(trees.map((tree) => tree.neurons))) {
      const weights = randomDense(width, neurons);
      dense.push(await enter(neurons, (on, precision) => denseLayer(on, weights, precision)));
    }
    const results: ScalingResult[] = [];
    const entrants = [...trees, ...dense];
    for (const batch of batches) {
      const timings = await contest(
        entrants.map(({ work }) => work.contestant(batch)),
        options,
      );
      const errors: number[] = [];
      for (const { work, neurons, expected } of entrants) {
        const name = `the layer of ${neurons} neurons of ${width}`;
        errors.push(largestError(name, await work.output(batch), expected));
      }
      const times = timings.map((timing) => perToken(timing, batch));
      const ladder = dense.map(({ neurons }, i) => ({ neurons, usPerToken: times[trees.length + i].usPerToken }));
      for (const [i, { neurons }] of trees.entries()) {
        const equal = trees.length + dense.findIndex((entrant) => entrant.neurons === neurons);
        const result: ScalingResult = {
          ...points[i],
          ...times[i],
          batch,
          threads: device.threads,
          dtype,
          neurons,
          used: points[i].trees * (points[i].depth + 1),
          dense: times[equal],
          ratio: times[equal].usPerToken / times[i].usPerToken,
          denseNeurons: neuronsInTime(ladder, times[i].usPerToken),
          treesError: errors[i],
          denseError: errors[equal],
        };
        options.onResult?.(result);
        results.push(result);
      }
    }
    return results;
  } finally {
    for (const work of made) await work.dispose();
  }
}

async function referenceOutput(layer: (reference: Device) => QueuedLayer, inputs: Inputs<'x'>): Promise<Float32Array> {
  using reference = new ReferenceDevice();
  return await queuedWork(reference, layer(reference), inputs).output(checkedTokens);
}

/** In growing order, those asked for among them; none that is about one of these. */
function denseSizes(equal: readonly number[]): number[] {
  const sizes = new Set(equal);
  for (let size = smallestDense; size <= largestDense; size *= 2) if (!equal.some((other) => Math.abs(other - size) <= 1)) sizes.add(size);
  return [...sizes].sort((a, b) => a - b);
}

/**
 * How many neurons a dense layer computes in so many microseconds a token: on the straight line between the last size that takes at most
 * as long and the next; proportional below the smallest size and above the largest.
 */
export function neuronsInTime(ladder: readonly { neurons: number; usPerToken: number }[], usPerToken: number): number {
  const above = ladder.findIndex((step) => step.usPerToken > usPerToken);
  const last = ladder[ladder.length - 1];
  if (above < 0) return (last.neurons * usPerToken) / last.usPerToken;
  if (above === 0) return (ladder[0].neurons * usPerToken) / ladder[0].usPerToken;
  const [low, high] = [ladder[above - 1], ladder[above]];
  return low.neurons + ((high.neurons - low.neurons) * (usPerToken - low.usPerToken)) / (high.usPerToken - low.usPerToken);
}
