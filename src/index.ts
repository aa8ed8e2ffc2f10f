/**
 * BERT with fast feedforward networks: {@link pipeline} takes text and gives answers. What it is made of is in `ultrafastbert/nn`, how models
 * are trained in `ultrafastbert/train`.
 *
 * @module ultrafastbert
 */
export { DeviceLostError, FailureError, InputError, ShapeError } from './errors.ts';
export type { Chat, ChatMessage } from './generation/chat.ts';
export type { SamplingOptions } from './generation/sampling.ts';
export type { GenerationSettings } from './generation/settings.ts';
export type { FinishReason } from './generation/text_writer.ts';
export type { DownloadProgress, HubOptions } from './io/hub.ts';
export type { AnswerOptions, Batching, TextTimes } from './models/batch_queue.ts';
export type { BatchLimits } from './models/text_batches.ts';
export { Callable } from './pipelines/callable.ts';
export {
  type FeatureExtractionOptions,
  FeatureExtractionPipeline,
  type FeatureInput,
  type Features,
} from './pipelines/feature_extraction.ts';
export {
  type FillMaskAnswer,
  type FillMaskAnswerFor,
  type FillMaskCandidate,
  type FillMaskOptions,
  FillMaskPipeline,
} from './pipelines/fill_mask.ts';
export { type PipelineOptions, type Pipelines, pipeline } from './pipelines/pipeline.ts';
export type { Pooling, PoolingName, Poolings } from './pipelines/pooling.ts';
export { type EmbeddingRanges, quantizeEmbeddings } from './pipelines/quantization.ts';
export type { PromptOptions, Prompts, SentenceModules, TextSettings } from './pipelines/sentence_transformer.ts';
export {
  type ClassificationInput,
  type ScoreFunction,
  type TextClass,
  type TextClassificationOptions,
  TextClassificationPipeline,
} from './pipelines/text_classification.ts';
export {
  type GeneratedText,
  type GenerationEnd,
  type GenerationPrompt,
  type StreamOptions,
  type TextGenerationOptions,
  TextGenerationPipeline,
} from './pipelines/text_generation.ts';
export { type CallTiming, type RefusedCallback, TextPipeline, type TimingCallback } from './pipelines/text_pipeline.ts';
export { type RankedDocument, type TextRankingOptions, TextRankingPipeline } from './pipelines/text_ranking.ts';
export type { TruncationOptions } from './pipelines/truncation.ts';
export type { Activation, VectorModule } from './pipelines/vector_modules.ts';
export type { CharacterLoss } from './tokenizer/character_loss.ts';
export type { TextStream } from './tokenizer/text_stream.ts';
export { type EncodeOptions, type Encoding, type SpecialTokenName, Tokenizer, type TokenizerSettings } from './tokenizer/tokenizer.ts';
export { loadTokenizer } from './tokenizer/tokenizer_config.ts';
export type { TruncationSide } from './tokenizer/truncate.ts';
