import { ShapeError } from '../../errors.ts';
import type { Dropout } from '../dropout.ts';
import type { ProductPrecision } from '../prepared_weight.ts';
import type { Tensor } from '../tensor.ts';
import { precisionNumber } from './linear.ts';
import { input, operation, optional, output, type StridedOperand, strided } from './operation.ts';
import { describe, expectProbability, isCount } from './shapes.ts';
import { overlaps, overlapsItself, type StridedElements } from './strided_overlap.ts';

export interface AttentionAttributes {
  /** Sequences. */
  batch: number;
  heads: number;
  /** Heads of keys and values, each for as many heads of queries that follow each other (arXiv 2305.13245); `heads` if absent. */
  keyValueHeads?: number;
  headSize: number;
  /** Of each sequence; with `sequences`, of the longest. */
  queryLength: number;
  keyLength: number;
  /**
   * Query i of a sequence sees keys j <= i + keys - queries: its queries are the last of its positions. Keys and values of a sequence that a
   * query does not see must be finite all the same.
   */
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

const shapeNumbers = [
  ...(['batch', 'heads', 'headSize', 'queryLength', 'keyLength', 'causal', 'probability', 'key', 'precision'] as const),
  ...(['keyValueHeads', 'queryRows', 'keyRows'] as const),
] as const;

type AttentionOperands = AttentionAttributes & {
  query: StridedOperand;
  key: StridedOperand;
  value: StridedOperand;
  paddingMask?: Tensor;
  sequences?: Tensor;
};

function attentionNumbers(a: AttentionOperands) {
  const { keyValueHeads = a.heads } = a;
  for (const count of [a.batch, a.heads, keyValueHeads, a.headSize, a.queryLength, a.keyLength]) {
    if (!isCount(count) || count < 1) throw new ShapeError(`batch, heads, headSize and lengths must be counts, got ${count}`);
  }
  if (a.heads % keyValueHeads !== 0) throw new ShapeError(`${a.heads} heads cannot share ${keyValueHeads} heads of keys and values`);
  if (a.causal && a.queryLength > a.keyLength)
    throw new ShapeError(`causal attention of ${a.queryLength} queries over ${a.keyLength} keys`);
  if (a.sequences && a.paddingMask) throw new ShapeError('sequences and paddingMask exclude each other');
  if (a.dropout) expectProbability(a.dropout.probability);
  const [queryRows, keyRows] = a.sequences
    ? [rowsIn(a.query, a.heads, a), Math.min(rowsIn(a.key, keyValueHeads, a), rowsIn(a.value, keyValueHeads, a))]
    : [a.batch * a.queryLength, a.batch * a.keyLength];
  return [
    ...([a.batch, a.heads, a.headSize, a.queryLength, a.keyLength, a.causal ? 1 : 0] as const),
    ...([a.dropout?.probability ?? 0, a.dropout?.key ?? 0, precisionNumber(a.precision)] as const),
    ...([keyValueHeads, queryRows, keyRows] as const),
  ] as const;
}

/** Rows that lie within an operand of which sequences take theirs. */
function rowsIn({ tensor, offset, rowStride, headStride }: StridedOperand, heads: number, { headSize }: AttentionAttributes): number {
  const rest = tensor.size - offset - (heads - 1) * headStride - headSize;
  return rest >= 0 && rowStride > 0 ? Math.floor(rest / rowStride) + 1 : 0;
}

/** [offset, batchStride, rowStride, headStride], where all that they reach lies within the tensor. */
function stridesOf(operand: StridedOperand, of: 'query' | 'key', a: AttentionOperands) {
  const { tensor, offset, batchStride, rowStride, headStride } = operand;
  const [heads, length] = of === 'query' ? [a.heads, a.queryLength] : [a.keyValueHeads ?? a.heads, a.keyLength];
  // With sequences the kernel checks which rows they reach.
  const lastRow = a.sequences ? 0 : (a.batch - 1) * batchStride + (length - 1) * rowStride;
  const last = offset + lastRow + (heads - 1) * headStride + a.headSize;
  if (![offset, batchStride, rowStride, headStride].every((n) => Number.isInteger(n) && n >= 0) || last > tensor.size)
    throw new ShapeError(`an operand reaches element ${last} of ${describe(tensor)}`);
  return [offset, batchStride, rowStride, headStride] as const;
}

/** The elements that an operand reaches, from the start of its storage. */
function elementsOf(operand: StridedOperand, of: 'query' | 'key', a: AttentionOperands): StridedElements {
  const { tensor, offset, batchStride, rowStride, headStride } = operand;
  const [heads, length] = of === 'query' ? [a.heads, a.queryLength] : [a.keyValueHeads ?? a.heads, a.keyLength];
  const rows = a.sequences
    ? [{ count: rowsIn(operand, heads, a), stride: rowStride }]
    : [
        { count: a.batch, stride: batchStride },
        { count: length, stride: rowStride },
      ];
  return { offset: tensor.offset + offset, size: a.headSize, steps: [...rows, { count: heads, stride: headStride }] };
}

/** Gradients share no element with each other, nor with what is read; in one tensor they lie beside each other. */
function expectApart(a: AttentionOperands & Record<'gradQuery' | 'gradKey' | 'gradValue', StridedOperand>): void {
  const operands = (['gradQuery', 'gradKey', 'gradValue', 'query', 'key', 'value'] as const).map((name) => {
    const of = name === 'query' || name === 'gradQuery' ? 'query' : 'key';
    return { name, tensor: a[name].tensor, elements: elementsOf(a[name], of, a) };
  });
  for (const [i, written] of operands.slice(0, 3).entries()) {
    if (overlapsItself(written.elements))
      throw new ShapeError(`${written.name} ${describe(written.tensor)} has elements that fall on each other`);
    for (const other of operands.slice(i + 1))
      if (written.tensor.storage === other.tensor.storage && overlaps(written.elements, other.elements))
        throw new ShapeError(`${written.name} ${describe(written.tensor)} and ${other.name} ${describe(other.tensor)} share elements`);
  }
}

const strides = <const Name extends string>(name: Name) =>
  [`${name}Offset`, `${name}BatchStride`, `${name}RowStride`, `${name}HeadStride`] as const;

/**
 * Scaled dot-product attention: output = softmax(query key^T / sqrt(headSize) + mask) value for each sequence and head.
 *
 * Sequences are `batch` of queryLength queries and keyLength keys each, or those of `sequences`, i32 [batch, 4]: of each the first row of
 * its queries, how many they are, the first row of its keys and values, and how many. Rows are counted in the operands, whose batch
 * strides are then of no account, so that sequences of different lengths lie in one tensor without padding, and keys and values in a cache.
 * Rows of output and logSumExp that no sequence has are left as they are. Sequences that reach beyond the operands or are longer than
 * queryLength and keyLength are a late error.
 *
 * paddingMask i32 [batch, keyLength]: 0 marks padding, whose scores get -10000 added (crammedBERT's and BERT's convention).
 * output [queryRows, heads headSize]; logSumExp [queryRows, heads], of the masked scaled scores, is kept for the backward if given.
 */
export const attention = operation<AttentionAttributes>()('attention', {
  operands: {
    query: strided('input'),
    key: strided('input'),
    value: strided('input'),
    paddingMask: optional(input('i32', 'batch', 'keyLength')),
    sequences: optional(input('i32', 'batch', 4)),
    output: output('f32', 'queryRows', 'heads', 'headSize'),
    logSumExp: optional(output('f32', 'queryRows', 'heads')),
  },
  numbers: [...shapeNumbers, ...strides('query'), ...strides('key'), ...strides('value')],
  measure: (a) => [
    ...attentionNumbers(a),
    ...stridesOf(a.query, 'query', a),
    ...stridesOf(a.key, 'key', a),
    ...stridesOf(a.value, 'key', a),
  ],
});

/**
 * Gradients of query, key and value are overwritten, at the rows that sequences have; they lie as their strides say (three parts of one
 * tensor, usually). No two sequences may share rows of keys. Probabilities are computed again from logSumExp.
 */
export const attentionBackward = operation<AttentionAttributes>()('attentionBackward', {
  operands: {
    query: strided('input'),
    key: strided('input'),
    value: strided('input'),
    paddingMask: optional(input('i32', 'batch', 'keyLength')),
    sequences: optional(input('i32', 'batch', 4)),
    output: input('f32', 'queryRows', 'heads', 'headSize'),
    logSumExp: input('f32', 'queryRows', 'heads'),
    gradOutput: input('f32', 'queryRows', 'heads', 'headSize'),
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
  measure(a) {
    const { sequences, gradQuery, gradKey, gradValue } = a;
    const numbers = attentionNumbers(a);
    // Rows of a sequence are there in both, or in neither.
    if (sequences && attentionNumbers({ ...a, query: gradQuery, key: gradKey, value: gradValue }).some((n, i) => n !== numbers[i]))
      throw new ShapeError('gradients have rows in another number than what they are the gradients of');
    const all = [
      ...numbers,
      ...stridesOf(a.query, 'query', a),
      ...stridesOf(a.key, 'key', a),
      ...stridesOf(a.value, 'key', a),
      ...stridesOf(gradQuery, 'query', a),
      ...stridesOf(gradKey, 'key', a),
      ...stridesOf(gradValue, 'key', a),
    ] as const;
    expectApart(a);
    return all;
  },
});
