/** What is kept of a fine-tuning, to go on with when it was stopped. */

import * as v from 'valibot';
import { alone, type Group } from '../distributed/group.ts';
import { InputError } from '../errors.ts';
import { type FineTuningProgress, fineTuningProgressSchema } from './fine_tune.ts';
import type { AdamW } from './optimizer.ts';
import { hasState, loadState, saveState } from './run_state.ts';

export class FineTuningState {
  /** `fingerprint` tells the examples from others; `changed`: what to tell the user if the state is of other examples. */
  constructor(
    private readonly folder: string,
    private readonly options: { fingerprint: number; changed: string; group?: Group },
  ) {}

  exists(): Promise<boolean> {
    return (this.options.group ?? alone).fromFirst('whether there is a state', () => hasState(this.folder));
  }

  /** Puts weights and moments back. @throws InputError if it is damaged, does not fit the model, or is of other examples */
  async restore(optimizer: AdamW): Promise<FineTuningProgress> {
    const wanted = { records: { progress: fineTuningProgressSchema, examples: v.number() } };
    const { records } = await loadState(this.folder, optimizer, wanted, this.options.group);
    if (records.examples !== this.options.fingerprint) throw new InputError(this.options.changed);
    return records.progress;
  }

  async save(progress: FineTuningProgress, optimizer: AdamW): Promise<void> {
    const { fingerprint: examples, group } = this.options;
    await saveState(this.folder, optimizer, { records: { progress, examples }, integers: {} }, group);
  }
}
