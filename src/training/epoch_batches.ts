/** The batches of an epoch. */
import type { SequenceClassifier } from '../models/sequence_classifier.ts';
import { batchesByLength, type EncodedText } from '../models/text_batches.ts';
import { CounterRandom, randomStream, shuffled } from './random.ts';

/** Pooling that counts every position would make a text's answer depend on what it is batched with. */
export const needsEqualLengths = (model: SequenceClassifier) => model.config.pooler.kind !== 'first';

/** Batches that are shuffled together before they are sorted by length: little padding, and neighbors that differ in each epoch. */
const batchesPerWindow = 64;

/** An epoch's batches, by the seed and the epoch. */
export function epochBatches(texts: readonly EncodedText[], sequences: number, seed: number, epoch: number, unpadded: boolean): number[][] {
  const random = new CounterRandom(seed, randomStream.fineTuning, epoch);
  const order = shuffled(
    texts.map((_, index) => index),
    random,
  );
  const result: number[][] = [];
  for (let start = 0; start < order.length; start += sequences * batchesPerWindow) {
    const members = order.slice(start, start + sequences * batchesPerWindow);
    result.push(...shuffled([...batchesByLength(texts, { members, sequences, unpadded })], random));
  }
  return result;
}
