import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { createMaskedLanguageModel } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type ModelConfig, type Task } from '../../src/models/config.ts';
import { configToJson, parseConfig } from '../../src/models/config_json.ts';
import { goldenJson } from '../goldens.ts';

type Json = Record<string, unknown>;

const goldens: [string, Task][] = [
  ['crammed-bert-fff', 'masked-lm'],
  ['crammed-bert-fff-deep', 'masked-lm'],
  ['crammed-bert-dense', 'masked-lm'],
  ['hf-bert', 'masked-lm'],
  ['hf-bert-classify', 'sequence-classification'],
];

function messageOf(json: unknown): string {
  let message = '';
  try {
    parseConfig(json, 'model/config.json');
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    message = (error as Error).message;
  }
  expect(message).toMatch(/^model\/config\.json: /);
  expect(message).not.toContain('\n');
  return message;
}

describe('configurations that others wrote', () => {
  test.each(goldens)('%s is written as it was read', (folder, task) => {
    const json = goldenJson<Json>(folder, 'config.json');
    const { transformers_version, dtype, use_cache, ...known } = json;
    expect(transformers_version).toBeDefined();
    expect(configToJson(parseConfig(json, folder), task)).toEqual(known);
  });

  test('what they mean', () => {
    expect(parseConfig(goldenJson('crammed-bert-fff', 'config.json'), 'x')).toMatchObject({
      family: 'crammedBERT',
      vocabSize: 211,
      hiddenSize: 48,
      numHiddenLayers: 3,
      numAttentionHeads: 4,
      maxPositionEmbeddings: 32,
      feedforward: { kind: 'fff', trees: 2, depth: 3 },
      bias: { queryKeyValue: false, dense: false },
      mlmProbability: 0.25,
      pooler: { kind: 'mean', size: 32 },
    });
    expect(parseConfig(goldenJson('hf-bert', 'config.json'), 'x')).toMatchObject({
      family: 'bert',
      typeVocabSize: 2,
      feedforward: { kind: 'dense', neurons: 96 },
      bias: { queryKeyValue: true, dense: true },
      pooler: { kind: 'first', size: 48 },
    });
  });

  test('BERT with FFF is called ultrafastbert, and comes back as it was', () => {
    const config = {
      ...parseConfig(goldenJson('hf-bert', 'config.json'), 'x'),
      family: 'ultrafastbert' as const,
      numLabels: 2,
      labelNames: ['no', 'yes'],
    };
    config.feedforward = { kind: 'fff', trees: 2, depth: 5 };
    const json = configToJson(config);
    expect(json).toMatchObject({ model_type: 'ultrafastbert', intermed_type: 'fff', intermed_size: 2, intermed_depth: 5 });
    expect(json).not.toHaveProperty('intermediate_size');
    expect(parseConfig(json, 'x')).toEqual(config);
  });

  test.each(['crammedBERT', 'ultrafastbert'] as const)('the leaf width of %s comes back, and is written only if it is not 1', (family) => {
    const of = (leafWidth?: number) => {
      const start = crammedBertConfig({ vocabSize: 9, feedforward: { kind: 'fff', trees: 2, depth: 4, leafWidth } });
      return configToJson({ ...start, family, typeVocabSize: family === 'crammedBERT' ? 0 : 2 });
    };
    expect(parseConfig(of(24), 'x').feedforward).toEqual({ kind: 'fff', trees: 2, depth: 4, leafWidth: 24 });
    expect(JSON.stringify(of(24))).toContain('"intermed_leaf_width":24');
    expect(of(1)).toEqual(of());
    expect(JSON.stringify(of(1))).not.toContain('leaf');
    expect(parseConfig(of(1), 'x').feedforward).toEqual({ kind: 'fff', trees: 2, depth: 4 });
  });

  test('our own start from crammedBERT with FFF', () => {
    const config = crammedBertConfig({ vocabSize: 8192, hiddenSize: 256, numAttentionHeads: 4, numHiddenLayers: 6 });
    expect(config).toMatchObject({ hiddenSize: 256, feedforward: { kind: 'fff', trees: 1, depth: 11 }, pooler: { size: 256 } });
    expect(parseConfig(configToJson(config), 'x')).toEqual(config);
  });
});

