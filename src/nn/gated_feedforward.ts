import type { Tensor } from '../backend/tensor.ts';
import type { Feedforward } from './block.ts';
import type { Target } from './layer.ts';
import type { Linear, LinearActivations } from './linear.ts';
import type { Context, Parameter } from './parameter.ts';

export interface GatedFeedforwardActivations {
  /** Their outputs are [tokens, neurons], the gate's after its activation. */
  gate: LinearActivations;
  up: LinearActivations;
  down: LinearActivations;
  /** [tokens, width]. */
  output: Tensor;
}

/** A dense layer with a gate (arXiv 2002.05202): down(gate(x) up(x)), the gate with an activation; with SiLU it is SwiGLU. */
export class GatedFeedforward implements Feedforward {
  constructor(
    readonly gate: Linear,
    readonly up: Linear,
    readonly down: Linear,
  ) {}

  get parameters(): readonly Parameter[] {
    return [this.gate, this.up, this.down].flatMap(({ parameters }) => parameters);
  }

  /** input, output [tokens, width]. */
  forward(context: Context, input: Tensor, target?: Target): GatedFeedforwardActivations {
    const gate = this.gate.forward(context, input);
    const up = this.up.forward(context, input);
    // The backward needs both factors.
    const product = context.training ? context.arena.tensor('gated neurons', up.output.shape) : up.output;
    context.device.multiply({ a: gate.output, b: up.output, output: product });
    const down = this.down.forward(context, product, target);
    return { gate, up, down, output: down.output };
  }

  /** Adds to the weights' gradients. gradOutput [tokens, width]; returns the input's gradient, of the same shape. */
  backward(context: Context, { gate, up, down }: GatedFeedforwardActivations, gradOutput: Tensor): Tensor {
    const { device, arena } = context;
    const gradProduct = this.down.backward(context, down, gradOutput);
    const gradUp = arena.tensor('up gradient', gradProduct.shape);
    device.multiply({ a: gradProduct, b: gate.output, output: gradUp });
    device.multiply({ a: gradProduct, b: up.output, output: gradProduct });
    const gradInput = this.gate.backward(context, gate, gradProduct);
    return this.up.backward(context, up, gradUp, { tensor: gradInput, accumulate: true });
  }
}
