import type { StridedOperand } from '../../../src/backend/operations/operation.ts';
import type { Tensor } from '../../../src/backend/tensor.ts';
import { input, normal } from '../../backend/cases/case.ts';
import type { SpeedCase } from '../speed_cases.ts';

/** GPT-2 small's: 12 heads of 64, four times the width between; a prompt of 128 tokens, then one token after 512. */
const [tokens, width, heads, headSize, inner, before] = [128, 768, 12, 64, 3072, 512];

const rows = (tensor: Tensor, rowStride: number, offset = 0): StridedOperand => ({
  ...{ tensor, offset, batchStride: 0, rowStride, headStride: headSize },
});

/** What decoders add to an encoder's operations. */
export const decoder: SpeedCase[] = [
  {
    name: 'multiply',
    operands: (random) => ({
      a: normal(random, [tokens, inner]),
      b: normal(random, [tokens, inner]),
      output: normal(random, [tokens, inner]),
    }),
    run: (device, { a, b, output }) => device.multiply({ a, b, output }),
    bytes: 12 * tokens * inner,
  },
  {
    name: 'rmsNorm',
    operands: (random) => ({
      ...{ input: normal(random, [tokens, width]), gamma: normal(random, [width]), output: normal(random, [tokens, width]) },
    }),
    run: (device, { input, gamma, output }) => device.rmsNorm({ input, gamma, epsilon: 1e-6, output }),
    bytes: 8 * tokens * width,
  },
  {
    name: 'rmsNormBackward',
    operands: (random) => ({
      ...{ input: normal(random, [tokens, width]), gamma: normal(random, [width]), rstd: normal(random, [tokens]) },
      ...{ gradOutput: normal(random, [tokens, width]), gradInput: normal(random, [tokens, width]), gradGamma: normal(random, [width]) },
    }),
    run: (device, { input, gamma, rstd, gradOutput, gradInput, gradGamma }) =>
      device.rmsNormBackward({ input, gamma, rstd, gradOutput, gradInput, gradGamma }),
    bytes: 12 * tokens * width,
  },
  {
    name: 'rotary',
    operands: (random) => ({ vectors: normal(random, [tokens, width]), rotation: normal(random, [tokens, headSize]) }),
    run: (device, { vectors, rotation }) => device.rotary({ vectors: rows(vectors, width), rotation, rows: tokens, heads }),
    bytes: 8 * tokens * width,
  },
  {
    name: 'scatterRows',
    operands: (random) => ({
      rows: normal(random, [tokens, 3 * width]),
      indices: input(
        [tokens],
        Int32Array.from({ length: tokens }, (_, t) => t),
      ),
      table: normal(random, [before, 2 * width]),
    }),
    run: (device, { rows, indices, table }) => device.scatterRows({ input: rows, indices, table, column: width }),
    bytes: 16 * tokens * width,
  },
  {
    name: `attention of one query over ${before} keys of a cache`,
    operands: (random) => ({
      query: normal(random, [1, width]),
      cache: normal(random, [before, 2 * width]),
      sequences: input([1, 4], Int32Array.of(0, 1, 0, before)),
      output: normal(random, [1, width]),
    }),
    run: (device, { query, cache, sequences, output }) =>
      device.attention({
        ...{ query: rows(query, width), key: rows(cache, 2 * width), value: rows(cache, 2 * width, width), sequences, output },
        ...{ batch: 1, heads, headSize, queryLength: 1, keyLength: before, causal: true },
      }),
    bytes: 8 * before * width,
  },
];
