import { dropoutKey } from '../../../src/backend/dropout.ts';
import type { StridedOperand } from '../../../src/backend/operations/operation.ts';
import type { ProductPrecision } from '../../../src/backend/prepared_weight.ts';
import type { Tensor } from '../../../src/backend/tensor.ts';
import { input, normal, type OperationCase, output, type Tensors, type Tolerance } from './case.ts';

export const softmax: Tolerance = {
  value: 1e-5,
  reason: 'float32 scores of a few units, whose rounding the exponential passes on, and sums over keys',
};

export const rounded: Tolerance = {
  value: 5e-4,
  reason: 'a float32 difference in a score can move a probability, or the gradient of a score, by one step of rounding to bf16, 2^-8',
};

interface Variant {
  what?: string;
  batch: number;
  heads: number;
  headSize: number;
  queryLength: number;
  keyLength?: number;
  /** Standard deviation of queries and keys. */
  spread?: number;
  /** Padded positions at the end of each sequence. */
  padding?: number[];
  causal?: boolean;
  dropout?: number;
  precision?: ProductPrecision;
  tolerance?: Tolerance;
  differentiate?: boolean;
}

const variants: Variant[] = [
  { batch: 2, heads: 3, headSize: 5, queryLength: 4, differentiate: true },
  { batch: 1, heads: 1, headSize: 1, queryLength: 1, differentiate: true },
  { batch: 1, heads: 2, headSize: 16, queryLength: 17, differentiate: true },
  { batch: 2, heads: 1, headSize: 8, queryLength: 3, keyLength: 9, differentiate: true },
  { batch: 2, heads: 2, headSize: 6, queryLength: 9, keyLength: 2, differentiate: true },
  { batch: 3, heads: 2, headSize: 7, queryLength: 5, padding: [0, 2, 4], differentiate: true },
  { batch: 1, heads: 2, headSize: 4, queryLength: 6, causal: true, differentiate: true },
  { batch: 2, heads: 1, headSize: 9, queryLength: 3, keyLength: 8, causal: true, differentiate: true },
  { batch: 2, heads: 2, headSize: 5, queryLength: 7, dropout: 0.3, differentiate: true },
  { batch: 2, heads: 2, headSize: 3, queryLength: 5, keyLength: 7, causal: true, padding: [0, 3], dropout: 0.1, differentiate: true },
  {
    what: 'one key',
    batch: 2,
    heads: 3,
    headSize: 33,
    queryLength: 20,
    keyLength: 1,
    tolerance: { ...softmax, atLeast: 1, reason: 'gradients of queries and keys are 0: differences of two equal sums of 33 terms' },
  },
  { batch: 2, heads: 4, headSize: 64, queryLength: 128, padding: [0, 37] },
  { batch: 1, heads: 2, headSize: 32, queryLength: 300 },
  { batch: 1, heads: 1, headSize: 80, queryLength: 65, keyLength: 301, causal: true },
  { batch: 1, heads: 3, headSize: 24, queryLength: 130, causal: true, dropout: 0.1 },
  { batch: 1, heads: 1, headSize: 259, queryLength: 9, causal: true },
  { batch: 1, heads: 2, headSize: 12, queryLength: 130, keyLength: 600, padding: [17] },
  { batch: 1, heads: 1, headSize: 8, queryLength: 70, keyLength: 1100, causal: true },
  {
    what: 'saturated',
    batch: 1,
    heads: 2,
    headSize: 20,
    queryLength: 33,
    spread: 5,
    tolerance: { value: 1e-4, reason: 'scores of about 100 are rounded to 1e-5' },
  },
  {
    what: 'one sequence of nothing but padding',
    batch: 2,
    heads: 2,
    headSize: 8,
    queryLength: 5,
    padding: [5, 1],
    tolerance: { value: 5e-3, reason: 'scores of -10000 are rounded to 1e-3' },
  },
  ...[
    { batch: 2, heads: 3, headSize: 5, queryLength: 4 },
    { batch: 1, heads: 1, headSize: 1, queryLength: 1 },
    { what: 'one key', batch: 2, heads: 3, headSize: 33, queryLength: 20, keyLength: 1 },
    { batch: 2, heads: 1, headSize: 9, queryLength: 3, keyLength: 8, causal: true },
    { batch: 2, heads: 2, headSize: 32, queryLength: 128, padding: [0, 37] },
    { batch: 1, heads: 2, headSize: 17, queryLength: 150, keyLength: 301, causal: true, dropout: 0.1 },
    { batch: 1, heads: 1, headSize: 259, queryLength: 9 },
    { batch: 1, heads: 1, headSize: 10, queryLength: 100, keyLength: 700 },
  ].map((shape) => ({ ...shape, precision: 'bf16' as const, tolerance: shape.what ? { ...rounded, atLeast: 1 } : rounded })),
];

