/** Lines of text, a tiny model, and the vectors that it makes of them: what the tests of `ufb embed` and its like begin with. */
import { existsSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect } from 'vitest';
import { parseNpy } from '../../src/io/npy.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';

export const folder = temporaryFolder();
export const [model, text, otherText] = ['model', 'lines.txt', 'other-lines.txt'].map((name) => join(folder, name));
export const lines = generatedSentences().slice(0, 60);
export let expected: Float32Array;
beforeAll(async () => {
  await writeTinyModel(model);
  for (const path of [text, otherText]) writeFileSync(path, `${lines.join('\n')}\n`);
  using embed = await pipeline('feature-extraction', model);
  expected = (await embed(lines, { pooling: 'mean' })).data;
});

export const common = ['--model', model, '--in', text];
export const close = (values: ArrayLike<number>) => {
  expect(values.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) expect(values[i]).toBeCloseTo(expected[i], 5);
};
/** As a run notes of what its vectors are made. */
export const stateOf = (path: string) => ({ path: realpathSync(path), size: statSync(path).size, mtimeMs: statSync(path).mtimeMs });
export const madeBy = (embeddingDtype = 'f32', from = model) => {
  const names = ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'].filter((name) =>
    existsSync(join(from, name)),
  );
  const files = Object.fromEntries(names.map((name) => [name, stateOf(join(from, name))]));
  return JSON.stringify({ '--model': files, '--in': stateOf(text), '--dtype': 'f32', width: 16, '--embedding-dtype': embeddingDtype });
};
export const matrix = (path: string) => parseNpy(readFileSync(path), path);
