import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { FailureError, InputError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { evaluateMaskedLanguageModel } from '../../src/training/evaluate.ts';
import type { StepReport } from '../../src/training/pretrain.ts';
import { generatedSentences } from '../tiny_model.ts';
import { testFolder, writeCorpus } from './corpora.ts';
import { remains, run, steadyClock, tinyRun, tokensPerStep, writeLetters } from './tiny_run.ts';

describe('a run', () => {
  const reports: StepReport[] = [];
  const notices: string[] = [];

  test('learns, and leaves a checkpoint, a curve and a state', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, {
      corpus: [writeLetters(folder)],
      vocabulary: 60,
      layers: 1,
      hidden: 32,
      batch: 4,
      tokens: 250 * 2 * tokensPerStep,
    });
    const result = await run(out, options, { onStep: (report) => void reports.push(report), onNotice: (line) => void notices.push(line) });
    expect(result).toMatchObject({ finished: true, step: 250, tokens: 250 * 2 * tokensPerStep });
    const mean = (values: StepReport[]) => values.reduce((sum, { loss }) => sum + loss, 0) / values.length;
    expect(mean(reports.slice(0, 5))).toBeGreaterThan(3.5);
    expect(mean(reports.slice(-20))).toBeLessThan(2.5);
    const heldOut = result.history.filter((point) => point.heldOutLoss !== undefined);
    expect(heldOut.at(-1)?.heldOutLoss).toBeLessThan(2.5);
    expect(result.history.filter((point) => point.loss !== undefined)).toHaveLength(12);
    expect(readdirSync(out).sort()).toEqual([
      'config.json',
      'loss.svg',
      'model.safetensors',
      'run',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(readdirSync(join(out, 'run')).sort()).toEqual(['options.json', 'state.safetensors']);
    expect(readFileSync(join(out, 'loss.svg'), 'utf8')).toMatch(/^<svg[\s\S]*tokens trained on[\s\S]*<\/svg>\s*$/);
    expect(notices).toEqual(['training a tokenizer of 60 entries']);

    using device = new ReferenceDevice();
    const scores = await evaluateMaskedLanguageModel({ device, model: out, text: options.corpus[0], seed: 0 });
    expect(scores.loss).toBeLessThan(scores.unigramLoss - 0.5);
    expect(scores.top1).toBeGreaterThan(scores.mostFrequentTop1);
    expect(scores.top5).toBeGreaterThan(scores.top1);
    expect(scores.tokens % 16).toBe(0);
    expect(scores.predicted).toBe(scores.tokens / 4);
    expect(scores.lossPerByte).toBeGreaterThan(0);
    expect(scores.lossPerByte).toBeLessThan(scores.loss);
    expect(scores.changedPaths).toBeUndefined();

    const blanks = await evaluateMaskedLanguageModel({ device, model: out, text: options.corpus[0], seed: 0, length: 8, blanks: 1 });
    expect(blanks.tokens % 8).toBe(0);
    expect(blanks.predicted).toBe(blanks.tokens / 8);
    expect(blanks.loss).not.toBeCloseTo(scores.loss, 3);

    const rounded = await evaluateMaskedLanguageModel({ device, model: out, text: options.corpus[0], seed: 0, dtype: 'i8' });
    expect(rounded.loss).toBeCloseTo(scores.loss, 1);
    expect(rounded.changedPaths).toBeGreaterThan(0);
    expect(rounded.changedPaths).toBeLessThan(0.05);
  });

  test('with --dtype bf16 leaves a model of half the size, which is the same but for rounding', async () => {
    const folder = testFolder();
    const out = join(folder, 'bf16');
    await run(out, tinyRun(folder, { dtype: 'BF16', tokens: 3 * tokensPerStep }));
    await run(join(folder, 'f32'), tinyRun(folder, { tokens: 3 * tokensPerStep }));
    await using halves = await readSafetensors(join(out, 'model.safetensors'));
    await using wholes = await readSafetensors(join(folder, 'f32', 'model.safetensors'));
    for (const name of wholes.names.filter((stored) => stored.endsWith('weight'))) {
      expect(halves.info(name)).toMatchObject({ dtype: 'BF16', shape: wholes.info(name).shape });
      const whole = await wholes.read(name);
      (await halves.read(name)).forEach((value, i) => {
        if (Math.abs(value - whole[i]) > Math.abs(whole[i]) / 256) throw new Error(`${name}[${i}] is ${value}, expected about ${whole[i]}`);
      });
    }
  });

  test('follows the schedule', () => {
    expect(reports).toHaveLength(250);
    reports.forEach(({ learningRate }, step) => {
      const progress = step / 250;
      expect(learningRate).toBeCloseTo(1e-2 * (progress <= 0.75 ? 0.25 + progress : (1 - progress) * 4), 9);
    });
  });
});

test('products in bf16 give another model, by the same steps', async () => {
  const folder = testFolder();
  const losses = [];
  for (const precision of ['f32', 'bf16'] as const) {
    const steps: number[] = [];
    await run(join(folder, precision), { ...tinyRun(folder), precision }, { onStep: ({ loss }) => void steps.push(loss) });
    losses.push(steps);
  }
  expect(losses[1]).not.toEqual(losses[0]);
  expect(losses[1]).toHaveLength(losses[0].length);
  expect(losses[1].at(-1)).toBeCloseTo(losses[0].at(-1) as number, 1);
});

test('thresholds follow their tokens after the share of the run in which one path learns for all', async () => {
  const folder = testFolder();
  const used = async (balance: number) => {
    const out = join(folder, `${balance}`);
    const { history } = await run(out, tinyRun(folder, { tokens: 200 * tokensPerStep, trees: 1, depth: 5, branchRate: 1, balance }));
    await using file = await readSafetensors(join(out, 'model.safetensors'));
    return { stored: file.names.filter((name) => name.endsWith('.ffn.thresholds')), layers: history.at(-1)?.layers ?? [] };
  };
  const [still, following] = [await used(0), await used(1)];
  expect(still.stored).toEqual([]);
  expect(following.stored).toEqual(['encoder.layers.0.ffn.thresholds', 'encoder.layers.1.ffn.thresholds']);
  following.layers.forEach(({ leaves, entropy }, layer) => {
    expect(leaves).toBe(32);
    expect(entropy).toBeGreaterThan(still.layers[layer].entropy + 0.5);
  });
});

test('with a branch rate neurons of a branch learn together: other weights, and moments of theirs in the state', async () => {
  const folder = testFolder();
  const [alone, together] = [0, 1].map((branchRate) => ({ out: join(folder, `${branchRate}`), branchRate }));
  const moments = [];
  for (const { out, branchRate } of [alone, together]) {
    await run(out, tinyRun(folder, { tokens: tokensPerStep, branchRate }));
    await using state = await readSafetensors(join(out, 'run', 'state.safetensors'));
    moments.push(state.names.filter((name) => name.startsWith('branches.0.mean.')));
  }
  expect(moments[0]).toEqual([]);
  expect(moments[1].length).toBeGreaterThan(0);
  expect((await remains(together.out)).model).not.toEqual((await remains(alone.out)).model);
});

describe('budgets and intervals', () => {
  test('in minutes: the schedule follows the clock, over all sessions', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: undefined, minutes: 2 });
    const rates: number[] = [];
    const stop = new AbortController();
    const onStep = ({ learningRate, progress }: StepReport) => {
      rates.push(learningRate);
      if (progress > 0.4) stop.abort();
    };
    await run(out, options, { now: steadyClock(), onStep, signal: stop.signal });
    const first = rates.length;
    const result = await run(out, options, { now: steadyClock(), resume: true, onStep });
    expect(result.finished).toBe(true);
    expect(result.seconds).toBeGreaterThanOrEqual(120);
    expect(result.seconds).toBeLessThan(140);
    expect(Math.max(...rates)).toBeGreaterThan(0.9e-2);
    expect(rates.at(-1)).toBeLessThan(0.2e-2);
    expect(rates[first]).toBeGreaterThan(rates[first - 1]);
  });

  test('held-out losses and saves come at their intervals', async () => {
    const folder = testFolder();
    const evaluations: number[] = [];
    const saves: number[] = [];
    await run(join(folder, 'out'), tinyRun(folder), {
      now: steadyClock(),
      evaluateEvery: 10,
      checkpointEvery: 40,
      onEvaluation: ({ step }) => void evaluations.push(step),
      onCheckpoint: ({ step }) => void saves.push(step),
    });
    expect(evaluations.length).toBeGreaterThan(3);
    expect(saves.length).toBeGreaterThan(1);
    expect(evaluations.length).toBeGreaterThan(saves.length);
    expect(evaluations.at(-1)).toBe(30);
    expect(saves.at(-1)).toBe(30);
  });

  test('a held-out file takes the place of the held-out share', async () => {
    const folder = testFolder();
    const heldOut = writeCorpus(folder, 'held-out.txt', [generatedSentences().slice(0, 40)]);
    const result = await run(join(folder, 'out'), tinyRun(folder, { heldOut, tokens: tokensPerStep }));
    expect(result.history.at(-1)?.heldOutLoss).toBeGreaterThan(0);
    const short = writeCorpus(folder, 'short.txt', [['a']]);
    await expect(run(join(folder, 'out2'), tinyRun(folder, { heldOut: short }))).rejects.toThrow(/short\.txt: is too short/);
  });

  test('too few documents for a held-out share: a notice, and no held-out loss', async () => {
    const folder = testFolder();
    const notices: string[] = [];
    const result = await run(join(folder, 'out'), tinyRun(folder, { heldOutEvery: 1000, tokens: tokensPerStep }), {
      onNotice: (line) => void notices.push(line),
    });
    expect(result.history).toEqual([]);
    expect(notices.join()).toMatch(/no held-out loss: one document of 1000 is held out, which in no file makes 16 tokens; .*--held-out/);
  });
});

