/**
 * What models are made of: {@link FastFeedforward} is the layer by itself; {@link loadModel} and its companions open, make and save models;
 * {@link createDevice} gives what all of them compute on; {@link Trainer} trains them step by step.
 *
 * @module ultrafastbert/nn
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
export { type BatchPass, BatchQueue } from './models/batch_queue.ts';
export { CausalLanguageModel } from './models/causal_language_model.ts';
export {
  createCausalLanguageModel,
  createMaskedLanguageModel,
  createSequenceClassifier,
  type LoadOptions,
  loadCausalLanguageModel,
  loadMaskedLanguageModel,
  loadModel,
  type Model,
  saveCheckpoint,
} from './models/checkpoint.ts';
export { crammedBertConfig, type FeedforwardConfig, type ModelConfig, type ProblemType, type Task } from './models/config.ts';
export { configToJson, parseConfig } from './models/config_json.ts';
export { Decoder, nextTokenLabels } from './models/decoder.ts';
export { Encoder } from './models/encoder.ts';
export { gptConfig } from './models/families/gpt2.ts';
export type { HeadOutput } from './models/head_output.ts';
export { type CacheSize, KeyValueCache } from './models/key_value_cache.ts';
export type { LabeledBatch, LanguageModel, LanguageModelLosses } from './models/language_model.ts';
export { MaskedLanguageModel } from './models/masked_language_model.ts';
export type { RotaryPositions } from './models/rotary_positions.ts';
export { type ClassifiedBatch, SequenceClassifier } from './models/sequence_classifier.ts';
export { Session } from './models/session.ts';
export type { EncodedText, TextBatch } from './models/text_batches.ts';
export type { Batch, Transformer, TransformerActivations, TransformerGradients } from './models/transformer.ts';
export type { Activation } from './nn/activation.ts';
export { FastFeedforward, type FastFeedforwardActivations, type FastFeedforwardShape } from './nn/fast_feedforward.ts';
export type { Target } from './nn/layer.ts';
export type { Context, NamedArray, Parameter } from './nn/parameter.ts';
export { AdamW, type AdamWOptions, type OptimizedParameter, startBranchesAlike } from './training/optimizer.ts';
export { type Pass, type RankOptions, type StepResult, Trainer, type TrainerOptions } from './training/trainer.ts';
