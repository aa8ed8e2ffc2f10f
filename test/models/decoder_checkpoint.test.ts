import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDevice } from '../../src/backend/create.ts';
import type { Device } from '../../src/backend/device.ts';
import { InputError } from '../../src/errors.ts';
import { openWeights } from '../../src/io/model_folder.ts';
import { writeSafetensors } from '../../src/io/safetensors_writer.ts';
import type { CausalLanguageModel } from '../../src/models/causal_language_model.ts';
import {
  createCausalLanguageModel,
  createMaskedLanguageModel,
  loadCausalLanguageModel,
  loadEncoder,
  loadMaskedLanguageModel,
  loadModel,
  loadSequenceClassifier,
  saveCheckpoint,
} from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type FeedforwardConfig } from '../../src/models/config.ts';
import { parseConfig } from '../../src/models/config_json.ts';
import { gptConfig } from '../../src/models/families/gpt2.ts';
import { Session } from '../../src/models/session.ts';
import { temporaryFolder } from '../temporary.ts';

const temporary = temporaryFolder();
const gpt2 = fileURLToPath(new URL('../fixtures/decoders/gpt2-tied', import.meta.url));
const bert = fileURLToPath(new URL('../fixtures/families/roberta-masked', import.meta.url));
const small = { vocabSize: 40, hiddenSize: 12, numHiddenLayers: 2, numAttentionHeads: 3, maxPositionEmbeddings: 16, initializerRange: 0.3 };

let device: Device;
let session: Session;
beforeAll(async () => {
  device = await createDevice({ name: 'native' });
  session = new Session(device);
});
afterAll(() => device.dispose());

const logitsOf = (model: CausalLanguageModel) => {
  const ids = Int32Array.from({ length: 9 }, (_, i) => (7 * i + 3) % 40);
  return session.pass(async (context) => device.read(model.logits(context, { batch: 1, length: 9, ids })));
};

const feedforwards: Record<string, FeedforwardConfig> = {
  trees: { kind: 'fff', trees: 2, depth: 3 },
  'trees with leaves, beside dense neurons': { kind: 'fff', trees: 1, depth: 2, leafWidth: 3, alwaysOn: 5 },
  none: { kind: 'none' },
  dense: { kind: 'dense', neurons: 20 },
};

test.each(Object.entries(feedforwards))('%s: what is saved is the same when it is opened', async (kind, feedforward) => {
  const family = feedforward.kind === 'dense' ? 'gpt2' : 'ultrafastgpt';
  using model = createCausalLanguageModel(gptConfig({ ...small, family, feedforward, eosTokenIds: [0] }), device, 1);
  const folder = join(temporary, kind);
  await saveCheckpoint(folder, model);
  const json = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  expect(json).toMatchObject({ model_type: family, n_embd: 12, n_layer: 2, n_head: 3, n_positions: 16, eos_token_id: 0 });
  using opened = await loadCausalLanguageModel(folder, device);
  expect(await logitsOf(opened)).toEqual(await logitsOf(model));
  await using weights = await openWeights(folder);
  const [block, prefix] = feedforward.kind === 'dense' ? ['transformer.h.1', 'transformer.'] : ['h.1', ''];
  expect(weights.names).toContain(`${prefix}wte.weight`);
  expect(weights.info(`${block}.attn.c_attn.weight`).shape).toEqual([12, 36]);
  if (feedforward.kind === 'fff') expect(weights.names).toContain(`${block}.mlp.linear_in.weight`);
});

test.each(['llama', 'qwen2'])('%s with trees: what is saved is the same when it is opened', async (type) => {
  const json = {
    ...{ model_type: `ultrafast${type}`, intermed_type: 'fff', intermed_size: 2, intermed_depth: 3, vocab_size: 40, hidden_size: 12 },
    ...{ num_hidden_layers: 2, num_attention_heads: 3, num_key_value_heads: 1, max_position_embeddings: 64, initializer_range: 0.3 },
  };
  using model = createCausalLanguageModel(parseConfig(json, 'config.json'), device, 1);
  const folder = join(temporary, type);
  await saveCheckpoint(folder, model);
  using opened = await loadCausalLanguageModel(folder, device);
  expect(opened.config).toEqual(model.config);
  expect(await logitsOf(opened)).toEqual(await logitsOf(model));
});

