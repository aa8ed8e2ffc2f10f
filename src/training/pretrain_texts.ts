/** The texts of a pretraining: those it is trained on, and those held out. */
import { InputError } from '../errors.ts';
import type { LabeledBatch } from '../models/language_model.ts';
import type { PredictionTask } from './objective.ts';
import type { PretrainOptions, PretrainSession } from './pretrain.ts';
import { heldOutSequences, packText, type SequenceState, SequenceStream } from './sequences.ts';

export function openStream(
  options: PretrainOptions,
  { packing: tokenizer, drawn: length }: PredictionTask,
  { onNotice, signal, ranks }: PretrainSession,
  state?: SequenceState,
): Promise<SequenceStream> {
  return SequenceStream.open({
    paths: options.corpus,
    tokenizer,
    length,
    seed: options.seed,
    poolSize: options.shuffle,
    heldOutEvery: options.heldOut ? 0 : options.heldOutEvery,
    state,
    group: ranks?.group,
    onNotice,
    signal,
  });
}

export async function heldOutBatches(
  options: PretrainOptions,
  { packing: tokenizer, drawn: length, heldOut }: PredictionTask,
  { onNotice, signal }: PretrainSession,
): Promise<LabeledBatch[]> {
  const { heldOutSequences: count, heldOutEvery } = options;
  const sequences = options.heldOut
    ? (await packText({ path: options.heldOut, tokenizer, length, count, onNotice, signal })).sequences
    : heldOutEvery > 0
      ? await heldOutSequences({ paths: options.corpus, tokenizer, length, count, heldOutEvery, signal })
      : new Int32Array(0);
  if (options.heldOut && sequences.length === 0)
    throw new InputError(`${options.heldOut}: is too short for one sequence of ${length} tokens`);
  return heldOut(sequences);
}
