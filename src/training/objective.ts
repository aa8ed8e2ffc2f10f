/** What a pretraining predicts. */
import type { Device } from '../backend/device.ts';
import type { CausalLanguageModel } from '../models/causal_language_model.ts';
import type { ModelConfig } from '../models/config.ts';
import type { LabeledBatch } from '../models/language_model.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { StepBatch } from './batches.ts';
import { causalObjective } from './causal_objective.ts';
import { maskedObjective } from './masked_objective.ts';
import type { PretrainOptions } from './pretrain.ts';
import type { BulkTokenizer, SequenceStream } from './sequences.ts';

/** A step's shape: `count` micro-batches of `batch` sequences of `length`. */
export interface StepShape {
  count: number;
  batch: number;
  length: number;
  variedShare?: number;
  /** The micro-batches, from `first` to `end`, that are this rank's; absent: all of them. */
  own?: { first: number; end: number };
}

/** A model to be trained, and how texts become its batches. */
export interface PredictionTask {
  model: MaskedLanguageModel | CausalLanguageModel;
  /** How texts become tokens. */
  packing: BulkTokenizer;
  /** Tokens of a sequence as it is drawn of the corpus. */
  drawn: number;
  /** The next step's micro-batches. */
  next(stream: SequenceStream, shape: StepShape): Promise<StepBatch[]>;
  /** Drawn sequences [sequences, drawn] as batches for the held-out loss. */
  heldOut(sequences: Int32Array): LabeledBatch[];
}

/** Something that is predicted. */
export interface Objective {
  /** The configuration of a new model. @throws InputError if it is none that can be */
  config(tokenizer: { vocabularySize: number; padId?: number; bosId?: number; eosId?: number }): ModelConfig;
  /** A tokenizer.json of the corpus. */
  trainTokenizer(session: TokenizerTraining): Promise<unknown>;
  /** @throws InputError if a tokenizer lacks a token that is needed */
  checkTokenizer(tokenizer: Tokenizer): void;
  /** A new model, or the one in a folder. @throws InputError if that is no model of the kind, or does not take the run's sequences */
  start(
    folder: string | undefined,
    tokenizer: Tokenizer,
    session: { device: Device; onNotice?(line: string): void },
  ): Promise<PredictionTask>;
}

export interface TokenizerTraining {
  onNotice?(line: string): void;
  signal?: AbortSignal;
}

export function objectiveOf(options: PretrainOptions): Objective {
  return options.objective === 'causal' ? causalObjective(options) : maskedObjective(options);
}
