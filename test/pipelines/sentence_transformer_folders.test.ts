import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { modulePath } from '../../src/io/sentence_folder.ts';
import type { FeatureExtractionPipeline } from '../../src/pipelines/feature_extraction.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { readSentenceModules } from '../../src/pipelines/sentence_transformer.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

const folder = join(temporaryFolder(), 'model');
const device = new ReferenceDevice();
const notices: string[] = [];
const texts = ['the cat sees a long road .', 'a dog', 'my sister likes the letter and the old man carries green apples .', ''];
let extract: FeatureExtractionPipeline;
beforeAll(async () => {
  await writeTinyModel(folder);
  extract = await pipeline('feature-extraction', folder, { device, notice: (message) => notices.push(message) });
});

const close = (actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number) => {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) expect(Math.abs(actual[i] - expected[i])).toBeLessThanOrEqual(tolerance);
};

const files = {
  'modules.json': [
    { idx: 0, name: '0', path: '', type: 'sentence_transformers.models.Transformer' },
    { idx: 1, name: '1', path: '1_Pooling', type: 'sentence_transformers.models.Pooling' },
    { idx: 2, name: '2', path: '2_Normalize', type: 'sentence_transformers.models.Normalize' },
  ] as unknown,
  '1_Pooling/config.json': { pooling_mode_cls_token: false, pooling_mode_max_tokens: true, word_embedding_dimension: 16 } as unknown,
  'sentence_bert_config.json': { max_seq_length: 8, do_lower_case: false } as unknown,
};
const write = (name: string, changes: Record<string, unknown> = {}) => {
  const to = join(folder, '..', name);
  cpSync(folder, to, { recursive: true });
  mkdirSync(join(to, '1_Pooling'));
  mkdirSync(join(to, '3_Dense'));
  for (const [file, json] of Object.entries({ ...files, ...changes })) if (json) writeFileSync(join(to, file), JSON.stringify(json));
  return to;
};

test('pool, scale and cut as their files say', async () => {
  const from = write('sentences');
  const embed = await pipeline('feature-extraction', from, { device, notice: () => {} });
  expect(embed.maxLength).toBe(8);
  const { dims, data } = await embed('a dog');
  expect(dims).toEqual([1, 16]);
  close(data, (await extract('a dog', { pooling: 'max', normalize: true })).data, 1e-7);
  expect((await embed(texts, { pooling: 'none' })).dims).toEqual([4, 8, 16]);
  // Normalize scales sentences' vectors, and no tokens'.
  close((await embed('a dog', { pooling: 'none' })).data, (await extract('a dog')).data, 1e-7);
});

test.each([
  [true, 0],
  [false, 1],
])('lower-case texts that their tokenizer would not, if do_lower_case is %s', async (lower, differing) => {
  const from = write(`lower ${lower}`, { 'sentence_bert_config.json': { do_lower_case: lower } });
  const tokenizer = JSON.parse(readFileSync(join(from, 'tokenizer.json'), 'utf8'));
  writeFileSync(join(from, 'tokenizer.json'), JSON.stringify({ ...tokenizer, normalizer: null }));
  const embed = await pipeline('feature-extraction', from, { device });
  const [upper, plain] = (await embed(['A Dog', 'a dog'])).tolist() as number[][];
  expect(upper.some((value, i) => value !== plain[i]) ? 1 : 0).toBe(differing);
});

