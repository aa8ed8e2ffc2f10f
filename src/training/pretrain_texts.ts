/** The texts of a pretraining: those it is trained on, and those held out. */
import { InputError } from '../errors.ts';
import type { LabeledBatch } from '../models/language_model.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { evaluationBatches } from './batches.ts';
import type { MaskingOptions } from './masking.ts';
import type { PretrainOptions, PretrainSession } from './pretrain.ts';
import { heldOutSequences, packText, type SequenceState, SequenceStream } from './sequences.ts';

export function openStream(
  options: PretrainOptions,
  tokenizer: Tokenizer,
  { onNotice, signal }: PretrainSession,
  state?: SequenceState,
): Promise<SequenceStream> {
  return SequenceStream.open({
    paths: options.corpus,
    tokenizer,
    length: options.length,
    seed: options.seed,
    poolSize: options.shuffle,
    heldOutEvery: options.heldOut ? 0 : options.heldOutEvery,
    state,
    onNotice,
    signal,
  });
}

export async function heldOutBatches(
  options: PretrainOptions,
  tokenizer: Tokenizer,
  masking: MaskingOptions,
  { onNotice, signal }: PretrainSession,
): Promise<LabeledBatch[]> {
  const { length, batch, heldOutSequences: count, heldOutEvery } = options;
  const sequences = options.heldOut
    ? (await packText({ path: options.heldOut, tokenizer, length, count, onNotice, signal })).sequences
    : heldOutEvery > 0
      ? await heldOutSequences({ paths: options.corpus, tokenizer, length, count, heldOutEvery, signal })
      : new Int32Array(0);
  if (options.heldOut && sequences.length === 0)
    throw new InputError(`${options.heldOut}: is too short for one sequence of ${length} tokens`);
  return evaluationBatches(sequences, { batch, length }, options.seed, masking);
}
