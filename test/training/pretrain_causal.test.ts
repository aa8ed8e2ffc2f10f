import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { evaluateCausalLanguageModel } from '../../src/training/evaluate_causal.ts';
import type { PretrainOptions } from '../../src/training/pretrain.ts';
import { testFolder, writeCorpus } from './corpora.ts';
import { remains, run, tinyRun, writeLetters } from './tiny_run.ts';

const tokensPerStep = 2 * 2 * 16;
const json = (...path: string[]) => JSON.parse(readFileSync(join(...path), 'utf8'));

/** A run of some steps in which each next token is predicted. */
const causalRun = (folder: string, changes: Partial<PretrainOptions> = {}): PretrainOptions =>
  tinyRun(folder, { objective: 'causal', vocabulary: 300, tokens: 6 * tokensPerStep, ...changes });

test('learns to go on, leaves a decoder that writes and can be measured', async () => {
  const folder = testFolder();
  const out = join(folder, 'out');
  const notices: string[] = [];
  const options = causalRun(folder, { corpus: [writeLetters(folder)], layers: 1, hidden: 32, batch: 4, tokens: 200 * 2 * tokensPerStep });
  const result = await run(out, options, { onNotice: (line) => void notices.push(line) });
  expect(result).toMatchObject({ finished: true, step: 200, diverged: false });
  expect(notices).toEqual(['training a tokenizer of 300 entries']);
  expect(result.history.findLast(({ heldOutLoss }) => heldOutLoss !== undefined)?.heldOutLoss).toBeLessThan(1);
  expect(json(out, 'config.json')).toMatchObject({
    model_type: 'ultrafastgpt',
    n_positions: 16,
    n_embd: 32,
    eos_token_id: 0,
    bos_token_id: 0,
  });
  expect(json(out, 'tokenizer.json').model.type).toBe('BPE');

  using device = new ReferenceDevice();
  const scores = await evaluateCausalLanguageModel({ device, model: out, text: options.corpus[0], maxTokens: 800 });
  expect(scores.loss).toBeLessThan(scores.unigramLoss - 1);
  expect(scores.top1).toBeGreaterThan(0.7);
  expect(scores.tokens).toBe(800);
  expect(scores.bitsPerByte).toBeGreaterThan(0);

  const generator = await pipeline('text-generation', out, { device });
  expect((await generator('k k k k', { max_new_tokens: 3 }))[0].generated_text).toBe('k k k k k k k');
  await generator.dispose();
});

describe.each(['fff', 'dense', 'none'] as const)('feedforward %s', (feedforward) => {
  test('a run that was stopped goes on with the same bits', async () => {
    const folder = testFolder();
    const [whole, parts] = [join(folder, 'whole'), join(folder, 'parts')];
    const options = causalRun(folder, { feedforward, balance: 0.3, branchRate: 1 });
    await run(whole, options);
    const stop = new AbortController();
    const first = await run(parts, options, { signal: stop.signal, onStep: ({ step }) => step === 3 && stop.abort() });
    expect(first).toMatchObject({ finished: false, step: 3 });
    await run(parts, options, { resume: true });
    expect(await remains(parts)).toEqual(await remains(whole));
    expect(json(parts, 'config.json').model_type).toBe(feedforward === 'dense' ? 'gpt2' : 'ultrafastgpt');
  });
});

test('a run goes on from a decoder, with its shape and tokenizer', async () => {
  const folder = testFolder();
  const [first, second] = [join(folder, 'first'), join(folder, 'second')];
  await run(first, causalRun(folder));
  const result = await run(second, causalRun(folder, { model: first, hidden: 999 }));
  expect(result.finished).toBe(true);
  expect(json(second, 'config.json')).toEqual(json(first, 'config.json'));
  expect(json(second, 'tokenizer.json')).toEqual(json(first, 'tokenizer.json'));
});

test('a tokenizer without an end of text is refused', async () => {
  const folder = testFolder();
  const masked = join(folder, 'masked');
  await run(masked, tinyRun(folder, { tokens: tokensPerStep }));
  const tokenizer = join(masked, 'tokenizer.json');
  await expect(run(join(folder, 'out'), causalRun(folder, { tokenizer }))).rejects.toThrow(
    `${tokenizer}: has no <|endoftext|> token, which pretraining needs`,
  );
});

test('within documents, what a document begins with is learned without the one before', async () => {
  const folder = testFolder();
  // Each document is the letter after that of the one before: to be predicted only of what is before the document.
  const letters = Array.from('abcdefghijklmnop');
  const corpus = [
    writeCorpus(
      folder,
      'a.txt',
      Array.from({ length: 400 }, (_, i) => [letters[i % letters.length].repeat(2)]),
    ),
  ];
  const options = { corpus, layers: 1, hidden: 32, heldOutEvery: 0, tokens: 150 * tokensPerStep, shuffle: 8 };
  const lossOf = async (name: string, changes: Partial<PretrainOptions>) => {
    const { history } = await run(join(folder, name), causalRun(folder, { ...options, ...changes }));
    return history.findLast(({ loss }) => loss !== undefined)?.loss as number;
  };
  const [packed, within] = [await lossOf('packed', {}), await lossOf('within', { withinDocuments: true })];
  // Of two tokens a document the letters are then a guess among 16.
  expect(packed).toBeLessThan(0.3);
  expect(within).toBeCloseTo(Math.log(16) / 2, 1);
});
