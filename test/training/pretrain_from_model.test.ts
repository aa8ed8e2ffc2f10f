import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readSafetensors } from '../../src/io/safetensors.ts';
import type { PretrainOptions } from '../../src/training/pretrain.ts';
import { expectClose } from '../goldens.ts';
import { tinyBert, writeTinyModel } from '../tiny_model.ts';
import { testFolder } from './corpora.ts';
import { remains, run, tinyRun, tokensPerStep } from './tiny_run.ts';

describe('going on from a model', () => {
  const start = async (changes: Partial<PretrainOptions> = {}, changesOfModel: Partial<PretrainOptions> = {}) => {
    const folder = testFolder();
    const model = join(folder, 'start');
    await run(model, tinyRun(folder, changesOfModel));
    // Of another shape and vocabulary than the model, which are not read.
    return { folder, model, options: tinyRun(folder, { layers: 1, hidden: 8, vocabulary: 60, model, ...changes }) };
  };
  const weights = async (folder: string) => {
    await using file = await readSafetensors(join(folder, 'model.safetensors'));
    return Promise.all(file.names.map(async (name) => [name, await file.read(name)] as const));
  };

  test('begins with its weights', async () => {
    const { folder, model, options } = await start({ tokens: tokensPerStep, learningRate: 1e-12 });
    await run(join(folder, 'next'), options);
    const [before, after] = [await weights(model), await weights(join(folder, 'next'))];
    expect(after.map(([name]) => name)).toEqual(before.map(([name]) => name));
    for (const [i, [name, values]] of after.entries()) expectClose(name, values as Float32Array, before[i][1] as Float32Array, 1e-9);
  });

  // 1 / sqrt(24), the position factor, which is not trained, is rounded in bf16.
  test.each<Partial<PretrainOptions>>([{}, { dtype: 'BF16' }])(
    'stopped and resumed, though the model is gone: the same bits as never stopped (%o)',
    async (changes) => {
      const { folder, model, options } = await start({ branchRate: 1, variedShare: 0.5, ...changes }, { hidden: 24 });
      await run(join(folder, 'whole'), options);
      const parts = join(folder, 'parts');
      const stop = new AbortController();
      await run(parts, options, { signal: stop.signal, onStep: ({ step }) => step === 7 && stop.abort() });
      rmSync(model, { recursive: true });
      await run(parts, options, { resume: true });
      expect(await remains(parts)).toEqual(await remains(join(folder, 'whole')));
    },
  );

  test('has its tokenizer and predicts as much of a sequence as it did', async () => {
    const { folder, model, options } = await start({ tokens: tokensPerStep });
    const config = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8'));
    config.arch.sparse_prediction = 0.01;
    writeFileSync(join(model, 'config.json'), JSON.stringify(config));
    await expect(run(join(folder, 'next'), options)).rejects.toThrow('--length 16 is too short: 1 % of a sequence are predicted');
    config.arch.sparse_prediction = 0.5;
    writeFileSync(join(model, 'config.json'), JSON.stringify(config));
    await run(join(folder, 'next'), options);
    expect(readFileSync(join(folder, 'next', 'tokenizer.json'))).toEqual(readFileSync(join(model, 'tokenizer.json')));
  });

  test('a BERT, which other texts are packed for, is refused', async () => {
    const { folder, options } = await start();
    const model = join(folder, 'bert');
    await writeTinyModel(model, tinyBert);
    await expect(run(join(folder, 'next'), { ...options, model })).rejects.toThrow(
      "bert: is of the family 'bert', expected one of a family that is trained on texts without [CLS]",
    );
  });

  test('a model of shorter sequences is refused', async () => {
    const { folder, model, options } = await start({ length: 32 });
    await expect(run(join(folder, 'next'), options)).rejects.toThrow(
      `${model}: the model takes at most 16 tokens, but sequences have 32: pass --length 16 or less`,
    );
    expect(existsSync(join(folder, 'next'))).toBe(false);
  });
});