describe('what stops a run', () => {
  test('a loss that is not finite: step, learning rate and last good checkpoint are named, which stays as it was', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder);
    let saved: Buffer | undefined;
    const device = new ReferenceDevice();
    const poison = device.adamw.bind(device);
    let updates = 0;
    device.adamw = (a) => {
      poison(a);
      if (saved && ++updates === 40) device.fill({ output: a.parameter, value: Number.NaN });
    };
    const failure = run(
      out,
      options,
      {
        now: steadyClock(),
        checkpointEvery: 12,
        onCheckpoint: () => {
          saved ??= readFileSync(join(out, 'model.safetensors'));
          updates = 0;
        },
      },
      device,
    ).catch((error) => error);
    const error = await failure;
    expect(error).toBeInstanceOf(FailureError);
    expect(error.message).toMatch(
      /^step \d+: the (loss|gradient's norm) is not finite \(learning rate 0\.\d+\); the last good checkpoint is that of step \d+ in .*out/,
    );
    await using state = await readSafetensors(join(out, 'run', 'state.safetensors'));
    for (const name of state.names) if (!name.startsWith('stream')) expect((await state.read(name)).every(Number.isFinite)).toBe(true);
  });

  test('a folder that holds a run, or anything else, is left alone', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: tokensPerStep });
    await run(out, options);
    const before = await remains(out);
    await expect(run(out, options)).rejects.toThrow(/holds a run already; add --resume/);
    expect(await remains(out)).toEqual(before);
    await expect(run(folder, options)).rejects.toThrow(/is not empty/);
    // States whose options are gone would be gone on from.
    rmSync(join(out, 'run', 'options.json'));
    for (const file of readdirSync(out)) if (file !== 'run') rmSync(join(out, file));
    await expect(run(out, options)).rejects.toThrow(/is not empty/);
    await expect(run(join(folder, 'none'), options, { resume: true })).rejects.toThrow(/no run to resume/);
  });

  test('an out folder that cannot be written', async () => {
    const folder = testFolder();
    const file = join(folder, 'file');
    writeFileSync(file, '');
    await expect(run(file, tinyRun(folder))).rejects.toThrow(InputError);
    await expect(run(join(file, 'out'), tinyRun(folder))).rejects.toThrow(InputError);
  });

  test('a bad corpus or model leaves nothing half written', async () => {
    const folder = testFolder();
    const empty = join(folder, 'empty.txt');
    writeFileSync(empty, '\n\n');
    const out = join(folder, 'out');
    await expect(run(out, tinyRun(folder, { corpus: [empty] }))).rejects.toThrow(InputError);
    expect(existsSync(out)).toBe(false);
    await expect(run(out, tinyRun(folder, { heads: 3 }))).rejects.toThrow(/16.*3/);
    expect(existsSync(out)).toBe(false);
    await expect(run(out, tinyRun(folder, { length: 2 }))).rejects.toThrow('--length 2 is too short');
    expect(existsSync(out)).toBe(false);
    await expect(run(out, tinyRun(folder, { corpus: [join(folder, 'missing.txt')] }))).rejects.toThrow(/missing\.txt/);
    expect(existsSync(out)).toBe(false);
  });
});
