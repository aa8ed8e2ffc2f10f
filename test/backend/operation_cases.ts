import { activationCases } from './cases/activations.ts';
import { attentionCases } from './cases/attention.ts';
import type { OperationCase } from './cases/case.ts';
import { conditionalMatmulCases } from './cases/conditional_matmul.ts';
import { elementwiseCases } from './cases/elementwise.ts';
import { fffCases } from './cases/fff.ts';
import { embeddingCases } from './cases/gather.ts';
import { layerNormCases } from './cases/layer_norm.ts';
import { linearCases } from './cases/linear.ts';
import { lossCases } from './cases/loss.ts';
import { optimizerCases } from './cases/optimizer.ts';
import { packedAttentionCases } from './cases/packed_attention.ts';
import { poolCases } from './cases/pool.ts';
import { preparedCases } from './cases/prepared.ts';
import { reductionCases } from './cases/reductions.ts';
import { rmsNormCases } from './cases/rms_norm.ts';
import { rotaryCases } from './cases/rotary.ts';
import { stridedCopyCases } from './cases/strided_copy.ts';

/** Every case that every backend runs, in every mode (cases/case.ts). */
export const operationCases: readonly OperationCase[] = [
  ...elementwiseCases,
  ...activationCases,
  ...layerNormCases,
  ...rmsNormCases,
  ...rotaryCases,
  ...linearCases,
  ...attentionCases,
  ...packedAttentionCases,
  ...embeddingCases,
  ...fffCases,
  ...preparedCases,
  ...conditionalMatmulCases,
  ...stridedCopyCases,
  ...poolCases,
  ...lossCases,
  ...reductionCases,
  ...optimizerCases,
];
