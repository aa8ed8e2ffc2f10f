import { expect, test } from 'vitest';
import { FailureError } from '../../src/errors.ts';
import { unigramLoss, verdictOnConversion, verdictOnFineTuning, verdictOnPretraining } from '../../src/training/verdict.ts';
import { testFolder, writeCorpus } from './corpora.ts';
import { run, tinyRun, tokensPerStep, writeLetters } from './tiny_run.ts';

test('the loss of token frequencies: each counted once more, labels below 0 left out', () => {
  // 3, 1 and 0 of 4, and one more each: 4, 2 and 1 of 7.
  const loss = unigramLoss(Int32Array.of(0, 0, 1, 0), [Int32Array.of(0, -100), Int32Array.of(2)], 3);
  expect(loss).toBeCloseTo((Math.log(7 / 4) + Math.log(7)) / 2, 12);
});

test('a pretraining: diverged above guessing, told of above token frequencies', () => {
  expect(verdictOnPretraining(3.4, 3, 100)).toEqual({ diverged: false });
  expect(verdictOnPretraining(3.6, 3, 100)).toEqual({
    diverged: false,
    notice: expect.stringMatching(
      /^the loss ends at 3\.60 nats, far above the 3\.00 of token frequencies alone: .*learned next to nothing/,
    ),
  });
  expect(verdictOnPretraining(5.7, 3, 100)).toEqual({
    diverged: true,
    notice: expect.stringMatching(/^the loss ends at 5\.70 nats, where guessing evenly among all tokens has 4\.61: the training diverged/),
  });
});

test('a fine-tuning and a conversion', () => {
  expect(verdictOnFineTuning([0.7, 1.6], 2)).toEqual({ diverged: false });
  expect(verdictOnFineTuning([0.7, 1.8], 2)).toMatchObject({ diverged: true, notice: expect.stringContaining('guessing evenly has 0.69') });
  expect(verdictOnFineTuning([2, 4.9], 1)).toEqual({ diverged: false });
  expect(verdictOnFineTuning([2, 5.1], 1)).toMatchObject({ diverged: true });
  expect(verdictOnConversion([])).toEqual({ diverged: false });
  expect(verdictOnConversion([0.9, 0.2])).toEqual({ diverged: false });
  expect(verdictOnConversion([0.9, -0.2])).toMatchObject({ diverged: false, notice: expect.stringContaining('R2 of -0.20') });
  expect(verdictOnConversion([-3, 0.5])).toMatchObject({ diverged: true });
});

test('a run with a learning rate far too high ends finite, and is no success', async () => {
  const folder = testFolder();
  const notices: string[] = [];
  const options = tinyRun(folder, { learningRate: 3, schedule: 'constant', feedforward: 'dense', tokens: 8 * tokensPerStep });
  const result = await run(`${folder}/out`, options, { onNotice: (line) => void notices.push(line) }).catch((error) => error);
  expect(result).not.toBeInstanceOf(FailureError);
  expect(result).toMatchObject({ finished: true, diverged: true });
  expect(notices.at(-1)).toMatch(/the training diverged; start again with a lower --learning-rate$/);
});

test('how often the corpus was trained on', async () => {
  const folder = testFolder();
  const corpus = writeLetters(folder);
  const passesAfter = async (steps: number) =>
    (
      await run(
        `${folder}/${steps}`,
        tinyRun(folder, { corpus: [corpus], vocabulary: 60, heldOutEvery: 0, heldOut: corpus, tokens: steps * tokensPerStep }),
      )
    ).passes;
  // 104 documents of three paragraphs of 30 letters and an end.
  const tokens = 104 * 3 * 31;
  for (const steps of [40, 200, 500]) expect(await passesAfter(steps), `${steps}`).toBeCloseTo((steps * tokensPerStep) / tokens, 1);
  const cyrillic = writeCorpus(
    folder,
    'cyrillic.txt',
    Array.from({ length: 100 }, () => ['кошка видит дом и собаку']),
  );
  const whole = await run(
    `${folder}/cyrillic`,
    tinyRun(folder, { corpus: [cyrillic], vocabulary: 60, heldOutEvery: 0, heldOut: cyrillic, tokens: 30 * tokensPerStep }),
  );
  expect(whole.passes).toBeGreaterThan(0.3);
});
