/** What run/options.json may hold of a pretraining. */
import * as v from 'valibot';
import { productPrecisions } from '../backend/prepared_weight.ts';
import { amountSchema, countSchema, pathSchema, positiveCountSchema, positiveSchema } from '../io/schemas.ts';
import { objectiveNames } from './objective_names.ts';
import type { PretrainOptions } from './pretrain.ts';
import { scheduleNames } from './schedules.ts';

/** Other keys are those of other versions. */
export const pretrainOptionsSchema: v.GenericSchema<unknown, PretrainOptions> = v.pipe(
  v.looseObject({
    objective: v.optional(v.picklist(objectiveNames)),
    model: v.optional(pathSchema),
    corpus: v.pipe(v.array(pathSchema), v.minLength(1)),
    tokenizer: v.optional(pathSchema),
    vocabulary: positiveCountSchema,
    layers: positiveCountSchema,
    hidden: positiveCountSchema,
    heads: positiveCountSchema,
    feedforward: v.picklist(['fff', 'dense', 'none']),
    trees: positiveCountSchema,
    depth: countSchema,
    leafWidth: v.optional(positiveCountSchema),
    alwaysOn: v.optional(countSchema),
    intermediate: positiveCountSchema,
    length: positiveCountSchema,
    batch: positiveCountSchema,
    accumulate: positiveCountSchema,
    variedShare: v.optional(v.pipe(amountSchema, v.maxValue(1))),
    withinDocuments: v.optional(v.boolean()),
    tokens: v.optional(positiveCountSchema),
    minutes: v.optional(positiveSchema),
    startedWith: v.optional(v.object({ tokens: v.optional(positiveCountSchema), minutes: v.optional(positiveSchema) })),
    balance: v.optional(amountSchema),
    precision: v.optional(v.picklist(productPrecisions)),
    learningRate: positiveSchema,
    branchRate: v.optional(amountSchema),
    schedule: v.picklist(scheduleNames),
    seed: countSchema,
    heldOut: v.optional(pathSchema),
    heldOutEvery: countSchema,
    heldOutSequences: positiveCountSchema,
    shuffle: positiveCountSchema,
    dtype: v.picklist(['F32', 'BF16']),
  }),
  v.check(({ tokens, minutes }) => (tokens === undefined) !== (minutes === undefined), "has not one of 'tokens' and 'minutes'"),
);
