/** The kernel of every operation. */
import { operation, updated } from '../operations/operation.ts';
import type { Kernel, OperationName } from './kernel.ts';
import { attention, attentionBackward } from './wgsl/attention.ts';
import * as conditionalMatmul from './wgsl/conditional_matmul.ts';
import * as elementwise from './wgsl/elementwise.ts';
import { balanceThresholds, countSplits, fff, fffBackward } from './wgsl/fff.ts';
import * as gather from './wgsl/gather.ts';
import * as layerNorm from './wgsl/layer_norm.ts';
import { linear, linearBackwardInput, linearBackwardWeight } from './wgsl/linear.ts';
import * as loss from './wgsl/loss.ts';
import * as optimizer from './wgsl/optimizer.ts';
import * as pool from './wgsl/pool.ts';
import * as prepared from './wgsl/prepared.ts';
import * as stridedCopy from './wgsl/strided_copy.ts';

/** Some bytes of a word, for what is written to memory and begins or ends within one. */
export const mergeWord = operation()('mergeWord', {
  operands: { target: updated('i8') },
  numbers: ['word', 'bits', 'mask'],
  measure: () => [0, 0, 0],
});

const merging: Kernel = {
  stages: () => [
    {
      name: 'word',
      threads: 1,
      groups: () => 1,
      always: true,
      code: () => 'fn run(group: u32, lane: u32) { set_target(p.word, (get_target(p.word) & ~p.mask) | p.bits); }',
    },
  ],
};

export type MergeName = 'mergeWord';

export const kernels: Partial<Record<OperationName, Kernel>> & Record<MergeName, Kernel> = {
  ...elementwise,
  ...layerNorm,
  ...{ linear, linearBackwardInput, linearBackwardWeight },
  ...{ attention, attentionBackward },
  ...gather,
  ...conditionalMatmul,
  ...{ fff, fffBackward, countSplits, balanceThresholds },
  ...stridedCopy,
  ...pool,
  ...prepared,
  ...loss,
  ...optimizer,
  mergeWord: merging,
};