test.each([
  [
    'lstm',
    { 'modules.json': [...(files['modules.json'] as object[]), { path: '3_LSTM', type: 'sentence_transformers.models.LSTM' }] },
    /modules\.json: module "LSTM" is not supported/,
  ],
  [
    'dense of another width',
    {
      'modules.json': [...(files['modules.json'] as object[]), { path: '3_Dense', type: 'sentence_transformers.models.Dense' }],
      '3_Dense/config.json': { in_features: 32, out_features: 2 },
    },
    /3_Dense: lacks model\.safetensors, the weights of this module; .*: save such a model anew with sentence-transformers/,
  ],
  [
    'an activation of torch that is not known',
    {
      'modules.json': [...(files['modules.json'] as object[]), { path: '3_Dense', type: 'sentence_transformers.models.Dense' }],
      '3_Dense/config.json': { in_features: 16, out_features: 2, activation_function: 'torch.nn.modules.activation.MultiheadAttention' },
    },
    /3_Dense.config\.json: the activation "torch\.nn\.modules\.activation\.MultiheadAttention" is not supported, expected one of Identity, Tanh/,
  ],
  [
    'outside',
    { 'modules.json': [{ path: '../elsewhere', type: 'x.Pooling' }] },
    /module path "..\/elsewhere", expected a folder below this one/,
  ],
  ['no pooling', { 'modules.json': [] }, /modules\.json: has no Pooling module/],
  ['no list', { 'modules.json': {} }, /modules\.json: 'the value' is \{\}, expected Array/],
  [
    'other',
    { '1_Pooling/config.json': { pooling_mode: 'median' } },
    /config\.json: 'pooling_mode' is "median", expected one of mean, cls, max, mean_sqrt_len_tokens, weightedmean, lasttoken, or a list/,
  ],
  [
    'other flag',
    { '1_Pooling/config.json': { pooling_mode_median: true } },
    /config\.json: pools by "pooling_mode_median", expected one of pooling_mode_cls_token/,
  ],
  [
    'default prompt',
    { 'config_sentence_transformers.json': { prompts: { query: 'q' }, default_prompt_name: 'other' } },
    /config_sentence_transformers\.json: 'default_prompt_name' is "other", expected one of query, document/,
  ],
  [
    'many',
    { 'modules.json': Array(17).fill({ path: '1_Pooling', type: 'x.Pooling' }) },
    /modules\.json: lists 17 modules, expected at most 16$/,
  ],
  [
    'lower case',
    { 'sentence_bert_config.json': { do_lower_case: 'yes' } },
    /sentence_bert_config\.json: 'do_lower_case' is "yes", expected boolean/,
  ],
  ['length', { 'sentence_bert_config.json': { max_seq_length: -1 } }, /sentence_bert_config\.json: 'max_seq_length' is -1, expected >=1/],
])('refused: %s', async (name, changes, message) => {
  const from = write(`refused ${name}`, changes);
  const error = await pipeline('feature-extraction', from, { device }).then(
    () => undefined,
    (reason: unknown) => reason as Error,
  );
  expect(error).toBeInstanceOf(InputError);
  expect(error?.message).toMatch(message);
});

test('refused: a path that could lead out of the folder, though there is a pooling', async () => {
  const from = write('hostile');
  const outside = join(from, '..', 'outside');
  cpSync(join(from, '1_Pooling'), outside, { recursive: true });
  const hostile = fc.oneof(
    fc.constantFrom('../outside', outside, './1_Pooling', '1_Pooling/', '../hostile/1_Pooling', '../../etc', '/etc', '..', '.', '/'),
    fc.constantFrom('1_Pooling/../../outside', '..\\outside', 'C:\\outside', '1_Pooling\0', '1_Pooling\n', 'http://localhost/1', '1?a'),
    fc.string({ unit: 'binary' }).map((name) => `${name}/1_Pooling`),
  );
  await fc.assert(
    fc.asyncProperty(hostile, async (path) => {
      writeFileSync(
        join(from, 'modules.json'),
        JSON.stringify([
          { type: 'sentence_transformers.models.Transformer', path: '' },
          { type: 'sentence_transformers.models.Pooling', path },
        ]),
      );
      const error = await readSentenceModules(from).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      // What is read lies in the folder.
      if (modulePath(path) !== undefined) expect(`${resolve(from, path)}/`).toMatch(new RegExp(`^${from}/`));
      else expect((error as Error)?.message).toContain(`${join(from, 'modules.json')}: module path "`);
      if (error === undefined) return;
      expect(error).toBeInstanceOf(InputError);
      expect((error as Error).message).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
    }),
  );
});

test('whatever stands in place of a value in one of its files is used or refused in one line', async () => {
  const from = write('damaged');
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom('../outside', '1_Pooling', -1, 8, 1e300, true, { 'a\nb': true }));
  const names = Object.keys(files) as (keyof typeof files)[];
  let refusals = 0;
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...names), fc.nat(10), value, async (name, at, replacement) => {
      for (const [file, json] of Object.entries(files)) writeFileSync(join(from, file), JSON.stringify(json));
      let index = 0;
      // The at-th value of the document, in JSON's own order.
      const changed = JSON.stringify(files[name], (_, inner) => (index++ === at ? replacement : inner));
      writeFileSync(join(from, name), changed);
      const error = await readSentenceModules(from).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      if (error === undefined) return;
      refusals++;
      expect(error).toBeInstanceOf(InputError);
      expect((error as Error).message).toMatch(/^.*\.json: [^\p{Cc}\u2028\u2029]+$/u);
      expect((error as Error).message).toContain(from);
    }),
    { numRuns: 300 },
  );
  expect(refusals).toBeGreaterThan(0);
});
