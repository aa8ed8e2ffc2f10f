/** What is kept of a pretraining, to go on with when it was stopped. */

import * as v from 'valibot';
import type { Group } from '../distributed/group.ts';
import { countSchema } from '../io/schemas.ts';
import { filePositionSchema } from './documents.ts';
import type { AdamW } from './optimizer.ts';
import { loadState, type RunProgress, runProgressSchema, saveState } from './run_state.ts';
import type { SequenceState } from './sequences.ts';

/** The place in the corpus goes beside the weights: tokens that wait and the shuffling pool as tensors, the rest as records. */
export function savePretraining(out: string, optimizer: AdamW, state: SequenceState, progress: RunProgress, group: Group): Promise<void> {
  const { pool, pending, files, drawn } = state;
  const kept = {
    records: { progress, stream: { files, drawn } },
    integers: { 'stream.pool': pool, 'stream.pending': pending },
  };
  return saveState(out, optimizer, kept, group);
}

/** `vocabularySize`: of the model, whose tokens wait. */
export async function loadPretraining(
  out: string,
  optimizer: AdamW,
  vocabularySize: number,
  group: Group,
): Promise<{ stream: SequenceState; progress: RunProgress }> {
  const wanted = {
    records: { progress: runProgressSchema, stream: v.object({ files: v.array(filePositionSchema), drawn: countSchema }) },
    integers: { names: ['stream.pool', 'stream.pending'], below: vocabularySize },
  } as const;
  const { records, integers } = await loadState(out, optimizer, wanted, group);
  const { progress, stream } = records;
  optimizer.steps = progress.step;
  return { progress, stream: { ...stream, pool: integers['stream.pool'], pending: integers['stream.pending'] } };
}