test('no option counts as one that is not given', () => {
  expect(crammedBertConfig({ vocabSize: 5, numHiddenLayers: undefined })).toEqual(crammedBertConfig({ vocabSize: 5 }));
});

test('a missing key is called missing, and labels that are none leave it open', () => {
  const json = configToJson(crammedBertConfig({ vocabSize: 5 })) as { arch: { embedding: Record<string, unknown> } };
  expect(parseConfig({ ...json, id2label: {} }, 'config.json').numLabels).toBeUndefined();
  delete json.arch.embedding.vocab_size;
  expect(() => parseConfig(json, 'config.json')).toThrow(/^config\.json: 'arch\.embedding\.vocab_size' is missing$/);
});

test('positions too many for a table that is made before the file is read', () => {
  const config = crammedBertConfig({ vocabSize: 5, hiddenSize: 2 ** 14, numAttentionHeads: 16, maxPositionEmbeddings: 2 ** 16 });
  expect(() => parseConfig(configToJson(config), 'config.json')).toThrow(/65536 positions of hidden size 16384 are .* expected at most/);
});

test.each([
  [
    'trees in the family that has none',
    { family: 'bert', typeVocabSize: 2, bias: { queryKeyValue: true, dense: true } },
    /the feedforward part is 1x1, which the family 'bert' does not know/,
  ],
  ['no biases in a family that has them', { family: 'ultrafastbert', typeVocabSize: 2 }, /'bias\.queryKeyValue' is false, expected true/],
  [
    'an activation in a family that has none but GELU',
    { activation: 'silu' },
    /'activation' is silu, expected gelu of the family 'crammedBERT'/,
  ],
  ['padding that is no token', { padTokenId: 50 }, /'pad_token_id' is 50/],
  ['heads that do not divide', { numAttentionHeads: 5 }, /cannot be divided among 5/],
] as [string, Partial<ModelConfig>, RegExp][])('what could be saved and not opened again is not made: %s', (_, changes, message) => {
  using device = new ReferenceDevice();
  const config = crammedBertConfig({
    vocabSize: 5,
    hiddenSize: 12,
    numAttentionHeads: 3,
    numHiddenLayers: 1,
    feedforward: { kind: 'fff', trees: 1, depth: 1 },
    ...changes,
  });
  expect(() => createMaskedLanguageModel(config, device, 0)).toThrow(message);
});

test('values nested too deeply to be shown are refused all the same', () => {
  let deep: unknown = [];
  for (let depth = 0; depth < 1e5; depth++) deep = [deep];
  const others = ['distilbert', 'roberta', 'xlm-roberta', 'electra'].map((name) => `"${name}", "ultrafast${name}"`);
  const expected = [
    '"bert", "ultrafastbert"',
    ...others,
    '"gpt2", "ultrafastgpt"',
    '"llama", "ultrafastllama"',
    '"qwen2", "ultrafastqwen2"',
  ]
    .join(', ')
    .replace(/, ([^,]*)$/, ' or $1');
  expect(() => parseConfig({ model_type: deep }, 'config.json')).toThrow(
    new InputError(`config.json: 'model_type' is nested too deeply, expected "crammedBERT", ${expected}`),
  );
});

