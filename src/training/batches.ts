import type { LabeledBatch } from '../models/language_model.ts';
import { type MaskingOptions, maskingCounts, maskSequence } from './masking.ts';
import { CounterRandom, randomStream } from './random.ts';
import type { SequenceStream } from './sequences.ts';

/** A micro-batch of a step; of one that another rank takes, how many positions it predicts. */
export type StepBatch = LabeledBatch | { predicted: number };

/** Tokens. Of so few none that is predicted stays as it is: the recipe's tenth rounds to nothing. */
const shortestPiece = 8;

/** Into how many pieces of equal length a sequence may be cut: halved, and halved again. [1] if it cannot be. */
export function possibleCuts(length: number): number[] {
  const cuts = [1];
  for (let size = length / 2; Number.isInteger(size) && size >= shortestPiece; size /= 2) cuts.push(length / size);
  return cuts;
}

/**
 * The next `count` micro-batches of `batch` sequences of `length`, masked by the seed and the number of each sequence.
 *
 * `variedShare` of the micro-batches are what a model meets outside of pretraining: their sequences are whole or cut into shorter ones, one
 * way as often as another, and of each any number of positions up to half is predicted, one perhaps. A model that only ever sees full sequences, a quarter of them masked,
 * comes to rely on both (docs/decisions/26-varied-masking.md); BERT's own pretraining shortens a tenth of its sequences.
 */
export async function nextBatches(
  stream: SequenceStream,
  shape: { count: number; batch: number; length: number; variedShare?: number },
  seed: number,
  masking: MaskingOptions,
): Promise<LabeledBatch[]>;
/** Of which only the micro-batches from `first` to `end` are masked: of those of other ranks, only how much they predict is of interest. */
export async function nextBatches(
  stream: SequenceStream,
  shape: { count: number; batch: number; length: number; variedShare?: number },
  seed: number,
  masking: MaskingOptions,
  own: { first: number; end: number },
): Promise<StepBatch[]>;
export async function nextBatches(
  stream: SequenceStream,
  shape: { count: number; batch: number; length: number; variedShare?: number },
  seed: number,
  masking: MaskingOptions,
  { first, end } = { first: 0, end: shape.count },
): Promise<StepBatch[]> {
  const { count, batch, length, variedShare = 0 } = shape;
  const cuts = possibleCuts(length);
  const batches: StepBatch[] = [];
  for (let i = 0; i < count; i++) {
    const isOwn = first <= i && i < end;
    let predicted = 0;
    const ids = new Int32Array(batch * length);
    const labels = new Int32Array(batch * length);
    const forms = new CounterRandom(seed, randomStream.forms, stream.position);
    const varied = forms.below(2 ** 20) < variedShare * 2 ** 20;
    const pieces = varied ? cuts[forms.below(cuts.length)] : 1;
    const size = length / pieces;
    for (let row = 0; row < batch; row++) {
      const random = new CounterRandom(seed, randomStream.masking, stream.position);
      await stream.next(ids.subarray(row * length, (row + 1) * length));
      for (let from = row * length; from < (row + 1) * length; from += size) {
        const share = varied ? (1 + forms.below(Math.floor(size / 2))) / size : masking.share;
        if (isOwn) maskSequence(ids.subarray(from, from + size), labels.subarray(from, from + size), random, { ...masking, share });
        else predicted += maskingCounts(size, share).predicted;
      }
    }
    batches.push(isOwn ? { batch: batch * pieces, length: size, ids, labels } : { predicted });
  }
  return batches;
}

/** Fixed sequences [sequences, length] as batches, masked by the seed and the number of each sequence, for evaluation. The last batch may be smaller. */
export function evaluationBatches(
  sequences: Int32Array,
  shape: { batch: number; length: number },
  seed: number,
  masking: MaskingOptions,
): LabeledBatch[] {
  const { length } = shape;
  const batches: LabeledBatch[] = [];
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

/**
 * Sequences of one token more than `length`, [sequences, length + 1], as batches in which each token is to be predicted of those before it. The last
 * batch may be smaller. `begin`: if given, a document begins with each such token, and no token sees what is before its document.
 */
export function nextTokenBatches(
  sequences: Int32Array,
  { batch: most, length, begin }: { batch: number; length: number; begin?: number },
): LabeledBatch[] {
  const batches: LabeledBatch[] = [];
  const total = sequences.length / (length + 1);
  for (let first = 0; first < total; first += most) {
    const batch = Math.min(most, total - first);
    const [ids, labels] = [new Int32Array(batch * length), new Int32Array(batch * length)];
    for (let row = 0; row < batch; row++) {
      const start = (first + row) * (length + 1);
      ids.set(sequences.subarray(start, start + length), row * length);
      labels.set(sequences.subarray(start + 1, start + 1 + length), row * length);
    }
    batches.push({ batch, length, ids, labels, documents: begin === undefined ? undefined : documentsOf(ids, length, begin) });
  }
  return batches;
}

/** How many tokens each document has, of sequences of `length` one behind the other: one begins with each sequence and with each token `begin`. */
function documentsOf(ids: Int32Array, length: number, begin: number): Int32Array {
  const documents: number[] = [];
  ids.forEach((id, index) => {
    if (index % length === 0 || id === begin) documents.push(0);
    documents[documents.length - 1]++;
  });
  return Int32Array.from(documents);
}

/** The next `count` micro-batches of `batch` sequences of `length`, each token to be predicted; the stream's are a token longer. */
export async function drawNextTokenBatches(
  stream: SequenceStream,
  { count, batch, length, begin }: { count: number; batch: number; length: number; begin?: number },
): Promise<LabeledBatch[]> {
  const sequences = new Int32Array(count * batch * (length + 1));
  for (let i = 0; i < count * batch; i++) await stream.next(sequences.subarray(i * (length + 1), (i + 1) * (length + 1)));
  return nextTokenBatches(sequences, { batch, length, begin });
}
