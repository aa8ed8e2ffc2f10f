import type { Implementation } from '../operations/operation.ts';
import type { operations } from '../operations/operations.ts';
import * as activations from './activations.ts';
import * as attention from './attention.ts';
import * as conditionalMatmul from './conditional_matmul.ts';
import * as elementwise from './elementwise.ts';
import * as fff from './fff.ts';
import * as gather from './gather.ts';
import * as layerNorm from './layer_norm.ts';
import * as linear from './linear.ts';
import * as loss from './loss.ts';
import * as optimizer from './optimizer.ts';
import * as pool from './pool.ts';
import * as prepared from './prepared.ts';
import * as reductions from './reductions.ts';
import * as rmsNorm from './rms_norm.ts';
import * as rotary from './rotary.ts';
import * as stridedCopy from './strided_copy.ts';

/** Every operation in plain TypeScript. An absent operand is undefined. */
export const implementations: { [Name in keyof typeof operations]: Implementation<(typeof operations)[Name]> } = {
  ...elementwise,
  ...activations,
  ...layerNorm,
  ...rmsNorm,
  ...rotary,
  ...linear,
  ...attention,
  ...gather,
  ...conditionalMatmul,
  ...fff,
  ...stridedCopy,
  ...pool,
  ...prepared,
  ...loss,
  ...reductions,
  ...optimizer,
};
