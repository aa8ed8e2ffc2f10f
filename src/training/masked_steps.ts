import { ignoredLabel, type LabelledBatch, type MaskedLanguageModel } from '../models/masked_language_model.ts';
import type { Run } from '../nn/parameter.ts';
import type { StepResult, Trainer } from './trainer.ts';

/** One step of masked language modelling: the mean loss, nats, is over the predicted positions of all micro-batches. */
export function maskedStep(
  trainer: Trainer,
  model: MaskedLanguageModel,
  batches: readonly LabelledBatch[],
  learningRate: number,
): Promise<StepResult> {
  const predicted = batches.reduce((sum, { labels }) => sum + countPredicted(labels), 0);
  const passes = batches.map((batch) => (run: Run, scale: number) => model.lossAndGradients(run, batch, { scale }));
  return trainer.step(passes, predicted, learningRate);
}

/** Mean loss over the predicted positions of some batches, nats; nothing is changed. */
export async function maskedLoss(trainer: Trainer, model: MaskedLanguageModel, batches: readonly LabelledBatch[]): Promise<number> {
  let total = 0;
  let predicted = 0;
  for (const batch of batches) {
    const { losses } = await trainer.inference((run) => model.losses(run, batch));
    total += losses.reduce((sum, loss) => sum + loss, 0);
    predicted += losses.length;
  }
  return total / predicted;
}

function countPredicted(labels: Int32Array): number {
  let count = 0;
  for (const label of labels) if (label !== ignoredLabel) count++;
  return count;
}
