/** What run/options.json may hold of a fine-tuning. */
import * as v from 'valibot';
import { productPrecisions } from '../backend/prepared_weight.ts';
import { countSchema, pathSchema, positiveCountSchema, positiveSchema } from '../io/schemas.ts';
import type { FineTuningRunOptions } from './fine_tune_run.ts';

/** Other keys are those of other versions. */
export const fineTuningOptionsSchema: v.GenericSchema<unknown, FineTuningRunOptions> = v.looseObject({
  model: pathSchema,
  train: pathSchema,
  validation: v.optional(pathSchema),
  epochs: positiveCountSchema,
  batch: positiveCountSchema,
  accumulate: v.optional(positiveCountSchema),
  precision: v.optional(v.picklist(productPrecisions)),
  learningRate: positiveSchema,
  length: positiveCountSchema,
  seed: countSchema,
  patience: v.optional(positiveCountSchema),
  metric: v.optional(v.string()),
  dtype: v.picklist(['F32', 'BF16']),
});
