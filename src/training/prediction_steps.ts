import { ignoredLabel, type LabeledBatch, type LanguageModel } from '../models/language_model.ts';
import type { Context } from '../nn/parameter.ts';
import type { StepBatch } from './batches.ts';
import { LeafCounts, type LeafUse, watchLeaves } from './leaf_use.ts';
import type { StepResult, Trainer } from './trainer.ts';

/** One step of predicting tokens: the mean loss, nats, is over the predicted positions of all micro-batches. `balance` as in Trainer.step. */
export function predictionStep(
  trainer: Trainer,
  model: LanguageModel,
  batches: readonly StepBatch[],
  learningRate: number,
  balance: number,
): Promise<StepResult> {
  const predicted = batches.reduce((sum, batch) => sum + ('labels' in batch ? countPredicted(batch.labels) : batch.predicted), 0);
  const passes = batches.map((batch) =>
    'labels' in batch ? (context: Context, scale: number) => model.lossAndGradients(context, batch, { scale }) : undefined,
  );
  return trainer.step(passes, predicted, learningRate, balance);
}

/** Mean loss over the predicted positions of some batches, nats, and where their tokens went; nothing is changed. */
export async function predictionLoss(
  trainer: Trainer,
  model: LanguageModel,
  batches: readonly LabeledBatch[],
): Promise<{ loss: number; layers: LeafUse[] }> {
  const counts = new LeafCounts(model.config.feedforward);
  let total = 0;
  let predicted = 0;
  for (const batch of batches) {
    const [{ losses }, leaves] = await trainer.inference((context) => watchLeaves(context, (watched) => model.losses(watched, batch)));
    counts.add(leaves);
    total += losses.reduce((sum, loss) => sum + loss, 0);
    predicted += losses.length;
  }
  return { loss: total / predicted, layers: counts.uses };
}

/** Positions that are predicted. */
export function countPredicted(labels: Int32Array): number {
  let count = 0;
  for (const label of labels) if (label !== ignoredLabel) count++;
  return count;
}
