import type { attention } from '../backend/operations/attention.ts';
import type { ArgumentsOf, StridedOperand } from '../backend/operations/operation.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import type { Tensor } from '../backend/tensor.ts';
import { dropoutAt, type Target } from './layer.ts';
import type { Linear, LinearActivations } from './linear.ts';
import type { Context, Parameter } from './parameter.ts';
import type { Sequence } from './sequence.ts';

export interface SelfAttentionActivations {
  /** Its output is [tokens, 3 width], for each head its query, key and value side by side. */
  queryKeyValue: LinearActivations;
  /** [tokens, width], the heads' weighted values side by side. */
  attended: Tensor;
  /** [batch, heads, length], kept in training. */
  logSumExp?: Tensor;
  dense: LinearActivations;
  /** [tokens, width]. */
  output: Tensor;
}

/**
 * Multi-head self-attention (arXiv 1706.03762). One projection makes query, key and value, laid out per head as crammedBERT has it:
 * head h owns outputs 3 h size .. 3 (h + 1) size, first its query, then its key, then its value.
 */
export class SelfAttention {
  readonly headSize: number;

  constructor(
    /** [3 width, width]. */
    readonly queryKeyValue: Linear,
    /** [width, width]. */
    readonly dense: Linear,
    readonly heads: number,
    /** On the attention probabilities. */
    readonly dropout: { probability: number; site: number },
  ) {
    this.headSize = dense.inputs / heads;
  }

  get parameters(): readonly Parameter[] {
    return [...this.queryKeyValue.parameters, ...this.dense.parameters];
  }

  /** input, output [tokens, width]. */
  forward(context: Context, sequence: Sequence, input: Tensor, target?: Target): SelfAttentionActivations {
    const { device, arena } = context;
    const queryKeyValue = this.queryKeyValue.forward(context, input);
    const attended = arena.tensor('attended values', [sequence.ids.size, this.dense.inputs]);
    const logSumExp = context.training ? arena.tensor('attention log-sum-exp', [sequence.batch, this.heads, sequence.length]) : undefined;
    device.attention({ ...this.operands(context, sequence, queryKeyValue.output), output: attended, logSumExp });
    const dense = this.dense.forward(context, attended, target);
    return { queryKeyValue, attended, logSumExp, dense, output: dense.output };
  }

  /** Adds to the weights' gradients. gradOutput [tokens, width]; returns the input's gradient, of the same shape. */
  backward(context: Context, sequence: Sequence, activations: SelfAttentionActivations, gradOutput: Tensor, target?: Target): Tensor {
    const { queryKeyValue, attended, dense } = activations;
    const gradAttended = this.dense.backward(context, dense, gradOutput);
    const gradQueryKeyValue = context.arena.tensor('query, key and value gradient', queryKeyValue.output.shape);
    const [gradQuery, gradKey, gradValue] = this.parts(sequence, gradQueryKeyValue);
    context.device.attentionBackward({
      ...this.operands(context, sequence, queryKeyValue.output),
      output: attended,
      logSumExp: activations.logSumExp!,
      gradOutput: gradAttended,
      gradQuery,
      gradKey,
      gradValue,
    });
    return this.queryKeyValue.backward(context, queryKeyValue, gradQueryKeyValue, target);
  }

  private operands(
    context: Context,
    sequence: Sequence,
    queryKeyValue: Tensor,
  ): Omit<ArgumentsOf<typeof attention>, 'output' | 'logSumExp'> {
    const [query, key, value] = this.parts(sequence, queryKeyValue);
    return {
      query,
      key,
      value,
      batch: sequence.batch,
      heads: this.heads,
      headSize: this.headSize,
      queryLength: sequence.length,
      keyLength: sequence.length,
      paddingMask: sequence.paddingMask,
      dropout: dropoutAt(context, this.dropout.site, this.dropout.probability),
      precision: this.precision(context),
    };
  }

  /** In training the context's. With weights rounded to bf16 or i8 what attention multiplies is rounded too, where that takes less time. */
  private precision(context: Context): ProductPrecision | undefined {
    const { prepared } = this.queryKeyValue.weight;
    if (!prepared) return context.precision;
    return prepared.precision !== 'f32' && context.device.multipliesBf16 ? 'bf16' : 'f32';
  }

  private parts(sequence: Sequence, tensor: Tensor): StridedOperand[] {
    const rowStride = 3 * this.dense.inputs;
    return [0, 1, 2].map((part) => ({
      tensor,
      offset: part * this.headSize,
      batchStride: sequence.length * rowStride,
      rowStride,
      headStride: 3 * this.headSize,
    }));
  }
}
