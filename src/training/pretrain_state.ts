/** What is kept of a pretraining, to go on with when it was stopped. */

import * as v from 'valibot';
import { countSchema } from '../io/schemas.ts';
import { filePositionSchema } from './documents.ts';
import type { AdamW } from './optimizer.ts';
import { loadState, type RunProgress, runProgressSchema, saveState } from './run_state.ts';
import type { SequenceState } from './sequences.ts';

/** The place in the corpus goes beside the weights: tokens that wait and the shuffling pool as tensors, the rest as records. */
export function savePretraining(out: string, optimizer: AdamW, state: SequenceState, progress: RunProgress): Promise<void> {
  const { pool, pending, files, drawn } = state;
  return saveState(out, optimizer, {
    records: { progress, stream: { files, drawn } },
    integers: { 'stream.pool': pool, 'stream.pending': pending },
  });
}

/** `vocabularySize`: of the model, whose tokens wait. */
export async function loadPretraining(
  out: string,
  optimizer: AdamW,
  vocabularySize: number,
): Promise<{ stream: SequenceState; progress: RunProgress }> {
  const { records, integers } = await loadState(out, optimizer, {
    records: { progress: runProgressSchema, stream: v.object({ files: v.array(filePositionSchema), drawn: countSchema }) },
    integers: { names: ['stream.pool', 'stream.pending'], below: vocabularySize },
  });
  const { progress, stream } = records;
  optimizer.steps = progress.step;
  return { progress, stream: { ...stream, pool: integers['stream.pool'], pending: integers['stream.pending'] } };
}
