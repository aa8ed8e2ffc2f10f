/** What a classifier says of texts, and how it is scored. */
import { FailureError, overflow } from '../errors.ts';
import type { SequenceClassifier } from '../models/sequence_classifier.ts';
import { batchesByLength, batchOf, type EncodedText } from '../models/text_batches.ts';
import type { Context } from '../nn/parameter.ts';
import type { CharacterLoss, LossNotice } from '../tokenizer/character_loss.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { needsEqualLengths } from './epoch_batches.ts';
import { LeafCounts, type LeafUse, watchLeaves } from './leaf_use.ts';
import { type Scores, scoresOf } from './metrics.ts';
import { mean } from './statistics.ts';
import type { Trainer } from './trainer.ts';

/**
 * Texts as the model takes them, and how many were cut to `length` tokens. Lets timers fire in between.
 * @throws the signal's reason
 */
export async function encodeTexts(
  texts: readonly { text: string; pair?: string }[],
  tokenizer: Tokenizer,
  length: number,
  { losses, signal }: { losses?: LossNotice; signal?: AbortSignal } = {},
): Promise<{ encoded: EncodedText[]; cut: number }> {
  const encoded: EncodedText[] = [];
  const lossOf: { loss: CharacterLoss }[] = [];
  let cut = 0;
  for (const [index, { text, pair }] of texts.entries()) {
    signal?.throwIfAborted();
    const { ids, typeIds, truncated, loss } = tokenizer.encode(text, { pair, maxLength: length });
    lossOf.push({ loss });
    encoded.push({ ids: Int32Array.from(ids), typeIds: Int32Array.from(typeIds) });
    if (truncated > 0) cut++;
    if (index % 512 === 511) await new Promise((resolve) => setTimeout(resolve));
  }
  losses?.of(lossOf);
  return { encoded, cut };
}

/**
 * Logits [texts, labels] of a classifier, in the order given. `counts` is told where tokens went.
 * @throws FailureError if one is not finite
 */
export async function logitsOf(
  trainer: Pick<Trainer, 'inference'>,
  model: SequenceClassifier,
  encoded: readonly EncodedText[],
  { signal, counts }: { signal?: AbortSignal; counts?: LeafCounts } = {},
): Promise<Float32Array> {
  const all = new Float32Array(encoded.length * model.labels);
  for (const members of batchesByLength(encoded, { unpadded: needsEqualLengths(model) })) {
    signal?.throwIfAborted();
    const batch = batchOf(encoded, members);
    const read = (context: Context) => context.device.read(model.logits(context, batch));
    const logits = await trainer.inference(async (context) => {
      if (!counts) return read(context);
      const [values, leaves] = await watchLeaves(context, read);
      counts.add(leaves, batch.attentionMask);
      return values;
    });
    members.forEach((index, row) => {
      const own = logits.subarray(row * model.labels, (row + 1) * model.labels);
      if (!own.every(Number.isFinite))
        throw new FailureError(`example ${index + 1} of those scored: the model's logits are not finite: ${overflow}`);
      all.set(own, index * model.labels);
    });
  }
  return all;
}

/** What logits [texts, labels] say of each text: the most probable class, -1 where none is finite, or the number where there is one label. */
export function predictionsOf(logits: Float32Array, labels: number): number[] {
  if (labels === 1) return Array.from(logits);
  return rows(logits, labels).map((own) => own.indexOf(own.reduce((a, b) => Math.max(a, b))));
}

/** The mean loss of logits [texts, labels]: cross-entropy in nats, or with one label the squared error. */
export function lossOf(logits: Float32Array, labels: number, truth: readonly number[]): number {
  if (labels === 1) return mean(truth.map((score, index) => (logits[index] - score) ** 2));
  return mean(
    rows(logits, labels).map((own, index) => {
      const largest = own.reduce((a, b) => Math.max(a, b));
      return Math.log(own.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)) + largest - own[truth[index]];
    }),
  );
}

const rows = (values: Float32Array, width: number) =>
  Array.from({ length: values.length / width }, (_, row) => values.subarray(row * width, (row + 1) * width));

/**
 * What a classifier says of labeled examples, its scores, its mean loss, and how their tokens spread over its leaves.
 * @throws FailureError saying `notFinite` if a logit is not finite
 */
export async function scoreClassifier(
  trainer: Pick<Trainer, 'inference'>,
  model: SequenceClassifier,
  examples: readonly (EncodedText & { label: number })[],
  { notFinite }: { notFinite: string },
): Promise<{ predictions: number[]; scores: Scores; loss: number; layers: LeafUse[] }> {
  const counts = new LeafCounts(model.config.feedforward);
  const logits = await logitsOf(trainer, model, examples, { counts });
  if (!logits.every(Number.isFinite)) throw new FailureError(notFinite);
  const truth = examples.map(({ label }) => label);
  const predictions = predictionsOf(logits, model.labels);
  return {
    predictions,
    scores: scoresOf(model.labels, predictions, truth),
    loss: lossOf(logits, model.labels, truth),
    layers: counts.uses,
  };
}
