import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import type { Feedforward, FeedforwardActivations } from './block.ts';
import type { Target } from './layer.ts';
import type { Linear } from './linear.ts';
import type { Context, Parameter } from './parameter.ts';

/** A dense layer with a gate (arXiv 2002.05202): down(gate(x) up(x)), the gate with an activation; with SiLU it is SwiGLU. For inference. */
export class GatedFeedforward implements Feedforward {
  constructor(
    readonly gate: Linear,
    readonly up: Linear,
    readonly down: Linear,
  ) {}

  get parameters(): readonly Parameter[] {
    return [this.gate, this.up, this.down].flatMap(({ parameters }) => parameters);
  }

  /** input, output [tokens, width]. @throws InputError in training */
  forward(context: Context, input: Tensor, target?: Target): FeedforwardActivations {
    if (context.training) this.backward();
    const { output: gated } = this.gate.forward(context, input);
    const { output: up } = this.up.forward(context, input);
    context.device.multiply({ a: gated, b: up, output: gated });
    return this.down.forward(context, gated, target);
  }

  backward(): never {
    throw new InputError('models with gated feedforward layers cannot be trained yet: open one of another family');
  }
}
