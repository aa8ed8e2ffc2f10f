/** The kernel of every operation. */
import { type AnyOperation, input, operation, optional, updated } from '../operations/operation.ts';
import { operations } from '../operations/operations.ts';
import type { Kernel, OperationName } from './kernel.ts';
import { attention, attentionBackward } from './wgsl/attention.ts';
import * as conditionalMatmul from './wgsl/conditional_matmul.ts';
import * as elementwise from './wgsl/elementwise.ts';
import { balanceThresholds, countSplits, fff, fffBackward } from './wgsl/fff.ts';
import * as gather from './wgsl/gather.ts';
import { layerNorm, layerNormBackward } from './wgsl/layer_norm.ts';
import { linear, linearBackwardInput, linearBackwardWeight } from './wgsl/linear.ts';
import * as loss from './wgsl/loss.ts';
import * as optimizer from './wgsl/optimizer.ts';
import * as pool from './wgsl/pool.ts';
import * as prepared from './wgsl/prepared.ts';
import * as rmsNorm from './wgsl/rms_norm.ts';
import { rotary } from './wgsl/rotary.ts';
import * as stridedCopy from './wgsl/strided_copy.ts';

/** Some bytes of a word, for what is written to memory and begins or ends within one. */
export const mergeWord = operation()('mergeWord', {
  operands: { target: updated('i8') },
  numbers: ['word', 'bits', 'mask'],
  measure: () => [0, 0, 0],
});

/** These may add to another tensor than their output, `base`: a copy that was queued before them is then left out. */
const addsToBase: readonly string[] = ['linear', 'linearPrepared', 'fff', 'fffPrepared'];

/** An operation as shaders know it. */
export function definitionOf(name: OperationName | MergeName): AnyOperation {
  if (name === 'mergeWord') return mergeWord;
  return withBase.get(name) ?? operations[name];
}

const withBase = new Map(
  addsToBase.map((name): [string, AnyOperation] => {
    const definition: AnyOperation = operations[name as OperationName];
    const base = { name: 'base', ...optional(input('f32')) };
    return [name, { ...definition, plan: { ...definition.plan, operands: [...definition.plan.operands, base] } }];
  }),
);

/** Whether the call may take such a base, and the place of its output. */
export function outputToAccumulate(name: OperationName | MergeName, numbers: Readonly<Record<string, number>>): number | undefined {
  if (!addsToBase.includes(name) || !numbers.accumulate) return undefined;
  return definitionOf(name).plan.operands.findIndex((operand) => operand.name === 'output');
}

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

export const kernels: Record<OperationName | MergeName, Kernel> = {
  ...elementwise,
  ...{ layerNorm, layerNormBackward },
  ...rmsNorm,
  ...{ linear, linearBackwardInput, linearBackwardWeight },
  ...{ attention, attentionBackward, rotary },
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
