/**
 * BERT with fast feedforward networks. {@link pipeline} takes text and gives answers; {@link FastFeedforward} is the layer by itself;
 * {@link loadModel} and its companions open, make and save models; {@link createDevice} gives what all of them compute on.
 */
export { Arena } from './backend/arena.ts';
export { createDevice, type DeviceName, type DeviceOptions, deviceNotice } from './backend/create.ts';
export { Device } from './backend/device.ts';
export { type Dropout, dropoutKey } from './backend/dropout.ts';
export type { AttentionAttributes } from './backend/operations/attention.ts';
export type { StridedOperand } from './backend/operations/operation.ts';
export type { PoolKind } from './backend/operations/pool.ts';
export type { FileType } from './backend/operations/strided_copy.ts';
export { type Precision, PreparedWeight, type ProductPrecision } from './backend/prepared_weight.ts';
export { type DType, Tensor, type TypedArray } from './backend/tensor.ts';
export { FailureError, InputError, ShapeError } from './errors.ts';
export type { DownloadProgress, HubOptions } from './io/hub.ts';
export {
  createMaskedLanguageModel,
  createSequenceClassifier,
  type LoadOptions,
  loadMaskedLanguageModel,
  loadModel,
  type Model,
  saveCheckpoint,
} from './models/checkpoint.ts';
export { crammedBertConfig, type FeedforwardConfig, type ModelConfig, type ProblemType, type Task } from './models/config.ts';
export { configToJson, parseConfig } from './models/config_json.ts';
export { type Batch, Encoder, type EncoderActivations, type EncoderGradients } from './models/encoder.ts';
export type { HeadOutput } from './models/head_output.ts';
export { type LabeledBatch, MaskedLanguageModel, type MaskedLanguageModelLosses } from './models/masked_language_model.ts';
export { type ClassifiedBatch, SequenceClassifier } from './models/sequence_classifier.ts';
export { FastFeedforward, type FastFeedforwardActivations, type FastFeedforwardShape } from './nn/fast_feedforward.ts';
export type { Target } from './nn/layer.ts';
export type { Context, NamedArray, Parameter } from './nn/parameter.ts';
export type {
  FeatureExtractionOptions,
  FeatureExtractionPipeline,
  Features,
} from './pipelines/feature_extraction.ts';
export type { FillMaskAnswer, FillMaskAnswerFor, FillMaskCandidate, FillMaskOptions, FillMaskPipeline } from './pipelines/fill_mask.ts';
export { type PipelineOptions, type Pipelines, pipeline } from './pipelines/pipeline.ts';
export type { Pooling, Poolings } from './pipelines/pooling.ts';
export { type EmbeddingRanges, quantizeEmbeddings } from './pipelines/quantization.ts';
export type { PromptOptions, Prompts, SentenceModules, TextSettings } from './pipelines/sentence_transformer.ts';
export type {
  ClassificationInput,
  TextClass,
  TextClassificationOptions,
  TextClassificationPipeline,
} from './pipelines/text_classification.ts';
export type { RefusedCallback } from './pipelines/text_pipeline.ts';
export type { RankedDocument, TextRankingOptions, TextRankingPipeline } from './pipelines/text_ranking.ts';
export type { Activation, VectorModule } from './pipelines/vector_modules.ts';
export type { CharacterLoss } from './tokenizer/character_loss.ts';
export { type EncodeOptions, type Encoding, type SpecialTokenName, Tokenizer, type TokenizerSettings } from './tokenizer/tokenizer.ts';
export { loadTokenizer } from './tokenizer/tokenizer_config.ts';
export { type SpecialTokens, type TrainingProgress, type TrainWordPieceOptions, trainWordPiece } from './tokenizer/train_wordpiece.ts';
export type { TruncationSide } from './tokenizer/truncate.ts';
export type { TextStyleName, WordPieceJson } from './tokenizer/word_piece_json.ts';
export { AdamW, type AdamWOptions, type OptimizedParameter, startBranchesAlike } from './training/optimizer.ts';
