/** A model with more tokens than BERT's multilingual one: tests are otherwise made with a hundred. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openRunFolder } from '../../src/training/run_folder.ts';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyModel } from '../tiny_model.ts';
import { ufb } from './ufb.ts';

test('is exported, and its tokenizer is what a run resumes with', async () => {
  const folder = temporaryFolder();
  const [model, out] = ['model', 'out'].map((name) => join(folder, name));
  const vocabularySize = 300_000;
  await writeTinyModel(model, { ...tinyBert, vocabSize: vocabularySize, hiddenSize: 2 }, 'encoder');
  const path = join(model, 'tokenizer.json');
  const json = JSON.parse(readFileSync(path, 'utf8'));
  const { vocab } = json.model;
  for (let id = Object.keys(vocab).length; id < vocabularySize; id++) vocab[`[unused${id}]`] = id;
  writeFileSync(path, JSON.stringify(json));

  const { code, stderr } = await ufb(['export', 'safetensors', '--model', model, '--out', out]);
  expect(code, stderr).toBe(0);
  const written = readFileSync(join(out, 'tokenizer.json'), 'utf8');
  expect(JSON.parse(written).model.vocab).toEqual(vocab);

  const run = join(folder, 'run');
  const open = (resume: boolean) => openRunFolder(run, { kind: 'finetune', resume, inputs: {} });
  const started = await open(false);
  writeFileSync(join(run, 'tokenizer.json'), written);
  await started.record({});
  await started.close();
  await (await open(true)).close();
  writeFileSync(join(run, 'tokenizer.json'), written.replace('[unused299999]', '[unused-other]'));
  await expect(open(true)).rejects.toThrow('tokenizer.json: is not what the run was started with');
});
