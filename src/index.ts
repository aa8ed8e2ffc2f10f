/**
 * BERT with fast feedforward networks. {@link pipeline} takes text and gives answers; {@link FastFeedforward} is the layer by itself;
 * {@link loadModel} and its companions open, make and save models; {@link createBackend} gives what all of them compute on.
 */
export { Arena } from './backend/arena.ts';
export {
  type AttentionArguments,
  type AttentionOperand,
  Backend,
  type Dropout,
  dropoutKey,
  type FileType,
  type PoolKind,
} from './backend/backend.ts';
export { backendNotice, createBackend } from './backend/create.ts';
export { type Precision, PreparedWeight } from './backend/prepared_weight.ts';
export { type DType, Tensor, type TypedArray } from './backend/tensor.ts';
export { FailureError, InputError, ShapeError } from './errors.ts';
export type { DownloadProgress, HubOptions } from './io/hub.ts';
export { createMaskedLanguageModel, loadMaskedLanguageModel, loadModel, saveCheckpoint } from './models/checkpoint.ts';
export { crammedBertConfig, type ModelConfig } from './models/config.ts';
export { configToJson, parseConfig } from './models/config_json.ts';
export { type Batch, Encoder } from './models/encoder.ts';
export { type LabelledBatch, MaskedLanguageModel } from './models/masked_language_model.ts';
export { SequenceClassifier } from './models/sequence_classifier.ts';
export { FastFeedforward, type FastFeedforwardActivations, type FastFeedforwardShape } from './nn/fast_feedforward.ts';
export type { Parameter, Run } from './nn/parameter.ts';
export type {
  FeatureExtractionOptions,
  FeatureExtractionPipeline,
  Features,
} from './pipelines/feature_extraction.ts';
export type { FillMaskAnswer, FillMaskCandidate, FillMaskOptions, FillMaskPipeline } from './pipelines/fill_mask.ts';
export { type PipelineOptions, type Pipelines, pipeline } from './pipelines/pipeline.ts';
export type {
  ClassificationInput,
  TextClass,
  TextClassificationOptions,
  TextClassificationPipeline,
} from './pipelines/text_classification.ts';
export { type Encoding, Tokenizer } from './tokenizer/tokenizer.ts';
export { type TrainWordPieceOptions, trainWordPiece } from './tokenizer/train_wordpiece.ts';
export { AdamW, type AdamWOptions, startBranchesAlike } from './training/optimizer.ts';
