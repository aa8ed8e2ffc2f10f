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
  /** [width]: how far the mean of the last training pass's inputs was from `mean`. Absent before the first. */
  private deviation?: Tensor;

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
      this.deviation ??= device.tensor('deviation', [shape[1]]);
      device.columnMean({ input: centered, output: this.deviation });
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

  /** Moves `mean` this share of the way to the mean of the last training pass's inputs. */
  async follow(share: number): Promise<void> {
    const { deviation } = this;
    if (!deviation) return;
    const distance = await deviation.device.read(deviation);
    this.mean = this.mean.map((mean, at) => mean + share * distance[at]);
  }

  dispose(): void {
    this.deviation?.dispose();
  }
}

/** The biases of a plain layer that computes what one with `weights` [neurons, width] and `biases` does on its input less `mean`. */
export function foldedBiases(weights: Float32Array, biases: Float32Array, mean: Float64Array): Float32Array {
  const width = mean.length;
  return biases.map((bias, neuron) => mean.reduce((sum, value, i) => sum - value * weights[neuron * width + i], bias));
}
