import { describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { retrievalPrompt } from '../../src/retrieval/prompt.ts';
import { type Changes, figures, writePythonModel } from '../python_models.ts';

interface Case extends Changes {
  name: string;
  files: Record<string, unknown>;
  text: string;
  /** encode by default. */
  method?: 'encode_query' | 'encode_document';
  options: { prompt?: string; prompt_name?: string };
  vectors: number[][];
}
const device = new ReferenceDevice();

test.each(figures<Case[]>('sentences.json'))(
  '$name, as sentence-transformers has it',
  async ({ files, move, copy, text, method, options, vectors }) => {
    const folder = await writePythonModel('sentences', { files, move, copy });
    const isModel = 'config_sentence_transformers.json' in files ? !JSON.stringify(files).includes('CrossEncoder') : true;
    using embed = await pipeline('feature-extraction', folder, { device, notice: () => {} });
    const pooling = isModel ? undefined : 'mean';
    const prompt = method ? { prompt_name: retrievalPrompt(embed.prompts, method === 'encode_query' ? 'query' : 'document') } : options;
    const { dims, tolist } = await embed([text, 'a dog'], { ...prompt, pooling });
    expect(dims).toEqual([2, vectors[0].length]);
    expect(embed.width).toBe(vectors[0].length);
    const difference = (tolist() as number[][]).flatMap((row, i) => row.map((value, j) => Math.abs(value - vectors[i][j])));
    expect(Math.max(...difference)).toBeLessThan(2e-5);
  },
);

test('a prompt is given once for all calls, or for one; what is none is refused', async () => {
  const files = { 'config_sentence_transformers.json': { prompts: { query: 'a dog : ' }, default_prompt_name: 'query' } };
  const modules = [
    { path: '', type: 'sentence_transformers.models.Transformer' },
    { path: '1_Pooling', type: 'sentence_transformers.models.Pooling' },
  ];
  const folder = await writePythonModel('prompts', {
    files: { ...files, 'modules.json': modules, '1_Pooling/config.json': { pooling_mode: 'mean' } },
  });
  using embed = await pipeline('feature-extraction', folder, { device, prompt: 'the mat ' });
  using other = await pipeline('feature-extraction', folder, { device, prompt_name: 'document' });
  const vectors = async (use: typeof embed, text: string, options = {}) => [...(await use(text, options)).data];
  const plain = (text: string) => vectors(other, text);
  expect(embed.prompts).toEqual({ query: 'a dog : ', document: '' });
  expect(await vectors(embed, 'the cat')).toEqual(await plain('the mat the cat'));
  expect(await vectors(embed, 'the cat', { prompt_name: 'query' })).toEqual(await plain('a dog : the cat'));
  expect(await vectors(embed, 'the cat', { prompt: '' })).toEqual(await plain('the cat'));
  async function* stream() {
    yield 'the cat';
  }
  for await (const vector of embed(stream(), { prompt_name: 'query' })) expect([...vector]).toEqual(await plain('a dog : the cat'));
  await expect(embed('the cat', { prompt_name: 'other' })).rejects.toThrow(
    'prompt_name: got "other", expected one of the model\'s, query, document',
  );
  await expect(embed('the cat', { prompt_name: 'query', prompt: 'a' })).rejects.toThrow('prompt and prompt_name are both given');
  await expect(pipeline('feature-extraction', folder, { device, prompt_name: 'other' })).rejects.toThrow('prompt_name: got "other"');
  await expect(pipeline('fill-mask', folder, { device, prompt: 'a' })).rejects.toThrow('prompt: is put before texts that are embedded');
});

test.each([
  ['tokenizer_config.json', { model_max_length: 1 }],
  ['sentence_bert_config.json', { max_seq_length: 1 }],
])('%s that cuts texts to less than the special tokens is refused when the folder is opened, which is named', async (file, cut) => {
  const modules = ['Transformer', 'Pooling'].map((name) => ({
    path: name === 'Pooling' ? '1_Pooling' : '',
    type: `sentence_transformers.models.${name}`,
  }));
  const files = { 'modules.json': modules, '1_Pooling/config.json': { pooling_mode: 'mean' }, [file]: cut };
  const folder = await writePythonModel('cut', { files });
  await expect(pipeline('feature-extraction', folder, { device })).rejects.toThrow(
    `${folder}: a text is cut to 1 tokens (by max_seq_length in sentence_bert_config.json, model_max_length in tokenizer_config.json or the positions of config.json), expected at least 2`,
  );
});

describe('a folder whose Transformer lies below it', () => {
  const list = [
    { path: '0_Transformer', type: 'sentence_transformers.models.Transformer' },
    { path: '1_Pooling', type: 'sentence_transformers.models.Pooling' },
  ];
  const move = Object.fromEntries(
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'].map((name) => [name, `0_Transformer/${name}`]),
  );
  const files = { 'modules.json': list, '1_Pooling/config.json': { pooling_mode: 'mean' } };

  test('is named to whoever asks for something else than vectors, and what is named then opens', async () => {
    const folder = await writePythonModel('below', { move, files });
    const error = await pipeline('fill-mask', folder, { device }).catch((reason: Error) => reason);
    expect((error as Error).message).toBe(
      `${folder}: by its modules.json the model lies in ${folder}/0_Transformer: vectors are made of this folder, for all else name that one`,
    );
    using fill = await pipeline('fill-mask', `${folder}/0_Transformer`, { device });
    expect(await fill('the [MASK]')).toHaveLength(5);
  });

  test('lacks what is not there, by its place', async () => {
    const { 'tokenizer.json': _, ...others } = move;
    const folder = await writePythonModel('lacking', { move: others, files });
    await expect(pipeline('feature-extraction', folder, { device })).rejects.toThrow(`${folder}/0_Transformer: lacks tokenizer.json`);
  });
});

test.each([
  [
    'code of its own',
    [{ path: '', type: 'custom_st.Transformer' }],
    {},
    'module "custom_st.Transformer" is code of the model\'s own, which is not run',
  ],
  [
    'no Transformer',
    [{ path: '1_Pooling', type: 'sentence_transformers.models.Pooling' }],
    {},
    'module 0 is "Pooling", expected Transformer in the first place',
  ],
  [
    "vectors that are not the last layer's",
    [
      { path: '', type: 'sentence_transformers.models.Transformer' },
      { path: '1_Pooling', type: 'sentence_transformers.models.Pooling' },
    ],
    { 'sentence_bert_config.json': { modality_config: { text: { method: 'forward', method_output_name: ['hidden_states', -2] } } } },
    'sentence_bert_config.json: \'modality_config\' takes ["hidden_states",-2] of "forward", expected "last_hidden_state"',
  ],
])('refused: %s', async (_, list, more, message) => {
  const folder = await writePythonModel('refused', {
    files: { 'modules.json': list, '1_Pooling/config.json': { pooling_mode: 'mean' }, ...more },
  });
  await expect(pipeline('feature-extraction', folder, { device })).rejects.toThrow(message);
});