describe('configurations that cannot be used', () => {
  const crammed = () =>
    goldenJson<{ arch: Json & { attention: Json; embedding: Json; classification_head: Json } }>('crammed-bert-fff', 'config.json');
  test.each<[string, (json: ReturnType<typeof crammed>) => void, RegExp]>([
    [
      'rotary embedding',
      ({ arch }) => Object.assign(arch.attention, { rotary_embedding: true }),
      /'arch\.attention\.rotary_embedding' is true, expected false/,
    ],
    [
      'causal attention',
      ({ arch }) => Object.assign(arch.attention, { causal_attention: true }),
      /'arch\.attention\.causal_attention' is true/,
    ],
    ['another nonlinearity', ({ arch }) => Object.assign(arch, { nonlin: 'ReLU' }), /'arch\.nonlin' is "ReLU", expected "GELU"/],
    ['post-norm', ({ arch }) => Object.assign(arch, { norm_scheme: 'post' }), /'arch\.norm_scheme' is "post", expected "pre"/],
    ['another pooler', ({ arch }) => Object.assign(arch.classification_head, { pooler: 'attention' }), /pooler' is "attention"/],
    ['no depth', ({ arch }) => delete arch.intermed_depth, /'arch\.intermed_depth' is missing/],
    ['no hidden size', ({ arch }) => delete arch.hidden_size, /'arch\.hidden_size' is missing/],
    ['an absurd size', ({ arch }) => Object.assign(arch, { hidden_size: 1e12 }), /'arch\.hidden_size' is 1000000000000, expected <=16384/],
    ['a fraction', ({ arch }) => Object.assign(arch, { hidden_size: 48.5 }), /'arch\.hidden_size' is 48\.5/],
    ['too many neurons', ({ arch }) => Object.assign(arch, { intermed_size: 3072, intermed_depth: 20 }), /more than 16777216 neurons/],
    [
      'leaves of no neurons',
      ({ arch }) => Object.assign(arch, { intermed_leaf_width: 0 }),
      /'arch\.intermed_leaf_width' is 0, expected >=1/,
    ],
    [
      'too many neurons in leaves',
      ({ arch }) => Object.assign(arch, { intermed_depth: 12, intermed_leaf_width: 4096 }),
      /'intermed_depth' ask for 2x12 leaves of 4096, more than 16777216 neurons/,
    ],
    ['heads that do not divide', ({ arch }) => Object.assign(arch.attention, { num_attention_heads: 5 }), /48 cannot be divided among 5/],
    [
      'another embedding size',
      ({ arch }) => Object.assign(arch.embedding, { embedding_dim: 32 }),
      /'arch\.embedding\.embedding_dim' is 32/,
    ],
    ['padding outside of the vocabulary', ({ arch }) => Object.assign(arch.embedding, { pad_token_id: 211 }), /'pad_token_id' is 211/],
    ['another model', (json) => Object.assign(json, { model_type: 't5' }), /'model_type' is "t5", expected "crammedBERT"/],
  ])('%s', (_, change, message) => {
    const json = crammed();
    change(json);
    expect(messageOf(json)).toMatch(message);
  });

  test.each([
    [
      { hidden_act: 'mish' },
      /'hidden_act' is "mish", expected \("gelu" \| "gelu_python" \| "gelu_new" \| .*"silu" \| "swish" \| "relu"\)$/,
    ],
    [
      { model_type: 'ultrafastbert', intermed_type: 'fff', intermed_size: 1, intermed_depth: 2, hidden_act: 'relu' },
      /'hidden_act' is "relu", expected "gelu": trees have no other$/,
    ],
    [{ is_decoder: true }, /'is_decoder' is true, expected false: a decoder, whose tokens see only those before them, is not computed$/],
    [{ add_cross_attention: true }, /'add_cross_attention' is true, expected false: attention to another text is not computed$/],
  ])('BERT with %o', (change, message) => {
    expect(messageOf({ ...goldenJson<Json>('hf-bert', 'config.json'), ...change })).toMatch(message);
  });

  test.each([[null], [[]], ['text'], [3]])('%o is no object', (json) => {
    expect(messageOf(json)).toMatch(/not a JSON object/);
  });

  test('whatever stands in place of any value is accepted or refused in one line', () => {
    const leaves = goldens.flatMap(([folder]) => paths(goldenJson(folder, 'config.json')).map((path) => ({ folder, path })));
    fc.assert(
      fc.property(
        fc.constantFrom(...leaves),
        fc.oneof(fc.jsonValue(), fc.integer(), fc.double(), fc.constant(undefined)),
        ({ folder, path }, value) => {
          const json = goldenJson<Json>(folder, 'config.json');
          const parent = path.slice(0, -1).reduce((object, key) => object[key] as Json, json);
          parent[path.at(-1) as string] = value;
          try {
            const config = parseConfig(json, 'model/config.json');
            expect(config.hiddenSize % config.numAttentionHeads).toBe(0);
          } catch {
            messageOf(json);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

/** The paths of all values of an object, inner objects included. */
function paths(json: unknown, path: string[] = []): string[][] {
  if (typeof json !== 'object' || json === null) return [path];
  const inner = Object.entries(json).flatMap(([key, value]) => paths(value, [...path, key]));
  return path.length > 0 ? [path, ...inner] : inner;
}