test("GPT-2's own checkpoint has names without prefix, and masks that are no weights", async () => {
  const folder = join(temporary, 'old');
  mkdirSync(folder);
  writeFileSync(join(folder, 'config.json'), readFileSync(join(gpt2, 'config.json')));
  await using theirs = await openWeights(gpt2);
  const tensors = theirs.names.map((name) => ({
    name: name.replace('transformer.', ''),
    dtype: 'F32' as const,
    shape: theirs.info(name).shape,
    values: () => theirs.read(name),
  }));
  const mask = { dtype: 'F32' as const, shape: [1, 1, 4, 4], values: new Float32Array(16) };
  const masks = [0, 1].map((block) => ({ name: `h.${block}.attn.bias`, ...mask }));
  const sorted = [...tensors, ...masks].sort((a, b) => (a.name < b.name ? -1 : 1));
  await writeSafetensors(join(folder, 'model.safetensors'), sorted, { format: 'pt' });
  const notices: string[] = [];
  using old = await loadCausalLanguageModel(folder, device, { notice: (message) => notices.push(message) });
  using model = await loadCausalLanguageModel(gpt2, device);
  expect(await logitsOf(old)).toEqual(await logitsOf(model));
  expect(notices).toEqual([]);
});

describe('models of the other kind', () => {
  test.each([
    ['loadModel', loadModel],
    ['loadEncoder', loadEncoder],
    ['loadMaskedLanguageModel', loadMaskedLanguageModel],
    ['loadSequenceClassifier', loadSequenceClassifier],
  ])('%s refuses a decoder', async (_, load) => {
    await expect(load(gpt2, device)).rejects.toThrow(InputError);
    await expect(load(gpt2, device)).rejects.toThrow(/'model_type' is "gpt2", which is a decoder: it writes text, expected an encoder/);
  });

  test('loadCausalLanguageModel refuses an encoder', async () => {
    await expect(loadCausalLanguageModel(bert, device)).rejects.toThrow(
      /'model_type' is "roberta", which is an encoder.*expected a decoder/,
    );
  });

  test('neither is made of the configuration of the other', () => {
    expect(() => createMaskedLanguageModel(gptConfig(small), device, 1)).toThrow(/'family' is 'ultrafastgpt', expected one of encoders/);
    expect(() => createCausalLanguageModel(crammedBertConfig(small), device, 1)).toThrow(
      /'family' is 'crammedBERT', expected one of decoders/,
    );
  });
});

