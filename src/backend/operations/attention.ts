import { ShapeError } from '../../errors.ts';
import type { Dropout } from '../dropout.ts';
import type { ProductPrecision } from '../prepared_weight.ts';
import { precisionNumber } from './linear.ts';
import { input, operation, optional, output, type StridedOperand, strided } from './operation.ts';
import { describe, expectProbability, isCount } from './shapes.ts';

export interface AttentionAttributes {
  batch: number;
  heads: number;
  headSize: number;
  queryLength: number;
  keyLength: number;
  /** Query i sees keys j <= i + keyLength - queryLength. Keys and values that it does not see must be finite all the same. */
  causal?: boolean;
  /** On the attention probabilities; element index ((b heads + h) queryLength + i) keyLength + j. */
  dropout?: Dropout;
  /**
   * Of every product, f32 if absent. In bf16 probabilities are rounded before they are divided by their sum, which stays that of the exact
   * ones; the backward rounds gradOutput, probabilities (divided, after dropout's factor) and the gradients of scores (after the factor
   * 1 / sqrt(headSize)).
   */
  precision?: ProductPrecision;
}

const shapeNumbers = ['batch', 'heads', 'headSize', 'queryLength', 'keyLength', 'causal', 'probability', 'key', 'precision'] as const;

function attentionNumbers(a: AttentionAttributes) {
  for (const count of [a.batch, a.heads, a.headSize, a.queryLength, a.keyLength]) {
    if (!isCount(count) || count < 1) throw new ShapeError(`batch, heads, headSize and lengths must be counts, got ${count}`);
  }
  if (a.causal && a.queryLength > a.keyLength)
    throw new ShapeError(`causal attention of ${a.queryLength} queries over ${a.keyLength} keys`);
  if (a.dropout) expectProbability(a.dropout.probability);
  return [
    ...([a.batch, a.heads, a.headSize, a.queryLength, a.keyLength, a.causal ? 1 : 0] as const),
    ...([a.dropout?.probability ?? 0, a.dropout?.key ?? 0, precisionNumber(a.precision)] as const),
  ] as const;
}

/** [offset, batchStride, rowStride, headStride], where all that they reach lies within the tensor. */
function stridesOf(operand: StridedOperand, length: number, a: AttentionAttributes) {
  const { tensor, offset, batchStride, rowStride, headStride } = operand;
  const last = offset + (a.batch - 1) * batchStride + (length - 1) * rowStride + (a.heads - 1) * headStride + a.headSize;
  if (![offset, batchStride, rowStride, headStride].every((n) => Number.isInteger(n) && n >= 0) || last > tensor.size)
    throw new ShapeError(`an operand reaches element ${last} of ${describe(tensor)}`);
  return [offset, batchStride, rowStride, headStride] as const;
}

const strides = <const Name extends string>(name: Name) =>
  [`${name}Offset`, `${name}BatchStride`, `${name}RowStride`, `${name}HeadStride`] as const;

/**
 * Scaled dot-product attention: output = softmax(query key^T / sqrt(headSize) + mask) value for each batch element and head.
 * paddingMask i32 [batch, keyLength]: 0 marks padding, whose scores get -10000 added (crammedBERT's and BERT's convention).
 * output [batch queryLength, heads headSize]; logSumExp [batch, heads, queryLength], of the masked scaled scores, is kept for the backward if given.
 */
export const attention = operation<AttentionAttributes>()('attention', {
  operands: {
    query: strided('input'),
    key: strided('input'),
    value: strided('input'),
    paddingMask: optional(input('i32', 'batch', 'keyLength')),
    output: output('f32', 'batch', 'queryLength', 'heads', 'headSize'),
    logSumExp: optional(output('f32', 'batch', 'heads', 'queryLength')),
  },
  numbers: [...shapeNumbers, ...strides('query'), ...strides('key'), ...strides('value')],
  measure: (a) => [
    ...attentionNumbers(a),
    ...stridesOf(a.query, a.queryLength, a),
    ...stridesOf(a.key, a.keyLength, a),
    ...stridesOf(a.value, a.keyLength, a),
  ],
});

/** Gradients of query, key and value are overwritten; they lie as their strides say (three parts of one tensor, usually). Probabilities are computed again from logSumExp. */
export const attentionBackward = operation<AttentionAttributes>()('attentionBackward', {
  operands: {
    query: strided('input'),
    key: strided('input'),
    value: strided('input'),
    paddingMask: optional(input('i32', 'batch', 'keyLength')),
    output: input('f32', 'batch', 'queryLength', 'heads', 'headSize'),
    logSumExp: input('f32', 'batch', 'heads', 'queryLength'),
    gradOutput: input('f32', 'batch', 'queryLength', 'heads', 'headSize'),
    gradQuery: strided('output'),
    gradKey: strided('output'),
    gradValue: strided('output'),
  },
  numbers: [
    ...shapeNumbers,
    ...strides('query'),
    ...strides('key'),
    ...strides('value'),
    ...strides('gradQuery'),
    ...strides('gradKey'),
    ...strides('gradValue'),
  ],
  measure: (a) => [
    ...attentionNumbers(a),
    ...stridesOf(a.query, a.queryLength, a),
    ...stridesOf(a.key, a.keyLength, a),
    ...stridesOf(a.value, a.keyLength, a),
    ...stridesOf(a.gradQuery, a.queryLength, a),
    ...stridesOf(a.gradKey, a.keyLength, a),
    ...stridesOf(a.gradValue, a.keyLength, a),
  ],
});
