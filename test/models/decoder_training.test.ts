import { afterAll, beforeAll, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { createDevice } from '../../src/backend/create.ts';
import type { Device } from '../../src/backend/device.ts';
import { InputError } from '../../src/errors.ts';
import { createCausalLanguageModel } from '../../src/models/checkpoint.ts';
import type { FeedforwardConfig } from '../../src/models/config.ts';
import { parseConfig } from '../../src/models/config_json.ts';
import { nextTokenLabels } from '../../src/models/decoder.ts';
import { gptConfig } from '../../src/models/families/gpt2.ts';
import type { Batch } from '../../src/models/transformer.ts';
import { Trainer } from '../../src/training/trainer.ts';

const vocabSize = 40;
const model = (device: Device, feedforward: FeedforwardConfig) =>
  createCausalLanguageModel(
    gptConfig({
      ...{ vocabSize, hiddenSize: 16, numHiddenLayers: 2, numAttentionHeads: 2, maxPositionEmbeddings: 32, initializerRange: 0.2 },
      ...{ family: feedforward.kind === 'dense' ? 'gpt2' : 'ultrafastgpt', feedforward },
    }),
    device,
    1,
  );
/** A Llama with trees. */
const llama = (device: Device) => {
  const json = {
    ...{ model_type: 'ultrafastllama', intermed_type: 'fff', intermed_size: 1, intermed_depth: 3, vocab_size: vocabSize, hidden_size: 16 },
    ...{ num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, initializer_range: 0.2, tie_word_embeddings: true },
  };
  return createCausalLanguageModel(parseConfig(json, 'config.json'), device, 1);
};
const trees: FeedforwardConfig = { kind: 'fff', trees: 1, depth: 3, alwaysOn: 4 };
const ids = (count: number, seed = 1) => Int32Array.from({ length: count }, (_, i) => (i * i * 3 + seed * i + seed) % vocabSize);

let device: Device;
beforeAll(async () => {
  device = await createDevice({ name: 'native' });
});
afterAll(() => device.dispose());

test('labels are the tokens that follow, in each row, document or text without its padding', () => {
  const tokens = Int32Array.of(1, 2, 3, 4, 5, 6);
  expect(nextTokenLabels({ batch: 2, length: 3, ids: tokens })).toEqual(Int32Array.of(2, 3, -100, 5, 6, -100));
  const documents = Int32Array.of(2, 1, 3);
  expect(nextTokenLabels({ batch: 2, length: 3, ids: tokens, documents })).toEqual(Int32Array.of(2, -100, -100, 5, 6, -100));
  const attentionMask = Int32Array.of(0, 1, 1, 1, 1, 0);
  expect(nextTokenLabels({ batch: 2, length: 3, ids: tokens, attentionMask })).toEqual(Int32Array.of(-100, 3, -100, 5, -100, -100));
});

/** Losses and gradients of one pass. */
async function passOf(own: ReturnType<typeof model>, batch: Batch) {
  using arena = new Arena(device);
  for (const parameter of own.parameters) parameter.gradient = device.zeros('gradient', parameter.value.shape);
  const losses = await device.read(own.lossAndGradients({ device, arena, training: true }, { ...batch, labels: nextTokenLabels(batch) }));
  const gradients = [];
  for (const parameter of own.parameters) {
    gradients.push(...(await device.read(parameter.gradient!)));
    parameter.gradient?.dispose();
  }
  return { losses, gradients };
}

test('documents in one row learn what they learn each by itself', async () => {
  using own = model(device, trees);
  const all = ids(30);
  const lengths = [7, 1, 12, 10];
  const together = await passOf(own, { batch: 1, length: 30, ids: all, documents: Int32Array.from(lengths) });
  const apart: Awaited<ReturnType<typeof passOf>>[] = [];
  let first = 0;
  for (const length of lengths) {
    if (length > 1) apart.push(await passOf(own, { batch: 1, length, ids: all.slice(first, first + length) }));
    first += length;
  }
  expect(Array.from(together.losses)).toEqual(apart.flatMap(({ losses }) => Array.from(losses)));
  const most = Math.max(...together.gradients.map(Math.abs));
  for (const [i, value] of together.gradients.entries()) {
    const sum = apart.reduce((total, { gradients }) => total + gradients[i], 0);
    expect(Math.abs(value - sum)).toBeLessThan(1e-5 * most);
  }
  // With attention across them the later ones have other losses.
  const across = await passOf(own, { batch: 1, length: 30, ids: all });
  expect(across.losses.slice(0, 6)).toEqual(together.losses.slice(0, 6));
  expect(across.losses[20]).not.toBe(together.losses[18]);
});

test('padding, at either end, is learned nothing from', async () => {
  using own = model(device, trees);
  const texts = [ids(9, 2), ids(5, 3)];
  const batchOf = (side: 'left' | 'right'): Batch => {
    const [tokens, attentionMask] = [new Int32Array(18), new Int32Array(18)];
    texts.forEach((text, row) => {
      const start = row * 9 + (side === 'left' ? 9 - text.length : 0);
      tokens.set(text, start);
      attentionMask.fill(1, start, start + text.length);
    });
    return { batch: 2, length: 9, ids: tokens, attentionMask };
  };
  const [left, right] = [await passOf(own, batchOf('left')), await passOf(own, batchOf('right'))];
  expect(left).toEqual(right);
  expect(left.losses).toHaveLength(8 + 4);
});

test.each([
  ['padding between tokens', { attentionMask: Int32Array.of(1, 0, 1, 1) }, /row 0 has padding between its tokens/],
  ['nothing but padding', { attentionMask: Int32Array.of(0, 0, 0, 0) }, /row 0 is nothing but padding/],
  ['documents that do not fill the batch', { documents: Int32Array.of(1, 2) }, /'documents' are 3 tokens long together, expected 4/],
  ['documents without tokens', { documents: Int32Array.of(4, 0) }, /'documents'/],
])('%s is an error before anything is computed', async (_, changes, message) => {
  using own = model(device, trees);
  using arena = new Arena(device);
  const batch = { batch: 1, length: 4, ids: ids(4), ...changes };
  expect(() => own.logits({ device, arena, training: false }, batch)).toThrow(InputError);
  expect(() => own.logits({ device, arena, training: false }, batch)).toThrow(message);
});

test('a position that is padding has no logits', async () => {
  using own = model(device, trees);
  using arena = new Arena(device);
  const batch = { batch: 1, length: 4, ids: ids(4), attentionMask: Int32Array.of(0, 1, 1, 1) };
  const context = { device, arena, training: false };
  expect(() => own.logits(context, batch, Int32Array.of(0))).toThrow(/position 0 is padding/);
  expect(() => own.logits(context, batch, Int32Array.of(4))).toThrow(/position 4 is not one of the batch's/);
  const [all, one] = [await device.read(own.logits(context, batch)), await device.read(own.logits(context, batch, Int32Array.of(3)))];
  expect(one).toEqual(all.slice(2 * vocabSize));
});

test.each([
  ['dense', () => model(device, { kind: 'dense', neurons: 32 })],
  ['trees', () => model(device, trees)],
  ['Llama with trees', () => llama(device)],
] as const)('%s: a text is learned by heart, with dropout, and the same way again', async (_, make) => {
  const learn = async () => {
    using own = make();
    using trainer = new Trainer(device, own.parameters, { dropoutSeed: 1 });
    const batch = { batch: 2, length: 16, ids: Int32Array.from([...ids(16, 2), ...ids(16, 5)]) };
    const labels = nextTokenLabels(batch);
    const losses: number[] = [];
    for (let step = 0; step < 60; step++) {
      const { loss } = await trainer.step([(context, scale) => own.lossAndGradients(context, { ...batch, labels }, { scale })], 30, 0.01);
      losses.push(loss);
    }
    return losses;
  };
  const losses = await learn();
  expect(losses[0]).toBeGreaterThan(3);
  expect(losses.at(-1)).toBeLessThan(1);
  expect(await learn()).toEqual(losses);
});
