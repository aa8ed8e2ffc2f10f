import type { Device } from '../backend/device.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import { createMaskedLanguageModel } from '../models/checkpoint.ts';
import { type ModelConfig, neuronsOf } from '../models/config.ts';
import { modelNames } from '../models/families/families.ts';
import { ignoredLabel, type LabeledBatch } from '../models/language_model.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import { pretrainingAdamW } from '../training/optimizer.ts';
import { predictionStep } from '../training/prediction_steps.ts';
import { Trainer } from '../training/trainer.ts';
import type { Contestant } from './contest.ts';
import { fillUniform, milliseconds, summarize, type Timing } from './timing.ts';

export interface TrainingBenchmarkOptions {
  /** All of one vocabulary. */
  models: readonly { name: string; config: ModelConfig }[];
  /** Sequences a step, and tokens a sequence. */
  batch: number;
  length: number;
  rounds: number;
  /** Of products of matrices; f32 if absent. */
  precision?: ProductPrecision;
  /** Rows and columns of the matrices whose product the steps are measured by; 1024 by default. */
  productSize?: number;
  /** Opens another program that trains the last of the models, from the same weights. */
  openPeer?(model: MaskedLanguageModel): Promise<TrainingPeer>;
}

/** Another program that trains. */
export interface TrainingPeer extends Pick<Contestant, 'rest'> {
  name: string;
  /** One step: the loss before it, in nats, and the time that it took. */
  step(batch: LabeledBatch, learningRate: number): Promise<{ loss: number; milliseconds: number }>;
  dispose(): Promise<void>;
}

export interface TrainingRow {
  name: string;
  /** A whole step: forward, backward, clipping and AdamW. */
  tokensPerSecond: Timing;
  /** FLOP a token, forward and backward: {@link modelArithmetic}. */
  arithmetic: number;
  /** Median arithmetic x tokens/s over the median rate of our matrix product. */
  share: number;
  /** Of the first step, nats: a peer's is that of the model whose weights it has. */
  firstLoss: number;
}

export interface TrainingBenchmark {
  rows: TrainingRow[];
  /** The backend's own product of two square matrices in the same precision, GFLOP/s, measured between the steps. */
  matrixProduct: Timing;
}

/**
 * FLOP that training needs for a token: 3 times the forward multiply-adds (backward costs twice the forward), times 2. Counted are the
 * projections and scores of attention, the feedforward neurons that are used, and the head on the positions that are predicted.
 */
export function modelArithmetic(config: ModelConfig, length: number): number {
  const { hiddenSize, numHiddenLayers: layers, feedforward, vocabSize: vocabularySize, mlmProbability: predictedFraction } = config;
  const neurons = neuronsOf(feedforward).used;
  const block = 4 * hiddenSize ** 2 + 2 * length * hiddenSize + 2 * neurons * hiddenSize;
  const transform = modelNames(config).transform ? hiddenSize ** 2 : 0;
  return 6 * (layers * block + predictedFraction * (hiddenSize * vocabularySize + transform));
}

/**
 * Times training steps on random tokens, the models and the peer by turns on the same ones, and between them the matrix product that they
 * are measured by. The first round is not counted.
 */
export async function benchmarkTraining(device: Device, options: TrainingBenchmarkOptions): Promise<TrainingBenchmark> {
  const { models, batch, length, rounds, precision, productSize: size = 1024, openPeer } = options;
  // As `ufb pretrain` trains by default; where the weights start takes no time.
  const adamW = { ...pretrainingAdamW, branchRate: 1 };
  const entrants = models.map(({ name, config }) => {
    const model = createMaskedLanguageModel(config, device, 1);
    return { name, config, model, trainer: new Trainer(device, model.parameters, { adamW, precision }) };
  });
  const last = entrants[entrants.length - 1];
  using input = device.tensor('left', [size, size], 'f32', fillUniform(new Float32Array(size * size), 1, 1));
  using weight = device.tensor('right', [size, size], 'f32', fillUniform(new Float32Array(size * size), 1, 2));
  using output = device.tensor('product', [size, size]);
  let peer: TrainingPeer | undefined;
  const products = 8;
  // As pretraining has it.
  const balance = 0.3;
  const steps: (Omit<TrainingPeer, 'dispose'> & { config: ModelConfig })[] = entrants.map(({ name, config, model, trainer }) => ({
    name,
    config,
    async step(tokens, learningRate) {
      const started = performance.now();
      const { loss } = await predictionStep(trainer, model, [tokens], learningRate, balance);
      return { loss, milliseconds: performance.now() - started };
    },
  }));
  const tokensPerSecond: number[][] = [];
  const firstLosses: number[] = [];
  const matrixProduct: number[] = [];
  try {
    peer = await openPeer?.(last.model);
    if (peer) steps.push({ ...peer, config: last.config });
    for (let round = 0; round <= rounds; round++) {
      const tokens = randomBatch(last.config, batch, length, round);
      for (const [i, { step, rest }] of steps.entries()) {
        const { loss, milliseconds } = await step(tokens, 1e-4);
        if (round === 0) {
          firstLosses.push(loss);
          tokensPerSecond.push([]);
        } else tokensPerSecond[i].push((batch * length * 1000) / milliseconds);
        await rest?.();
      }
      const product = await milliseconds(
        () => {
          for (let i = 0; i < products; i++) device.linear({ input, weight, output, precision });
        },
        () => device.finish(),
      );
      if (round > 0) matrixProduct.push((products * 2 * size ** 3) / product / 1e6);
    }
  } finally {
    await peer?.dispose();
    for (const { model, trainer } of entrants) for (const made of [trainer, model]) made.dispose();
  }
  const product = summarize(matrixProduct);
  const rows = steps.map(({ name, config }, i): TrainingRow => {
    const rate = summarize(tokensPerSecond[i]);
    const arithmetic = modelArithmetic(config, length);
    return {
      name,
      tokensPerSecond: rate,
      arithmetic,
      share: (arithmetic * rate.median) / (product.median * 1e9),
      firstLoss: firstLosses[i],
    };
  });
  return { rows, matrixProduct: product };
}

/** Random tokens; the same share of each sequence is predicted, as in training. */
function randomBatch(config: ModelConfig, batch: number, length: number, seed: number): LabeledBatch {
  const draws = fillUniform(new Float32Array(batch * length), 1, seed + 3);
  const ids = Int32Array.from(draws, (draw) => Math.floor(((draw + 1) / 2) * config.vocabSize) % config.vocabSize);
  const predicted = Math.round(length * config.mlmProbability);
  // Spread evenly: position p is predicted if a multiple of length / predicted lies in (p, p + 1].
  const isPredicted = (p: number) => Math.floor(((p + 1) * predicted) / length) > Math.floor((p * predicted) / length);
  const labels = ids.map((id, i) => (isPredicted(i % length) ? id : ignoredLabel));
  return { batch, length, ids, labels };
}
