/** A feedforward layer that is trained on inputs whose mean is 0. */
import type { Tensor } from '../backend/tensor.ts';
import type { Feedforward, FeedforwardActivations } from '../nn/block.ts';
import type { Target } from '../nn/layer.ts';
import type { Context, Parameter } from '../nn/parameter.ts';

/** Of a layer's weights, those [neurons, width] that meet its input (of an FFF beside its output weights), and their biases. */
export interface InputWeights {
  weight: Parameter;
  bias: Parameter;
}

/**
 * Put around a block's feedforward layer: hands it x - mean. As `mean` follows the mean of the inputs, what moves all of them alike changes
 * nothing in the end, and their gradient is given without that part, its mean over the rows. That is exact where `mean` is the mean of
 * these rows, of which none may be padding.
 */
export class CenteredFeedforward implements Feedforward {
  /** [width]: how far the mean of the inputs was from `mean`, in each training pass of the step at hand, `passes` of them. */
  private readonly deviations: Tensor[] = [];
  private passes = 0;

  constructor(
    readonly layer: Feedforward,
    /** [width]. */
    public mean: Float64Array,
    /** Of `layer`, all weights that meet its input. */
    readonly weights: readonly InputWeights[],
  ) {}

  get parameters(): readonly Parameter[] {
    return this.layer.parameters;
  }

  /** input, output [tokens, width]. */
  forward(context: Context, input: Tensor, target?: Target): FeedforwardActivations {
    const { device, arena } = context;
    const { shape } = input;
    const centered = arena.tensor('centered', shape);
    const mark = arena.mark();
    const mean = arena.tensor('center', [shape[1]]);
    device.write(mean, Array.from(this.mean));
    device.copy({ input, output: centered });
    device.addRow({ row: mean, output: centered, scale: -1 });
    arena.release(mark);
    if (context.training) {
      const deviation = this.deviations[this.passes] ?? device.tensor('deviation', [shape[1]]);
      this.deviations[this.passes++] = deviation;
      device.columnMean({ input: centered, output: deviation });
    }
    return this.layer.forward(context, centered, target);
  }

  /** Adds to the parameters' gradients. gradOutput [tokens, width]; returns the input's gradient, of the same shape. */
  backward(context: Context, activations: FeedforwardActivations, gradOutput: Tensor): Tensor {
    const { device, arena } = context;
    const gradient = this.layer.backward(context, activations, gradOutput);
    const mark = arena.mark();
    const mean = arena.tensor('mean', [gradient.shape[1]]);
    device.columnMean({ input: gradient, output: mean });
    device.addRow({ row: mean, output: gradient, scale: -1 });
    arena.release(mark);
    return gradient;
  }

  /** How far the mean of the inputs was from `mean`, [width] in each training pass since the last call. */
  takeDeviations(): Promise<Float32Array[]> {
    const taken = this.deviations.slice(0, this.passes);
    this.passes = 0;
    return Promise.all(taken.map((deviation) => deviation.device.read(deviation)));
  }

  /** Moves `mean` this share of the way to the mean of the inputs of such passes. */
  follow(deviations: readonly Float32Array[], share: number): void {
    this.mean = this.mean.map(
      (mean, at) => mean + share * (deviations.reduce((sum, distance) => sum + distance[at], 0) / deviations.length),
    );
  }

  dispose(): void {
    for (const deviation of this.deviations) deviation.dispose();
  }
}

/** The biases of a plain layer that computes what one with `weights` [neurons, width] and `biases` does on its input less `mean`. */
export function foldedBiases(weights: Float32Array, biases: Float32Array, mean: Float64Array): Float32Array {
  const width = mean.length;
  return biases.map((bias, neuron) => mean.reduce((sum, value, i) => sum - value * weights[neuron * width + i], bias));
}
