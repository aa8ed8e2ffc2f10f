/** Training feedforward layers on inputs whose mean is 0. */
import { exportParameter } from '../models/checkpoint.ts';
import type { Encoder } from '../models/encoder.ts';
import type { Parameter } from '../nn/parameter.ts';

/** Of a layer's weights, those [neurons, width] that meet its input (of an FFF beside its output weights), and their biases. */
export interface InputWeights {
  weight: Parameter;
  bias: Parameter;
}

/** A block's feedforward layer, to be trained on its input less `mean`. */
export interface CentredLayer {
  /** [width]. */
  mean: Float64Array;
  weights: InputWeights[];
}

/**
 * A student whose feedforward layers take in x - mean, and whose biases c are those of that input: a plain layer computes the same with the
 * biases c - w . mean. The hidden states of BERT have a mean far longer than they deviate from it, so that a step of plain weights moves the
 * logits of all tokens together, and tokens come to one side of every split.
 */
export class Centring {
  constructor(
    private readonly encoder: Encoder,
    private readonly layers: readonly (CentredLayer | undefined)[],
  ) {
    this.centre();
  }

  /** Does `work` on the plain layers: what is measured, and what others get. */
  async folded<Result>(work: () => Promise<Result>): Promise<Result> {
    const folds = this.layers.flatMap((layer) =>
      (layer?.weights ?? []).map((weights) => ({ ...weights, mean: (layer as CentredLayer).mean })),
    );
    const kept = await Promise.all(folds.map(({ bias: { value } }) => value.backend.read(value)));
    try {
      this.encoder.shiftFeedforwardInputs([]);
      for (const [i, { weight, bias, mean }] of folds.entries()) {
        const [{ values }] = await exportParameter(weight);
        bias.value.backend.write(bias.value, foldedBiases(values, kept[i], mean));
      }
      return await work();
    } finally {
      for (const [i, { bias }] of folds.entries()) bias.value.backend.write(bias.value, kept[i]);
      this.centre();
    }
  }

  /** Of each block's layers, in the order of the blocks; null where they are plain. A resumed run has those it began with. */
  get means(): (number[] | null)[] {
    return this.layers.map((layer) => (layer ? Array.from(layer.mean) : null));
  }

  set means(means: (number[] | null)[]) {
    for (const [i, layer] of this.layers.entries()) if (layer) layer.mean = Float64Array.from(means[i] ?? []);
    this.centre();
  }

  private centre(): void {
    this.encoder.shiftFeedforwardInputs(this.layers.map((layer) => layer && Float32Array.from(layer.mean, (mean) => -mean)));
  }
}

/** The biases of a plain layer that computes what one with `weights` [neurons, width] and `biases` does on its input less `mean`. */
export function foldedBiases(weights: Float32Array, biases: Float32Array, mean: Float64Array): Float32Array {
  const width = mean.length;
  return biases.map((bias, neuron) => mean.reduce((sum, value, i) => sum - value * weights[neuron * width + i], bias));
}
