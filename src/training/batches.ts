import type { LabelledBatch } from '../models/masked_language_model.ts';
import { type MaskingOptions, maskSequence } from './masking.ts';
import { CounterRandom, randomStream } from './random.ts';
import type { SequenceStream } from './sequences.ts';

/** The next `count` micro-batches of `batch` sequences of `length`, masked by the seed and the number of each sequence. */
export async function nextBatches(
  stream: SequenceStream,
  shape: { count: number; batch: number; length: number },
  seed: number,
  masking: MaskingOptions,
): Promise<LabelledBatch[]> {
  const { count, batch, length } = shape;
  const batches: LabelledBatch[] = [];
  for (let i = 0; i < count; i++) {
    const ids = new Int32Array(batch * length);
    const labels = new Int32Array(batch * length);
    for (let row = 0; row < batch; row++) {
      const sequence = ids.subarray(row * length, (row + 1) * length);
      const random = new CounterRandom(seed, randomStream.masking, stream.position);
      await stream.next(sequence);
      maskSequence(sequence, labels.subarray(row * length, (row + 1) * length), random, masking);
    }
    batches.push({ batch, length, ids, labels });
  }
  return batches;
}

/** Fixed sequences [sequences, length] as batches, masked by the seed and the number of each sequence, for evaluation. The last batch may be smaller. */
export function evaluationBatches(
  sequences: Int32Array,
  shape: { batch: number; length: number },
  seed: number,
  masking: MaskingOptions,
): LabelledBatch[] {
  const { length } = shape;
  const batches: LabelledBatch[] = [];
  const total = sequences.length / length;
  for (let first = 0; first < total; first += shape.batch) {
    const batch = Math.min(shape.batch, total - first);
    const ids = sequences.slice(first * length, (first + batch) * length);
    const labels = new Int32Array(ids.length);
    for (let row = 0; row < batch; row++) {
      const random = new CounterRandom(seed, randomStream.evaluation, first + row);
      maskSequence(ids.subarray(row * length, (row + 1) * length), labels.subarray(row * length, (row + 1) * length), random, masking);
    }
    batches.push({ batch, length, ids, labels });
  }
  return batches;
}
