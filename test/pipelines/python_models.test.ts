import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { loadMaskedLanguageModel, loadModel, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { parseConfig } from '../../src/models/config_json.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { type Changes, figures, writePythonModel } from '../python_models.ts';
import { temporaryFolder } from '../temporary.ts';

interface Case<Answer> extends Changes {
  name: string;
  answer: Answer;
}
const models = figures<{
  defaults: { told: object; read: Record<string, unknown> }[];
  blank: string;
  pair: [string, string];
  fill: Case<{ token: number; score: number }[]>[];
  embed: Case<number[]>[];
  classify: Case<{ label: string; score: number }[]>[];
  rank: Case<number>[];
}>('models.json');
const { blank, pair } = models;
const device = new ReferenceDevice();
const open = { device, notice: () => {} };

test.each(models.defaults)('what is not said is what transformers takes: $told', ({ told, read }) => {
  const own = parseConfig(told, 'config.json');
  const { padTokenId: pad, positionOffset = 0, dropout, embeddingSize, hiddenSize } = own;
  const known: Record<string, unknown> = {
    vocab_size: own.vocabSize,
    hidden_size: hiddenSize,
    num_hidden_layers: own.numHiddenLayers,
    num_attention_heads: own.numAttentionHeads,
    max_position_embeddings: own.maxPositionEmbeddings + positionOffset,
    type_vocab_size: own.typeVocabSize,
    pad_token_id: pad,
    layer_norm_eps: own.layerNormEps,
    initializer_range: own.initializerRange,
    hidden_dropout_prob: dropout.hidden,
    attention_probs_dropout_prob: dropout.attention,
    embedding_size: embeddingSize ?? hiddenSize,
    hidden_act: own.activation ?? 'gelu',
    dropout: dropout.hidden,
    attention_dropout: dropout.attention,
    seq_classif_dropout: dropout.classifier,
    activation: own.activation ?? 'gelu',
    tie_word_embeddings: !own.untiedDecoder,
  };
  const neurons = 'intermediate_size' in read ? 'intermediate_size' : 'hidden_dim';
  expect(own.feedforward).toEqual({ kind: 'dense', neurons: read[neurons] });
  for (const [key, value] of Object.entries(read)) if (key !== neurons) expect({ [key]: known[key] }).toEqual({ [key]: value });
});

describe('what transformers opens for a task is opened for it, with the same numbers', () => {
  test.each(models.fill)('fill-mask: $name', async ({ answer, ...changes }) => {
    using fill = await pipeline('fill-mask', await writePythonModel('fill', changes), open);
    const found = (await fill(blank, { top_k: 3 })) as { token: number; score: number }[];
    expect(found.map(({ token }) => token)).toEqual(answer.map(({ token }) => token));
    found.forEach(({ score }, i) => {
      expect(Math.abs(score - answer[i].score)).toBeLessThan(1e-5);
    });
  });

  test.each(models.embed)('feature-extraction: $name', async ({ answer, ...changes }) => {
    using embed = await pipeline('feature-extraction', await writePythonModel('embed', changes), open);
    const { data } = await embed('the cat', { pooling: 'mean' });
    expect(data).toHaveLength(answer.length);
    data.forEach((value, i) => {
      expect(Math.abs(value - answer[i])).toBeLessThan(1e-5);
    });
  });

  test.each(models.classify)('text-classification: $name', async ({ answer, ...changes }) => {
    using classify = await pipeline('text-classification', await writePythonModel('classify', changes), open);
    const found = await classify(pair[0], { top_k: null });
    expect(found.map(({ label }) => label)).toEqual(answer.map(({ label }) => label));
    found.forEach(({ score }, i) => {
      expect(Math.abs(score - answer[i].score)).toBeLessThan(1e-5);
    });
  });

  test.each(models.rank)('a pair by a CrossEncoder: $name', async ({ answer, ...changes }) => {
    const folder = await writePythonModel('rank', changes);
    using rank = await pipeline('text-ranking', folder, open);
    expect(Math.abs((await rank(pair[0], [pair[1]]))[0].score - answer)).toBeLessThan(1e-4);
    // Of a regression a classifier tells what the model says, as transformers does.
    if ((changes.config as { problem_type?: string }).problem_type === 'regression') return;
    using classify = await pipeline('text-classification', folder, open);
    const [{ score }] = await classify({ text: pair[0], text_pair: pair[1] });
    expect(Math.abs(score - answer)).toBeLessThan(1e-4);
  });
});

describe('what is left out is told', () => {
  const notices = async (task: 'fill-mask' | 'feature-extraction', changes: Changes) => {
    const said: string[] = [];
    const folder = await writePythonModel('told', changes);
    using _ = await pipeline(task, folder, { device, notice: (line) => said.push(line.replace(folder, 'FOLDER')) });
    return said;
  };
  const named = (name: string) => [...models.fill, ...models.embed].find((one) => one.name === name) as Changes;

  test.each([
    [
      'feature-extraction',
      'a head for questions',
      ['FOLDER/model.safetensors: left out, for what is asked of the model does not use them: qa_outputs.bias, qa_outputs.weight'],
    ],
    [
      'fill-mask',
      'tensors that it does not use',
      [
        'FOLDER/model.safetensors: left out, for what is asked of the model does not use them: bert.encoder.layer.2.output.dense.bias, loss_fct.weight',
      ],
    ],
    [
      'fill-mask',
      'a decoder of its own that config.json calls tied',
      [
        "FOLDER/model.safetensors: 'cls.predictions.decoder.weight' differs from 'bert.embeddings.word_embeddings.weight', of which config.json says that it is a copy: the decoder is taken as it is",
      ],
    ],
    [
      'fill-mask',
      'relative positions, which transformers 5 does not compute',
      [
        `FOLDER/config.json: 'position_embedding_type' is "relative_key", of which transformers 5 takes no notice; positions are absolute here as there, and answers may be others than those the model was trained for`,
        'FOLDER/model.safetensors: left out, for what is asked of the model does not use them: bert.encoder.layer.0.attention.self.distance_embedding.weight',
      ],
    ],
    ['fill-mask', 'as it is', []],
    ['feature-extraction', 'as it is', []],
  ] as const)('%s: %s', async (task, name, lines) => {
    expect(await notices(task, named(name))).toEqual(lines);
  });
});

test('an untied decoder is written as transformers reads it, and read again', async () => {
  const { answer, ...changes } = models.fill.find(({ name }) => name === 'an untied decoder with its bias') as (typeof models.fill)[0];
  const folder = await writePythonModel('untied', changes);
  const again = join(temporaryFolder(), 'untied again');
  {
    using model = await loadMaskedLanguageModel(folder, device);
    await saveCheckpoint(again, model, { tokenizer: JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8')) });
  }
  expect(JSON.parse(readFileSync(join(again, 'config.json'), 'utf8')).tie_word_embeddings).toBe(false);
  using fill = await pipeline('fill-mask', again, open);
  const [best] = (await fill(blank)) as { token: number; score: number }[];
  expect(best.token).toBe(answer[0].token);
  expect(Math.abs(best.score - answer[0].score)).toBeLessThan(1e-5);
  using model = await loadModel(again, device);
  expect(model.task).toBe('masked-lm');
});

test('a tokenizer that knows more tokens than the model is told of, and only texts with those are refused', async () => {
  const notices: string[] = [];
  const folder = await writePythonModel('more', {});
  const path = join(folder, 'tokenizer.json');
  const json = JSON.parse(readFileSync(path, 'utf8'));
  json.model.vocab.zebra = 140;
  writeFileSync(path, JSON.stringify(json));
  using embed = await pipeline('feature-extraction', folder, { device, notice: (line) => notices.push(line) });
  expect(notices).toEqual([expect.stringContaining('tokenizer.json has 141 tokens, but config.json gives the model 140')]);
  expect((await embed('the cat', { pooling: 'mean' })).dims).toEqual([1, 32]);
  await expect(embed('the zebra')).rejects.toThrow('token id 140 at token 2 is not one of the model');
});

test.each([
  ['feature-extraction', 'sentence-transformers/all-MiniLM-L6-v2'],
  ['text-classification', "a folder that 'ufb finetune' made"],
  ['text-ranking', 'cross-encoder/'],
] as const)('%s without a model says which ones do', async (task, example) => {
  await expect(pipeline(task, undefined, open)).rejects.toThrow(`${task}: no model is named, and the one that ships fills masks; name`);
  await expect(pipeline(task, undefined, open)).rejects.toThrow(example);
});
