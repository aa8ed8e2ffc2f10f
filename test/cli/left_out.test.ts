/** What a checkpoint has and a command does not use is told of wherever a copy of it is made. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { writeSafetensors } from '../../src/io/safetensors_writer.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, tinyBert, writeTinyModel } from '../tiny_model.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();
const [model, train, corpus] = ['model', 'train.csv', 'corpus.txt'].map((name) => join(folder, name));

beforeAll(async () => {
  const base = join(folder, 'base');
  for (const to of [base, model]) await writeTinyModel(to, tinyBert, 'encoder');
  await using file = await readSafetensors(join(base, 'model.safetensors'));
  const tensors = [{ name: 'qa_outputs.weight', dtype: 'F32' as const, shape: [2, 16], values: new Float32Array(32) }];
  for (const name of file.names) tensors.push({ name, dtype: 'F32', shape: [...file.info(name).shape], values: await file.read(name) });
  await writeSafetensors(join(model, 'model.safetensors'), tensors);
  const sentences = generatedSentences();
  writeFileSync(
    train,
    `text,label\n${sentences
      .slice(0, 40)
      .map((text, i) => `${text},${i % 2}\n`)
      .join('')}`,
  );
  writeFileSync(corpus, sentences.map((text) => `${text} ${text}`).join('\n\n'));
});

const few = ['--fit-tokens', '200', '--tokens', '200', '--batch', '100', '--held-out-every', '10'];
const reference = ['--device', 'reference'];
test.each([
  ['safetensors', ['export', 'safetensors']],
  ['onnx', ['export', 'onnx']],
  ['finetune', ['finetune', '--train', train, '--epochs', '1', ...reference]],
  ['convert', ['convert', '--corpus', corpus, '--depth', '1', ...few, ...reference]],
])('%s', async (name, args) => {
  const { code, stderr } = await ufb([...args, '--model', model, '--out', join(folder, name)]);
  expect(code, stderr).toBe(0);
  expect(stderr.match(/left out, .*: qa_outputs\.weight\n/g)).toHaveLength(1);
});
