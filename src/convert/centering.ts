/** Training feedforward layers on inputs whose mean is 0. */
import type { Tensor } from '../backend/tensor.ts';
import type { Encoder } from '../models/encoder.ts';
import type { Context, Parameter } from '../nn/parameter.ts';
import { exportParameter } from '../nn/parameter_arrays.ts';

/** Of a layer's weights, those [neurons, width] that meet its input (of an FFF beside its output weights), and their biases. */
export interface InputWeights {
  weight: Parameter;
  bias: Parameter;
}

/** A block's feedforward layer, to be trained on its input less `mean`. */
export interface CenteredLayer {
  /** [width]. */
  mean: Float64Array;
  weights: InputWeights[];
}

/** Of a step's deviation, how much the mean follows: the last hundred steps or so count. */
const followed = 0.01;

/**
 * A student whose feedforward layers take in x - mean, and whose biases c are those of that input: a plain layer computes the same with the
 * biases c - w . mean. The hidden states of BERT have a mean far longer than they deviate from it, so that a step of plain weights moves the
 * logits of all tokens together, and tokens come to one side of every split.
 */
export class Centering {
  /** Of the watched run, for each centered layer: how far the mean of what it took in was from `mean`, [width]. */
  private readonly deviations: Tensor[] = [];
  private seen = 0;

  constructor(
    private readonly encoder: Encoder,
    private readonly layers: readonly (CenteredLayer | undefined)[],
  ) {
    this.center();
  }

  /** A run that remembers the means of what centered layers take in, until the next one. */
  watch(context: Context): Context {
    this.seen = 0;
    return {
      ...context,
      watchCentered: (input) => {
        context.watchCentered?.(input);
        const width = input.shape[1];
        this.deviations[this.seen] ??= context.device.tensor('deviation', [width]);
        context.device.columnMean({ input, output: this.deviations[this.seen++] });
      },
    };
  }

  /**
   * After a step: the means follow those of the run that was watched, which training moves, and with them each neuron's threshold. `share`:
   * how much of the way they go.
   */
  async follow(share = followed): Promise<void> {
    const deviations = await Promise.all(this.deviations.slice(0, this.seen).map((tensor) => tensor.device.read(tensor)));
    const centered = this.layers.filter((layer) => layer !== undefined);
    for (const [i, deviation] of deviations.entries()) centered[i].mean = centered[i].mean.map((mean, at) => mean + share * deviation[at]);
    this.center();
  }

  /** Does `work` on the plain layers: what is measured, and what others get. */
  async folded<Result>(work: () => Promise<Result>): Promise<Result> {
    const folds = this.layers.flatMap((layer) =>
      (layer?.weights ?? []).map((weights) => ({ ...weights, mean: (layer as CenteredLayer).mean })),
    );
    const kept = await Promise.all(folds.map(({ bias: { value } }) => value.device.read(value)));
    try {
      this.encoder.centerFeedforwardInputs([]);
      for (const [i, { weight, bias, mean }] of folds.entries()) {
        const [{ values }] = await exportParameter(weight);
        bias.value.device.write(bias.value, foldedBiases(values, kept[i], mean));
      }
      return await work();
    } finally {
      for (const [i, { bias }] of folds.entries()) bias.value.device.write(bias.value, kept[i]);
      this.center();
    }
  }

  /** Of each block's layers, in the order of the blocks; null where they are plain. A resumed run goes on with those it had. */
  get means(): (number[] | null)[] {
    return this.layers.map((layer) => (layer ? Array.from(layer.mean) : null));
  }

  set means(means: (number[] | null)[]) {
    for (const [i, layer] of this.layers.entries()) if (layer) layer.mean = Float64Array.from(means[i] as number[]);
    this.center();
  }

  dispose(): void {
    for (const tensor of this.deviations) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private center(): void {
    this.encoder.centerFeedforwardInputs(this.means.map((mean) => mean ?? undefined));
  }
}

/** The biases of a plain layer that computes what one with `weights` [neurons, width] and `biases` does on its input less `mean`. */
export function foldedBiases(weights: Float32Array, biases: Float32Array, mean: Float64Array): Float32Array {
  const width = mean.length;
  return biases.map((bias, neuron) => mean.reduce((sum, value, i) => sum - value * weights[neuron * width + i], bias));
}
