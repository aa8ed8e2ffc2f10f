import { dropoutKey } from '../../../src/backend/dropout.ts';
import type { StridedOperand } from '../../../src/backend/operations/operation.ts';
import type { ProductPrecision } from '../../../src/backend/prepared_weight.ts';
import type { Tensor } from '../../../src/backend/tensor.ts';
import { rounded, softmax } from './attention.ts';
import { input, normal, type OperationCase, output, type Tensors } from './case.ts';

interface PackedVariant {
  what: string;
  heads: number;
  keyValueHeads?: number;
  headSize: number;
  /** Queries and keys of each sequence. */
  lengths: [queries: number, keys: number][];
  causal?: boolean;
  dropout?: number;
  precision?: ProductPrecision;
  differentiate?: boolean;
}

const packedVariants: PackedVariant[] = [
  {
    what: 'lengths of their own',
    heads: 2,
    headSize: 6,
    lengths: [
      [3, 3],
      [1, 1],
      [5, 5],
    ],
    causal: true,
    differentiate: true,
  },
  {
    what: 'keys of before',
    heads: 1,
    headSize: 9,
    lengths: [
      [1, 8],
      [3, 4],
    ],
    causal: true,
    differentiate: true,
  },
  {
    what: 'every key seen',
    heads: 2,
    headSize: 4,
    lengths: [
      [2, 5],
      [4, 1],
    ],
    differentiate: true,
  },
  {
    what: 'shared keys',
    heads: 4,
    keyValueHeads: 2,
    headSize: 5,
    lengths: [
      [4, 4],
      [2, 3],
    ],
    causal: true,
    differentiate: true,
  },
  { what: 'one head of keys', heads: 3, keyValueHeads: 1, headSize: 8, lengths: [[6, 6]], causal: true, dropout: 0.3, differentiate: true },
  {
    what: 'many of each',
    heads: 4,
    keyValueHeads: 2,
    headSize: 24,
    lengths: [
      [130, 130],
      [7, 300],
      [1, 260],
    ],
    causal: true,
  },
  {
    what: 'many of each',
    heads: 2,
    headSize: 17,
    lengths: [
      [130, 300],
      [40, 90],
    ],
    causal: true,
    dropout: 0.1,
    precision: 'bf16',
  },
];

/** Sequences in one tensor, one behind the other. */
const packed = (v: PackedVariant): OperationCase => {
  const { what, heads, keyValueHeads = heads, headSize, lengths, causal, dropout, precision } = v;
  const [width, keyWidth] = [heads * headSize, keyValueHeads * headSize];
  let [queries, keys] = [0, 0];
  const rows = lengths.flatMap(([ofQueries, ofKeys]) => {
    const row = [queries, ofQueries, keys, ofKeys];
    queries += ofQueries;
    keys += ofKeys;
    return row;
  });
  // Values lie beside keys, as in a cache.
  const strides = (tensor: Tensor, rowStride: number, offset = 0): StridedOperand => ({
    ...{ tensor, offset, batchStride: 0, rowStride, headStride: headSize },
  });
  const common = (t: Tensors) => ({
    query: strides(t.query, width),
    key: strides(t.keyValue, 2 * keyWidth),
    value: strides(t.keyValue, 2 * keyWidth, keyWidth),
    sequences: t.sequences,
    batch: lengths.length,
    ...{ heads, keyValueHeads, headSize, causal, precision },
    queryLength: Math.max(...lengths.map(([count]) => count)),
    keyLength: Math.max(...lengths.map(([, count]) => count)),
    dropout: dropout ? { probability: dropout, key: dropoutKey(1, 2, 3) } : undefined,
  });
  const options = [`${heads} heads of ${headSize}`, `${lengths.length} sequences of ${what}`, dropout && 'dropout', precision];
  return {
    name: `attention packed, ${options.filter(Boolean).join(', ')}`,
    tolerance: precision ? rounded : softmax,
    operands: (random) => ({
      query: normal(random, [queries, width]),
      keyValue: normal(random, [keys, 2 * keyWidth]),
      sequences: input([lengths.length, 4], Int32Array.from(rows)),
      output: output([queries, width]),
      logSumExp: output([queries, heads]),
      gradOutput: normal(random, [queries, width]),
      gradQuery: output([queries, width]),
      gradKeyValue: output([keys, 2 * keyWidth]),
    }),
    forward: (device, t) => device.attention({ ...common(t), output: t.output, logSumExp: t.logSumExp }),
    backward: (device, t) =>
      device.attentionBackward({
        ...common(t),
        output: t.output,
        logSumExp: t.logSumExp,
        gradOutput: t.gradOutput,
        gradQuery: strides(t.gradQuery, width),
        gradKey: strides(t.gradKeyValue, 2 * keyWidth),
        gradValue: strides(t.gradKeyValue, 2 * keyWidth, keyWidth),
      }),
    gradient: v.differentiate ? { outputs: { output: 'gradOutput' }, inputs: { query: 'gradQuery', keyValue: 'gradKeyValue' } } : undefined,
  };
};

export const packedAttentionCases: OperationCase[] = packedVariants.map(packed);