describe('configurations as they are on the hub', () => {
  const read = (json: object) => parseConfig(json, 'config.json');

  test('GPT-2', () => {
    expect(
      read({ model_type: 'gpt2', n_ctx: 1024, n_positions: 1024, n_embd: 768, n_head: 12, n_layer: 12, vocab_size: 50257 }),
    ).toMatchObject({
      ...{ hiddenSize: 768, activation: 'geluTanh', layerNormEps: 1e-5, untiedDecoder: undefined },
      feedforward: { kind: 'dense', neurons: 3072 },
    });
  });

  test('SmolLM2', () => {
    const json = {
      ...{ model_type: 'llama', hidden_size: 576, intermediate_size: 1536, num_hidden_layers: 30, num_attention_heads: 9 },
      ...{ num_key_value_heads: 3, max_position_embeddings: 8192, rms_norm_eps: 1e-5, rope_theta: 100000, rope_scaling: null },
      ...{ hidden_act: 'silu', attention_bias: false, tie_word_embeddings: true, vocab_size: 49152, bos_token_id: 1, eos_token_id: 2 },
      ...{ is_llama_config: true, rope_interleaved: false, pretraining_tp: 1, pad_token_id: 2 },
    };
    expect(read(json)).toMatchObject({
      ...{ hiddenSize: 576, numAttentionHeads: 9, numKeyValueHeads: 3, activation: 'silu', untiedDecoder: undefined, padTokenId: 2 },
      ...{ feedforward: { kind: 'dense', neurons: 1536, gated: true }, rotary: { base: 100000 }, eosTokenIds: [2] },
    });
  });

  test('Llama 3.2', () => {
    const rope_scaling = {
      factor: 32,
      high_freq_factor: 4,
      low_freq_factor: 1,
      original_max_position_embeddings: 8192,
      rope_type: 'llama3',
    };
    const json = {
      ...{ model_type: 'llama', hidden_size: 2048, intermediate_size: 8192, num_hidden_layers: 16, num_attention_heads: 32, head_dim: 64 },
      ...{ num_key_value_heads: 8, max_position_embeddings: 131072, rms_norm_eps: 1e-5, rope_theta: 500000, rope_scaling, mlp_bias: false },
      ...{
        hidden_act: 'silu',
        attention_bias: false,
        tie_word_embeddings: true,
        vocab_size: 128256,
        eos_token_id: [128001, 128008, 128009],
      },
    };
    expect(read(json)).toMatchObject({
      ...{ maxPositionEmbeddings: 131072, headSize: 64, eosTokenIds: [128001, 128008, 128009] },
      rotary: {
        base: 500000,
        scaling: { kind: 'llama3', factor: 32, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 8192 },
      },
    });
  });

  test('Qwen2.5', () => {
    const json = {
      ...{ model_type: 'qwen2', hidden_size: 896, intermediate_size: 4864, num_hidden_layers: 24, num_attention_heads: 14 },
      ...{ num_key_value_heads: 2, max_position_embeddings: 32768, max_window_layers: 21, rms_norm_eps: 1e-6, rope_theta: 1000000 },
      ...{ sliding_window: 32768, use_sliding_window: false, tie_word_embeddings: true, vocab_size: 151936, eos_token_id: 151645 },
    };
    expect(read(json)).toMatchObject({ bias: { queryKeyValue: true, dense: false }, rotary: { base: 1000000 }, numKeyValueHeads: 2 });
  });

  test.each([
    [{ rope_scaling: { type: 'yarn', factor: 4 } }, /'rope_type' is "yarn", expected "default", "linear" or "llama3"/],
    [{ rope_scaling: { type: 'linear' } }, /'factor' of the rotation is missing, expected a number above 0/],
    [{ num_key_value_heads: 5 }, /'num_key_value_heads' is 5, which 32 heads cannot share/],
    [{ head_dim: 5 }, /heads have 5 elements, expected an even number/],
    [{ attention_bias: true }, /'attention_bias' is true/],
    [{ hidden_act: 'gelu_10' }, /'hidden_act' is "gelu_10"/],
    [
      { model_type: 'ultrafastllama', intermed_type: 'fff', hidden_act: 'silu' },
      /'hidden_act' is "silu", expected "gelu": trees have no other/,
    ],
  ])('of Llama are refused: %o', (changes, message) => {
    expect(() => read({ model_type: 'llama', ...changes })).toThrow(message);
  });

  test.each([
    [{ scale_attn_by_inverse_layer_idx: true }, /'scale_attn_by_inverse_layer_idx' is true/],
    [{ n_head: 7 }, /768 cannot be divided among 7/],
    [{ n_positions: 2 ** 20 }, /'n_positions'/],
    [{ activation_function: 'tanh' }, /'activation_function' is "tanh"/],
  ])('of GPT-2 are refused: %o', (changes, message) => {
    expect(() => read({ model_type: 'gpt2', ...changes })).toThrow(message);
  });
});
