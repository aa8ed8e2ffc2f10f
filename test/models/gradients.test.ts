import { describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import { createMaskedLanguageModel, createSequenceClassifier } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type ModelConfig } from '../../src/models/config.ts';
import type { TransformerActivations } from '../../src/models/transformer.ts';
import type { Context, Parameter } from '../../src/nn/parameter.ts';
import { normalValues } from '../../src/nn/random.ts';
import { DoublePrecisionDevice } from '../backend/double_precision.ts';
import { allocateGradients } from './training.ts';

// Arithmetic in double precision, so that finite differences tell a right gradient from a nearly right one.
const crammedFff = crammedBertConfig({
  vocabSize: 23,
  hiddenSize: 12,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  maxPositionEmbeddings: 8,
  feedforward: { kind: 'fff', trees: 2, depth: 2 },
  initializerRange: 0.4,
  numLabels: 3,
});
const dense: ModelConfig['feedforward'] = { kind: 'dense', neurons: 20 };
const bert: Partial<ModelConfig> = { typeVocabSize: 2, bias: { queryKeyValue: true, dense: true } };
const configs: Record<string, ModelConfig> = {
  'crammedBERT with FFF': crammedFff,
  'crammedBERT with FFF of leaf width 3': { ...crammedFff, feedforward: { kind: 'fff', trees: 2, depth: 1, leafWidth: 3 } },
  'crammedBERT with dense layers and biases': { ...crammedFff, feedforward: dense, bias: { queryKeyValue: true, dense: true } },
  'crammedBERT without feedforward': { ...crammedFff, feedforward: { kind: 'none' } },
  'BERT with FFF and neurons that are always on': {
    ...crammedFff,
    ...bert,
    family: 'ultrafastbert',
    feedforward: { kind: 'fff', trees: 1, depth: 2, alwaysOn: 5 },
  },
  'BERT without feedforward': { ...crammedFff, ...bert, family: 'ultrafastbert', feedforward: { kind: 'none' } },
  'BERT with FFF': { ...crammedFff, ...bert, family: 'ultrafastbert' },
  BERT: { ...crammedFff, ...bert, family: 'bert', feedforward: dense },
  'BERT with SiLU': { ...crammedFff, ...bert, family: 'bert', feedforward: dense, activation: 'silu' },
  'DistilBERT with GELU by the hyperbolic tangent': {
    ...crammedFff,
    ...bert,
    family: 'distilbert',
    feedforward: dense,
    typeVocabSize: 0,
    activation: 'geluTanh',
  },
  DistilBERT: { ...crammedFff, ...bert, family: 'distilbert', feedforward: dense, typeVocabSize: 0 },
  RoBERTa: { ...crammedFff, ...bert, family: 'roberta', feedforward: dense, padTokenId: 0, positionOffset: 1 },
  ELECTRA: { ...crammedFff, ...bert, family: 'electra', feedforward: dense, embeddingSize: 8 },
};

const batch = {
  batch: 2,
  length: 6,
  ids: Int32Array.of(1, 5, 9, 13, 2, 22, 7, 7, 3, 0, 0, 0),
  typeIds: Int32Array.of(0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0),
  attentionMask: Int32Array.of(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0),
  labels: Int32Array.of(-100, 4, -100, 11, 20, -100, 6, -100, 2, -100, -100, 1),
};

const step = 2 ** -12;

/** Compares the gradients of the loss with finite differences at some elements of each parameter. */
async function check(parameters: readonly Parameter[], gradients: () => void, loss: () => Promise<number>): Promise<void> {
  const { device } = parameters[0].value;
  allocateGradients(device, parameters);
  gradients();
  // Read before anything else: computing the loss adds to the gradients again.
  const computed = new Map<Parameter, Float32Array>();
  for (const parameter of parameters) computed.set(parameter, await device.read(parameter.gradient!));
  for (const [parameter, gradient] of computed) {
    const values = Float32Array.from(await device.read(parameter.value));
    const largest = gradient.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-4);
    const elements = new Set(Array.from({ length: 7 }, (_, i) => Math.floor((i * 0.157 + 0.01) * values.length)));
    for (const element of elements) {
      // By intention the padding token's row of the word embedding, 0, gets less than its gradient, and RoBERTa's of its position none.
      if (/word_embedding|^roberta.*position_embedding/.test(parameter.name) && element < parameter.value.shape[1]) continue;
      const differences = [];
      for (const sign of [1, -1]) {
        const moved = values.slice();
        moved[element] += sign * step;
        device.write(parameter.value, moved);
        differences.push({ at: moved[element], loss: await loss() });
      }
      device.write(parameter.value, values);
      const [up, down] = differences;
      const expected = (up.loss - down.loss) / (up.at - down.at);
      expect(
        Math.abs(gradient[element] - expected),
        `${parameter.name}[${element}]: ${gradient[element]}, expected ${expected}`,
      ).toBeLessThan(1e-4 * largest);
    }
  }
}

const sum = (values: ArrayLike<number>) => Array.from(values).reduce((total, value) => total + value, 0);

describe.each(Object.entries(configs))('gradients agree with finite differences: %s', (_, config) => {
  test.each([undefined, { seed: 3, step: 5 }])('masked language model, dropout %o', async (dropout) => {
    using device = new DoublePrecisionDevice();
    using model = createMaskedLanguageModel(config, device, 2);
    const context: Context = { device, arena: new Arena(device), training: true, dropout };
    const lossAndGradients = () => {
      context.arena.reset();
      return model.lossAndGradients(context, batch, { scale: 0.5 });
    };
    await check(model.parameters, lossAndGradients, async () => 0.5 * sum(await device.read(lossAndGradients())));
  });

  test.each([undefined, { seed: 3, step: 5 }])('classifier, dropout %o', async (dropout) => {
    using device = new DoublePrecisionDevice();
    using model = createSequenceClassifier(config, device, 2);
    const context: Context = { device, arena: new Arena(device), training: true, dropout };
    const lossAndGradients = () => {
      context.arena.reset();
      return model.lossAndGradients(context, { ...batch, labels: Int32Array.of(2, 0) });
    };
    await check(model.parameters, lossAndGradients, async () => sum(await device.read(lossAndGradients())));
  });

  test('any hidden state', async () => {
    using device = new DoublePrecisionDevice();
    using model = createMaskedLanguageModel(config, device, 4);
    const { encoder } = model;
    const context: Context = { device, arena: new Arena(device), training: true };
    const size = batch.ids.length * config.hiddenSize;
    // The loss is a weighted sum of the output and of the first two hidden states.
    const weights = [0, 1, 2].map((stream) => normalValues(size, 1, 9, stream));
    const parts = ({ output, hiddenStates }: TransformerActivations) => [output, hiddenStates[0], hiddenStates[1]];
    const loss = async () => {
      context.arena.reset();
      const tensors: Tensor[] = parts(encoder.forward(context, batch));
      let total = 0;
      for (const [i, tensor] of tensors.entries()) total += sum((await device.read(tensor)).map((value, j) => value * weights[i][j]));
      return total;
    };
    const gradients = () => {
      context.arena.reset();
      const activations = encoder.forward(context, batch);
      const [output, first, second] = weights.map((values) => device.tensor('gradient', activations.output.shape, 'f32', values));
      encoder.backward(context, activations, { output, hiddenStates: [first, second] });
    };
    await check(encoder.parameters, gradients, loss);
  });
});
