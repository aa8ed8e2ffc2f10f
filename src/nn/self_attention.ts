import type { attention } from '../backend/operations/attention.ts';
import type { ArgumentsOf, StridedOperand } from '../backend/operations/operation.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import type { Tensor } from '../backend/tensor.ts';
import { dropoutAt, type Target } from './layer.ts';
import type { Linear, LinearActivations } from './linear.ts';
import type { Context, Parameter } from './parameter.ts';
import type { CausalSequences, Sequence } from './sequence.ts';

export interface SelfAttentionActivations {
  /** Its output is [tokens, 3 width], or what heads of keys and values take that are fewer. */
  queryKeyValue: LinearActivations;
  /** [tokens, width], the heads' weighted values side by side. */
  attended: Tensor;
  /** [tokens, heads], kept in training. */
  logSumExp?: Tensor;
  dense: LinearActivations;
  /** [tokens, width]. */
  output: Tensor;
}

/**
 * Multi-head self-attention (arXiv 1706.03762). One projection makes query, key and value. An encoder's are laid out per head as crammedBERT has
 * it: head h owns outputs 3 h size .. 3 (h + 1) size, first its query, then its key, then its value. A decoder's have all queries first,
 * then all keys, then all values, as GPT-2 has it, so that a cache takes keys and values as they lie, and their heads may be fewer.
 */
export class SelfAttention {
  readonly headSize: number;

  constructor(
    /** [(heads + 2 keyValueHeads) headSize, width]. */
    readonly queryKeyValue: Linear,
    /** [width, heads headSize]. */
    readonly dense: Linear,
    readonly heads: number,
    /** On the attention probabilities. */
    readonly dropout: { probability: number; site: number },
    /** Of a decoder; an encoder has as many as heads, and theirs beside them. */
    readonly keyValueHeads?: number,
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
    const tokens = sequence.ids.size;
    if (sequence.causal) this.prepare(context, sequence.causal, queryKeyValue.output);
    const attended = arena.tensor('attended values', [tokens, this.dense.inputs]);
    const logSumExp = context.training ? arena.tensor('attention log-sum-exp', [tokens, this.heads]) : undefined;
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
    const rotation = sequence.causal?.rotation;
    if (rotation) this.rotate(context, rotation, gradQueryKeyValue, true);
    return this.queryKeyValue.backward(context, queryKeyValue, gradQueryKeyValue, target);
  }

  /** Turns queries and keys to their positions, and stores keys and values where they are kept. */
  private prepare(context: Context, { rotation, cache }: CausalSequences, queryKeyValue: Tensor): void {
    if (rotation) this.rotate(context, rotation, queryKeyValue);
    const column = this.heads * this.headSize;
    if (cache) context.device.scatterRows({ input: queryKeyValue, indices: cache.places, table: cache.table, column });
  }

  /** Queries and keys, or their gradients, in place. */
  private rotate({ device }: Context, rotation: Tensor, queryKeyValue: Tensor, inverse = false): void {
    const { heads, keyValueHeads = heads, headSize } = this;
    const [rows, rowStride] = queryKeyValue.shape;
    const vectors = { tensor: queryKeyValue, offset: 0, batchStride: 0, rowStride, headStride: headSize };
    device.rotary({ vectors, rotation, rows, heads: heads + keyValueHeads, inverse });
  }

  private operands(
    context: Context,
    sequence: Sequence,
    queryKeyValue: Tensor,
  ): Omit<ArgumentsOf<typeof attention>, 'output' | 'logSumExp'> {
    const [query, key, value] = this.parts(sequence, queryKeyValue);
    const { heads, keyValueHeads = heads, headSize } = this;
    const { causal, batch, length } = sequence;
    const common = {
      ...{ query, batch, heads, headSize, queryLength: length },
      dropout: dropoutAt(context, this.dropout.site, this.dropout.probability),
      precision: this.precision(context),
    };
    if (!causal) return { ...common, key, value, keyLength: length, paddingMask: sequence.paddingMask };
    const { sequences, keyLength, cache } = causal;
    const packed = { ...common, sequences, keyLength, keyValueHeads, causal: true };
    if (!cache) return { ...packed, key, value };
    const width = keyValueHeads * headSize;
    const cached = { tensor: cache.table, offset: 0, batchStride: 0, rowStride: 2 * width, headStride: headSize };
    return { ...packed, key: cached, value: { ...cached, offset: width } };
  }

  /** In training the context's. With weights rounded to bf16 or i8 what attention multiplies is rounded too, where that takes less time. */
  private precision(context: Context): ProductPrecision | undefined {
    const { prepared } = this.queryKeyValue.weight;
    if (!prepared) return context.precision;
    return prepared.precision !== 'f32' && context.device.multipliesBf16 ? 'bf16' : 'f32';
  }

  private parts(sequence: Sequence, tensor: Tensor): StridedOperand[] {
    const { heads, keyValueHeads, headSize } = this;
    const rowStride = this.queryKeyValue.outputs;
    const [offsets, headStride] =
      keyValueHeads === undefined
        ? [[0, headSize, 2 * headSize], 3 * headSize]
        : [[0, heads * headSize, (heads + keyValueHeads) * headSize], headSize];
    return offsets.map((offset) => ({ tensor, offset, batchStride: sequence.length * rowStride, rowStride, headStride }));
  }
}
