/** What is kept of a conversion, to go on with when it was stopped. */

import * as v from 'valibot';
import type { Group } from '../distributed/group.ts';
import { countSchema, secondsSchema } from '../io/schemas.ts';
import type { ModelConfig } from '../models/config.ts';
import { filePositionSchema } from '../training/documents.ts';
import type { AdamW } from '../training/optimizer.ts';
import { loadState, saveState } from '../training/run_state.ts';
import { agreementSchema } from './agreement.ts';
import type { Centering } from './centering.ts';
import type { TextState } from './texts.ts';

const progressSchema = v.object({
  step: countSchema,
  /** Tokens of the fit, and of the training after it. */
  fitted: countSchema,
  trained: countSchema,
  /** Over all sessions. */
  seconds: secondsSchema,
  history: v.array(v.object({ ...agreementSchema.entries, fitted: countSchema, trained: countSchema, seconds: secondsSchema })),
});

/** How far a conversion has come. */
export type ConversionProgress = v.InferOutput<typeof progressSchema>;

/** Means go with the biases that were trained around them. */
export function saveConversion(
  out: string,
  optimizer: AdamW,
  { texts, means, progress }: { texts: TextState; means: Centering['means']; progress: ConversionProgress },
  group: Group,
): Promise<void> {
  const { waiting, ...place } = texts;
  const kept = { records: { progress, texts: place, means }, integers: { 'texts.waiting': waiting } };
  return saveState(out, optimizer, kept, group);
}

export async function loadConversion(
  out: string,
  optimizer: AdamW,
  centering: Centering,
  model: Pick<ModelConfig, 'vocabSize' | 'maxPositionEmbeddings'>,
  group: Group,
): Promise<{ progress: ConversionProgress; texts: TextState }> {
  const wanted = {
    records: {
      progress: progressSchema,
      texts: v.object({ files: v.array(filePositionSchema), texts: countSchema, batches: countSchema }),
      means: v.pipe(
        v.array(v.nullable(v.array(v.number()))),
        v.check((means) => `${means.map((mean) => mean?.length)}` === `${centering.means.map((mean) => mean?.length)}`, 'other layers'),
      ),
    },
    // Tokens, and how many there are of each text.
    integers: { names: ['texts.waiting'], below: Math.max(model.vocabSize, model.maxPositionEmbeddings + 1) },
  } as const;
  const { records, integers } = await loadState(out, optimizer, wanted, group);
  const { progress } = records;
  optimizer.steps = progress.step;
  centering.means = records.means;
  return { progress, texts: { ...records.texts, waiting: integers['texts.waiting'] } };
}
