import type { StridedOperand } from '../../../src/backend/operations/operation.ts';
import { productPrecisions } from '../../../src/backend/prepared_weight.ts';
import type { Tensor } from '../../../src/backend/tensor.ts';
import { input, type Tensors } from '../../backend/cases/case.ts';
import { alike, headSize, heads, tokens, width } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

const operand = (tensor: Tensor): StridedOperand => ({
  tensor,
  offset: 0,
  batchStride: tokens * width,
  rowStride: width,
  headStride: headSize,
});
const attentionArguments = (t: Tensors) => ({
  query: operand(t.query),
  key: operand(t.key),
  value: operand(t.value),
  ...{ batch: 1, heads, headSize, queryLength: tokens, keyLength: tokens },
});
export const attention: SpeedCase[] = productPrecisions.flatMap((precision): SpeedCase[] => [
  {
    name: precision === 'f32' ? 'attention' : `attention in ${precision}`,
    operands: alike([tokens, width], 'query', 'key', 'value', 'output'),
    run: (device, t) => device.attention({ ...attentionArguments(t), precision, output: t.output }),
    operations: 4 * tokens * tokens * width,
  },
  {
    name: precision === 'f32' ? 'attentionBackward' : `attentionBackward in ${precision}`,
    operands: (random) => ({
      ...alike([tokens, width], 'query', 'key', 'value', 'output', 'gradOutput', 'gradQuery', 'gradKey', 'gradValue')(random),
      logSumExp: input([heads, tokens], new Float32Array(heads * tokens).fill(40)),
    }),
    run: (device, t) =>
      device.attentionBackward({
        ...attentionArguments(t),
        precision,
        output: t.output,
        logSumExp: t.logSumExp,
        gradOutput: t.gradOutput,
        gradQuery: operand(t.gradQuery),
        gradKey: operand(t.gradKey),
        gradValue: operand(t.gradValue),
      }),
    operations: 10 * tokens * tokens * width,
  },
]);
