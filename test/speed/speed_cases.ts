import type { Device } from '../../src/backend/device.ts';
import type { Operand, Tensors } from '../backend/cases/case.ts';
import type { Random } from '../backend/random.ts';
import { attention } from './cases/attention.ts';
import { conditionalMatmul } from './cases/conditional_matmul.ts';
import { decoder } from './cases/decoder.ts';
import { elementwise } from './cases/elementwise.ts';
import { fff } from './cases/fff.ts';
import { embedding } from './cases/gather.ts';
import { layerNorm } from './cases/layer_norm.ts';
import { linear } from './cases/linear.ts';
import { losses } from './cases/loss.ts';
import { optimizer } from './cases/optimizer.ts';
import { pool } from './cases/pool.ts';
import { stridedCopy } from './cases/strided_copy.ts';

/** The third mode of the operation cases: one call of one operation on operands of a model's sizes. */
export interface SpeedCase {
  name: string;
  operands(random: Random): Record<string, Operand>;
  /** What is timed; what `setUp` made is at hand. */
  run(device: Device, tensors: Tensors, made: Disposable | undefined): void;
  /** Runs once before. */
  setUp?(device: Device, tensors: Tensors): Disposable;
  /** Floating-point operations of a call (a multiplication and an addition are two). */
  operations?: number;
  /** Bytes that a call must at least move, where that is what limits it. */
  bytes?: number;
}

export const speedCases: readonly SpeedCase[] = [
  ...elementwise,
  ...stridedCopy,
  ...layerNorm,
  ...linear,
  ...attention,
  ...decoder,
  ...embedding,
  ...fff,
  ...conditionalMatmul,
  ...pool,
  ...losses,
  ...optimizer,
];