const attention = (v: Variant): OperationCase => {
  const { what, batch, heads, headSize, queryLength, keyLength = queryLength, spread = 1, padding, causal, dropout, precision } = v;
  const width = heads * headSize;
  const operand = (tensor: Tensor, length: number): StridedOperand => ({
    tensor,
    offset: 0,
    batchStride: length * width,
    rowStride: width,
    headStride: headSize,
  });
  const common = (t: Tensors) => ({
    query: operand(t.query, queryLength),
    key: operand(t.key, keyLength),
    value: operand(t.value, keyLength),
    batch,
    heads,
    headSize,
    queryLength,
    keyLength,
    causal,
    paddingMask: t.paddingMask,
    dropout: dropout ? { probability: dropout, key: dropoutKey(1, 2, 3) } : undefined,
    precision,
  });
  const options = [
    `${batch} x ${heads} heads of ${headSize}, ${queryLength} queries, ${keyLength} keys`,
    what,
    causal && 'causal',
    padding && 'padding',
    dropout && 'dropout',
    precision,
  ];
  return {
    name: `attention ${options.filter(Boolean).join(', ')}`,
    tolerance: v.tolerance ?? softmax,
    operands: (random) => ({
      query: normal(random, [batch, queryLength, width], spread),
      key: normal(random, [batch, keyLength, width], spread),
      value: normal(random, [batch, keyLength, width]),
      ...(padding && {
        paddingMask: input(
          [batch, keyLength],
          Int32Array.from({ length: batch * keyLength }, (_, i) =>
            i % keyLength < keyLength - padding[Math.floor(i / keyLength)] ? 1 : 0,
          ),
        ),
      }),
      output: output([batch, queryLength, width]),
      logSumExp: output([batch, heads, queryLength]),
      inference: output([batch, queryLength, width]),
      gradOutput: normal(random, [batch, queryLength, width]),
      gradQuery: output([batch, queryLength, width]),
      gradKey: output([batch, keyLength, width]),
      gradValue: output([batch, keyLength, width]),
    }),
    forward(device, t) {
      device.attention({ ...common(t), output: t.output, logSumExp: t.logSumExp });
      device.attention({ ...common(t), output: t.inference });
    },
    backward: (device, t) =>
      device.attentionBackward({
        ...common(t),
        output: t.output,
        logSumExp: t.logSumExp,
        gradOutput: t.gradOutput,
        gradQuery: operand(t.gradQuery, queryLength),
        gradKey: operand(t.gradKey, keyLength),
        gradValue: operand(t.gradValue, keyLength),
      }),
    gradient: v.differentiate
      ? { outputs: { output: 'gradOutput' }, inputs: { query: 'gradQuery', key: 'gradKey', value: 'gradValue' } }
      : undefined,
  };
};

/** Queries, keys and values in one tensor [batch, length, heads, 3, headSize], as crammedBERT's query_key_value leaves them. */
const together = ({
  batch,
  length,
  heads,
  headSize,
  precision,
}: {
  batch: number;
  length: number;
  heads: number;
  headSize: number;
  precision?: ProductPrecision;
}): OperationCase => {
  const part = (tensor: Tensor, index: number): StridedOperand => ({
    tensor,
    offset: index * headSize,
    batchStride: length * heads * 3 * headSize,
    rowStride: heads * 3 * headSize,
    headStride: 3 * headSize,
  });
  const common = (t: Tensors) => ({
    query: part(t.queryKeyValue, 0),
    key: part(t.queryKeyValue, 1),
    value: part(t.queryKeyValue, 2),
    batch,
    heads,
    headSize,
    queryLength: length,
    keyLength: length,
    precision,
  });
  return {
    name: `attention ${batch} x ${heads} heads of ${headSize}, length ${length}, queries, keys and values in one tensor${precision ? `, ${precision}` : ''}`,
    tolerance: precision ? rounded : softmax,
    operands: (random) => ({
      queryKeyValue: normal(random, [batch, length, heads * 3 * headSize]),
      output: output([batch, length, heads * headSize]),
      logSumExp: output([batch, heads, length]),
      gradOutput: normal(random, [batch, length, heads * headSize]),
      gradQueryKeyValue: output([batch, length, heads * 3 * headSize]),
    }),
    forward: (device, t) => device.attention({ ...common(t), output: t.output, logSumExp: t.logSumExp }),
    backward: (device, t) =>
      device.attentionBackward({
        ...common(t),
        output: t.output,
        logSumExp: t.logSumExp,
        gradOutput: t.gradOutput,
        gradQuery: part(t.gradQueryKeyValue, 0),
        gradKey: part(t.gradQueryKeyValue, 1),
        gradValue: part(t.gradQueryKeyValue, 2),
      }),
    gradient: precision ? undefined : { outputs: { output: 'gradOutput' }, inputs: { queryKeyValue: 'gradQueryKeyValue' } },
  };
};

export const attentionCases: OperationCase[] = [
  ...variants.map(attention),
  together({ batch: 2, length: 5, heads: 3, headSize: 4 }),
  together({ batch: 3, length: 33, heads: 2, headSize: 17 }),
  together({ batch: 3, length: 33, heads: 2, headSize: 17, precision: 'bf16' }),
];
