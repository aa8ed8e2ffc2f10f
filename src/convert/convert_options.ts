/** What run/options.json may hold of a conversion. */
import * as v from 'valibot';
import { type PoolKind, poolKinds } from '../backend/operations/pool.ts';
import { productPrecisions } from '../backend/prepared_weight.ts';
import { amountSchema, countSchema, pathSchema, positiveCountSchema, positiveSchema } from '../io/schemas.ts';
import type { ConversionOptions } from './convert.ts';

const feedforwardSchema = v.variant('kind', [
  v.object({ kind: v.literal('dense'), neurons: positiveCountSchema }),
  v.looseObject({
    kind: v.literal('fff'),
    trees: positiveCountSchema,
    depth: countSchema,
    leafWidth: v.optional(positiveCountSchema),
    alwaysOn: v.optional(countSchema),
  }),
  v.object({ kind: v.literal('none') }),
]);

/** Other keys are those of other versions. */
export const conversionOptionsSchema: v.GenericSchema<unknown, ConversionOptions> = v.looseObject({
  model: pathSchema,
  corpus: v.pipe(v.array(pathSchema), v.minLength(1)),
  feedforward: feedforwardSchema,
  layers: v.optional(positiveCountSchema),
  fitTokens: countSchema,
  tokens: countSchema,
  batch: positiveCountSchema,
  length: positiveCountSchema,
  accumulate: v.optional(positiveCountSchema),
  precision: v.optional(v.picklist(productPrecisions)),
  fitLearningRate: positiveSchema,
  learningRate: positiveSchema,
  trainEmbeddings: v.boolean(),
  pooling: v.optional(v.custom<PoolKind>((kind) => poolKinds.includes(kind as PoolKind), 'is no way of pooling')),
  lowerCase: v.optional(v.boolean()),
  answerWeight: positiveSchema,
  fitBalance: amountSchema,
  balance: amountSchema,
  branchRate: v.optional(amountSchema),
  weightDecay: v.optional(amountSchema),
  seed: countSchema,
  heldOutEvery: positiveCountSchema,
  heldOutTexts: positiveCountSchema,
  dtype: v.picklist(['F32', 'BF16']),
});
