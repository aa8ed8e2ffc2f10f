/**
 * Training in runs that can be stopped and resumed: from text, from a dense model, on labeled texts; and measuring the results. Node only.
 *
 * @module ultrafastbert/train
 */

export {
  type ConversionOptions,
  type ConversionResult,
  type ConversionSession,
  type ConversionStep,
  convert,
} from './convert/convert.ts';
export type { ConversionProgress } from './convert/convert_state.ts';
export { Group } from './distributed/group.ts';
export { joinGroup, MpiGroup } from './distributed/mpi_group.ts';
export { type Embed, evaluateRetrieval, type RetrievalOptions, type RetrievalScores } from './retrieval/evaluate.ts';
export type { TrainingProgress } from './tokenizer/merge_symbols.ts';
export { type BytePairsJson, type TrainBytePairsOptions, trainBytePairs } from './tokenizer/train_bpe.ts';
export { type SpecialTokens, type TrainWordPieceOptions, trainWordPiece } from './tokenizer/train_wordpiece.ts';
export type { TextStyleName, WordPieceJson } from './tokenizer/word_piece_json.ts';
export type { ClassificationReport, ClassScores } from './training/classification_report.ts';
export { type EvaluationOptions, evaluateMaskedLanguageModel, type MaskedLanguageModelScores } from './training/evaluate.ts';
export {
  type CausalEvaluationOptions,
  type CausalLanguageModelScores,
  evaluateCausalLanguageModel,
  type FrequencyScores,
} from './training/evaluate_causal.ts';
export type { EpochReport, FineTuningOptions, FineTuningProgress, FineTuningStep } from './training/fine_tune.ts';
export {
  type FineTuningResult,
  type FineTuningRunOptions,
  type FineTuningRunSession,
  runFineTuning as finetune,
} from './training/fine_tune_run.ts';
export type { LeafUse } from './training/leaf_use.ts';
export type { ObjectiveName } from './training/objective_names.ts';
export { type PretrainOptions, type PretrainResult, type PretrainSession, pretrain, type StepReport } from './training/pretrain.ts';
export type { RunSession } from './training/run.ts';
export type { RunProgress } from './training/run_state.ts';
export type { ScheduleName } from './training/schedules.ts';
