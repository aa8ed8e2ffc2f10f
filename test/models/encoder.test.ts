import { expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { createModel, encoderOf } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type FeedforwardConfig } from '../../src/models/config.ts';
import { tinyBert } from '../tiny_model.ts';

const shape = { vocabSize: 40, hiddenSize: 16, numHiddenLayers: 2, numAttentionHeads: 2, maxPositionEmbeddings: 32 };

test.each<[string, object, FeedforwardConfig]>([
  ['crammedBERT', {}, { kind: 'fff', trees: 2, depth: 2 }],
  ['crammedBERT', {}, { kind: 'none' }],
  ['BERT', tinyBert, { kind: 'dense', neurons: 3 }],
  ['UltraFastBERT', { ...tinyBert, family: 'ultrafastbert' }, { kind: 'fff', trees: 1, depth: 1, alwaysOn: 2 }],
])('each parameter of the encoder is found in one of its layers: %s %o', (_, family, feedforward) => {
  using device = new ReferenceDevice();
  const config = crammedBertConfig({ ...shape, ...family, feedforward });
  const { embedding, blocks, finalNorm, parameters } = encoderOf(createModel('encoder', config, device, 1));
  const found = [embedding, ...blocks, ...(finalNorm ? [finalNorm] : [])].flatMap((layer) => layer.parameters);
  expect(found.map(({ name }) => name).sort()).toEqual(parameters.map(({ name }) => name).sort());
  expect(new Set(found).size).toBe(parameters.length);
});
