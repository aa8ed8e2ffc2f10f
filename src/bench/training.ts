import type { Backend } from '../backend/backend.ts';
import { neuronCounts } from '../backend/tree_shape.ts';
import { createMaskedLanguageModel } from '../models/checkpoint.ts';
import type { ModelConfig } from '../models/config.ts';
import { ignoredLabel, type LabelledBatch } from '../models/masked_language_model.ts';
import { Trainer } from '../training/trainer.ts';
import { fillUniform, milliseconds, summarise, type Timing } from './timing.ts';

export interface TrainingBenchmarkOptions {
  config: ModelConfig;
  /** Sequences a step, and tokens a sequence. */
  batch: number;
  length: number;
  rounds: number;
  /** Rows and columns of the matrices whose product the steps are measured by; 1024 by default. */
  productSize?: number;
}

export interface TrainingBenchmark {
  /** A whole step: forward, backward, clipping and AdamW. */
  tokensPerSecond: Timing;
  /** FLOP a token, forward and backward: {@link modelArithmetic}. */
  arithmetic: number;
  /** The backend's own product of two square matrices, GFLOP/s, measured between the steps. */
  matrixProduct: Timing;
  /** Median arithmetic x tokens/s over the median rate of the matrix product. */
  share: number;
}

/**
 * FLOP that training needs for a token: 3 times the forward multiply-adds (backward costs twice the forward), times 2. Counted are the
 * projections and scores of attention, the feedforward neurons that are used, and the head on the positions that are predicted.
 */
export function modelArithmetic(config: ModelConfig, length: number): number {
  const { hiddenSize, layers, feedforward, vocabularySize, family, predictedFraction } = config;
  const neurons = feedforward.kind === 'fff' ? neuronCounts(feedforward).used : feedforward.neurons;
  const block = 4 * hiddenSize ** 2 + 2 * length * hiddenSize + 2 * neurons * hiddenSize;
  const transform = family === 'crammedBERT' ? 0 : hiddenSize ** 2;
  return 6 * (layers * block + predictedFraction * (hiddenSize * vocabularySize + transform));
}

/** Times training steps on random tokens, and between them the matrix product that they are measured by. The first round is not counted. */
export async function benchmarkTraining(backend: Backend, options: TrainingBenchmarkOptions): Promise<TrainingBenchmark> {
  const { config, batch, length, rounds, productSize: size = 1024 } = options;
  using model = createMaskedLanguageModel(config, backend, 1);
  using trainer = new Trainer(backend, model);
  const products = 8;
  using input = backend.tensor('left', [size, size], 'f32', fillUniform(new Float32Array(size * size), 1, 1));
  using weight = backend.tensor('right', [size, size], 'f32', fillUniform(new Float32Array(size * size), 1, 2));
  using output = backend.tensor('product', [size, size]);
  const batches = Array.from({ length: rounds + 1 }, (_, i) => randomBatch(config, batch, length, i));
  const tokensPerSecond: number[] = [];
  const matrixProduct: number[] = [];
  for (const [round, tokens] of batches.entries()) {
    const step = await milliseconds(
      () => {},
      () => trainer.step([tokens], 1e-4),
    );
    const product = await milliseconds(
      () => {
        for (let i = 0; i < products; i++) backend.linear({ input, weight, output });
      },
      () => backend.finish(),
    );
    if (round === 0) continue;
    tokensPerSecond.push((batch * length * 1000) / step);
    matrixProduct.push((products * 2 * size ** 3) / product / 1e6);
  }
  const arithmetic = modelArithmetic(config, length);
  const result = { tokensPerSecond: summarise(tokensPerSecond), arithmetic, matrixProduct: summarise(matrixProduct) };
  return { ...result, share: (arithmetic * result.tokensPerSecond.median) / (result.matrixProduct.median * 1e9) };
}

/** Random tokens; the same share of each sequence is predicted, as in training. */
function randomBatch(config: ModelConfig, batch: number, length: number, seed: number): LabelledBatch {
  const draws = fillUniform(new Float32Array(batch * length), 1, seed + 3);
  const ids = Int32Array.from(draws, (draw) => Math.floor(((draw + 1) / 2) * config.vocabularySize) % config.vocabularySize);
  const predicted = Math.round(length * config.predictedFraction);
  // Spread evenly: position p is predicted if a multiple of length / predicted lies in (p, p + 1].
  const isPredicted = (p: number) => Math.floor(((p + 1) * predicted) / length) > Math.floor((p * predicted) / length);
  const labels = ids.map((id, i) => (isPredicted(i % length) ? id : ignoredLabel));
  return { batch, length, ids, labels };
}
