import type { Dropout } from '../backend/dropout.ts';
import type { PoolKind } from '../backend/operations/pool.ts';
import type { Tensor } from '../backend/tensor.ts';
import { dropoutAt } from './layer.ts';
import type { Linear, LinearActivations } from './linear.ts';
import type { Context } from './parameter.ts';
import type { Sequence } from './sequence.ts';

export interface PoolerActivations {
  /** [tokens, width]. */
  input: Tensor;
  /** [batch, width]. */
  pooled: Tensor;
  /** i32 [batch, width], for 'max' in training. */
  selected?: Tensor;
  dense: LinearActivations;
  /** [batch, size], the activation of the dense layer's output, before dropout. */
  activated: Tensor;
  /** [batch, size]. */
  output: Tensor;
}

export type PoolerActivation = 'tanh' | 'relu' | 'gelu';

/** One vector a sequence: pooling over its positions, a dense layer [size, width], an activation, dropout. */
export class Pooler {
  constructor(
    readonly kind: PoolKind,
    readonly dense: Linear,
    readonly dropout: { probability: number; site: number; inputSite?: number },
    /** 'gelu' is the dense layer's own. */
    readonly activation: PoolerActivation = 'tanh',
  ) {}

  /** input [tokens, width], output [batch, size]. Pooling runs over all positions, padding included, as crammedBERT's does. */
  forward(context: Context, sequence: Sequence, input: Tensor): PoolerActivations {
    const { device, arena } = context;
    const { batch, length } = sequence;
    const shape = [batch, this.dense.inputs];
    const pooled = arena.tensor('pooled', shape);
    const selected = context.training && this.kind === 'max' ? arena.tensor('pooled positions', shape, 'i32') : undefined;
    device.pool({ input, batch, length, kind: this.kind, output: pooled, selected });
    const inputDropout = this.inputDropout(context);
    if (inputDropout) device.dropout({ input: pooled, output: pooled, dropout: inputDropout });
    const dense = this.dense.forward(context, pooled);
    const activated = dense.output;
    if (this.activation === 'tanh') device.tanh({ input: activated, output: activated });
    else if (this.activation === 'relu') device.relu({ input: activated, output: activated });
    const dropout = dropoutAt(context, this.dropout.site, this.dropout.probability);
    let output = activated;
    if (dropout) {
      output = arena.tensor('pooler output', activated.shape);
      device.dropout({ input: activated, output, dropout });
    }
    return { input, pooled, selected, dense, activated, output };
  }

  /** Adds to the weights' gradients. gradOutput [batch, size] is used up; returns the input's gradient [tokens, width]. */
  backward(context: Context, sequence: Sequence, activations: PoolerActivations, gradOutput: Tensor): Tensor {
    const { device, arena } = context;
    const { batch, length } = sequence;
    const { input, pooled, selected, dense, activated } = activations;
    const dropout = dropoutAt(context, this.dropout.site, this.dropout.probability);
    if (dropout) device.dropout({ input: gradOutput, output: gradOutput, dropout });
    if (this.activation === 'tanh') device.tanhBackward({ output: activated, gradOutput, gradInput: gradOutput });
    else if (this.activation === 'relu') device.reluBackward({ output: activated, gradOutput, gradInput: gradOutput });
    const gradPooled = this.dense.backward(context, dense, gradOutput);
    const inputDropout = this.inputDropout(context);
    if (inputDropout) device.dropout({ input: gradPooled, output: gradPooled, dropout: inputDropout });
    const gradInput = arena.tensor('pooler input gradient', input.shape);
    device.poolBackward({ batch, length, kind: this.kind, gradOutput: gradPooled, gradInput, input, output: pooled, selected });
    return gradInput;
  }

  /** Of families whose classifier has dropout before the dense layer too. */
  private inputDropout(context: Context): Dropout | undefined {
    const { probability, inputSite } = this.dropout;
    return inputSite === undefined ? undefined : dropoutAt(context, inputSite, probability);
  }
}
