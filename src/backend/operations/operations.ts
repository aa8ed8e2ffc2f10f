import {
  gelu,
  geluBackward,
  geluTanh,
  geluTanhBackward,
  relu,
  reluBackward,
  silu,
  siluBackward,
  tanh,
  tanhBackward,
} from './activations.ts';
import { attention, attentionBackward } from './attention.ts';
import { conditionalMatmul, conditionalMatmulBackwardInput, conditionalMatmulBackwardWeight } from './conditional_matmul.ts';
import { add, addRow, copy, dropout, fill, fillIntegers, multiply } from './elementwise.ts';
import { balanceThresholds, countSplits, fff, fffBackward, fffPrepared } from './fff.ts';
import { gather, gatherScaleBackward, scatterAdd, scatterRows } from './gather.ts';
import { layerNorm, layerNormBackward } from './layer_norm.ts';
import { linear, linearBackwardInput, linearBackwardWeight, linearPrepared } from './linear.ts';
import { crossEntropy, squaredError } from './loss.ts';
import type { AnyOperation } from './operation.ts';
import { adamw, addRows, clearRows, clipScale } from './optimizer.ts';
import { pool, poolBackward } from './pool.ts';
import { prepareLinear, prepareNodes } from './prepared.ts';
import { columnMean, sum, sumOfSquares } from './reductions.ts';
import { rmsNorm, rmsNormBackward } from './rms_norm.ts';
import { rotary } from './rotary.ts';
import { stridedCopy } from './strided_copy.ts';

/** What a program calls, on a device: `device.linear({ input, weight, output })`. */
export const calledOperations = {
  ...{ fill, copy, add, addRow, multiply, dropout, stridedCopy },
  ...{ gelu, geluBackward, geluTanh, geluTanhBackward, silu, siluBackward, relu, reluBackward, tanh, tanhBackward },
  ...{ layerNorm, layerNormBackward, rmsNorm, rmsNormBackward, rotary, linear, linearBackwardInput, linearBackwardWeight },
  ...{ attention, attentionBackward, gather, scatterAdd, scatterRows, gatherScaleBackward },
  ...{ fff, fffBackward, countSplits, balanceThresholds },
  ...{ conditionalMatmul, conditionalMatmulBackwardInput, conditionalMatmulBackwardWeight },
  ...{ pool, poolBackward, crossEntropy, squaredError, sum, sumOfSquares, columnMean, clipScale, adamw, clearRows, addRows },
};

/** What runs in place of one of these, or by a method of its own. */
const otherOperations = { fillIntegers, prepareLinear, linearPrepared, prepareNodes, fffPrepared };

/** Every operation, by its name: what a device can be asked to run. */
export const operations = { ...calledOperations, ...otherOperations } satisfies Record<string, AnyOperation>;
