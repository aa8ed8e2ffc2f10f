import type { PoolKind } from '../backend/operations/pool.ts';
import type { Tensor } from '../backend/tensor.ts';
import { dropoutAt } from './layer.ts';
import type { Linear, LinearActivations } from './linear.ts';
import type { Run } from './parameter.ts';
import type { Sequence } from './sequence.ts';

export interface PoolerActivations {
  /** [tokens, width]. */
  input: Tensor;
  /** [batch, width]. */
  pooled: Tensor;
  /** i32 [batch, width], for 'max' in training. */
  selected?: Tensor;
  dense: LinearActivations;
  /** [batch, size], tanh of the dense layer's output, before dropout. */
  activated: Tensor;
  /** [batch, size]. */
  output: Tensor;
}

/** One vector a sequence: pooling over its positions, a dense layer [size, width], tanh, dropout. */
export class Pooler {
  constructor(
    readonly kind: PoolKind,
    readonly dense: Linear,
    readonly dropout: { probability: number; site: number },
  ) {}

  /** input [tokens, width], output [batch, size]. Pooling runs over all positions, padding included, as crammedBERT's does. */
  forward(run: Run, sequence: Sequence, input: Tensor): PoolerActivations {
    const { backend, arena } = run;
    const { batch, length } = sequence;
    const shape = [batch, this.dense.inputs];
    const pooled = arena.tensor('pooled', shape);
    const selected = run.training && this.kind === 'max' ? arena.tensor('pooled positions', shape, 'i32') : undefined;
    backend.pool({ input, batch, length, kind: this.kind, output: pooled, selected });
    const dense = this.dense.forward(run, pooled);
    const activated = dense.output;
    backend.tanh({ input: activated, output: activated });
    const dropout = dropoutAt(run, this.dropout.site, this.dropout.probability);
    let output = activated;
    if (dropout) {
      output = arena.tensor('pooler output', activated.shape);
      backend.dropout({ input: activated, output, dropout });
    }
    return { input, pooled, selected, dense, activated, output };
  }

  /** Adds to the weights' gradients. gradOutput [batch, size] is used up; returns the input's gradient [tokens, width]. */
  backward(run: Run, sequence: Sequence, activations: PoolerActivations, gradOutput: Tensor): Tensor {
    const { backend, arena } = run;
    const { batch, length } = sequence;
    const { input, pooled, selected, dense, activated } = activations;
    const dropout = dropoutAt(run, this.dropout.site, this.dropout.probability);
    if (dropout) backend.dropout({ input: gradOutput, output: gradOutput, dropout });
    backend.tanhBackward({ output: activated, gradOutput, gradInput: gradOutput });
    const gradPooled = this.dense.backward(run, dense, gradOutput);
    const gradInput = arena.tensor('pooler input gradient', input.shape);
    backend.poolBackward({ batch, length, kind: this.kind, gradOutput: gradPooled, gradInput, input, output: pooled, selected });
    return gradInput;
  }
}
