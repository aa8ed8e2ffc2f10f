import { mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/errors.ts';
import type { PretrainOptions, StepReport } from '../../src/training/pretrain.ts';
import { testFolder } from './corpora.ts';
import { remains, run, steadyClock, tinyRun, tokensPerStep, withState } from './tiny_run.ts';

describe('resuming', () => {
  test.each<Partial<PretrainOptions>>([
    { feedforward: 'fff' },
    { feedforward: 'fff', variedShare: 0.5 },
    { feedforward: 'fff', leafWidth: 3, depth: 4, branchRate: 1 },
    { feedforward: 'fff', branchRate: 1, balance: 0.3 },
    { feedforward: 'fff', balance: 0.3, accumulate: 2, dtype: 'BF16' },
    { feedforward: 'dense' },
  ])('goes on exactly (%o): stopped three times, the same bits as never stopped', async (changes) => {
    const folder = testFolder();
    const options = tinyRun(folder, changes);
    const whole = join(folder, 'whole');
    await run(whole, options);
    const parts = join(folder, 'parts');
    for (const [session, stopAfter] of [7, 8, 25, 100].entries()) {
      const stop = new AbortController();
      const onStep = ({ step }: StepReport) => step === stopAfter && stop.abort();
      const result = await run(parts, options, { resume: session > 0, signal: stop.signal, onStep });
      expect(result.finished).toBe(session === 3);
    }
    const expected = await remains(whole);
    // The last held-out loss is taken at the end in both; nothing else tells the two apart.
    expect(await remains(parts)).toEqual(expected);
  });

  test('after a crash between saves goes on from the last save', async () => {
    const folder = testFolder();
    const options = tinyRun(folder);
    const whole = join(folder, 'whole');
    await run(whole, options);
    const crashed = join(folder, 'crashed');
    const saves: number[] = [];
    const crash = run(crashed, options, {
      checkpointEvery: 12,
      now: steadyClock(),
      onCheckpoint: ({ step }) => void saves.push(step),
      onStep: ({ step }) => {
        if (step === 17) throw new Error('crash');
      },
    });
    await expect(crash).rejects.toThrow('crash');
    expect(saves.length).toBeGreaterThan(0);
    expect(saves.at(-1)).toBeLessThan(17);
    const steps: number[] = [];
    await run(crashed, options, { resume: true, onStep: ({ step }) => void steps.push(step) });
    expect(steps[0]).toBe((saves.at(-1) as number) + 1);
    expect(await remains(crashed)).toEqual(await remains(whole));
  });

  test('after a crash in the midst of the last save writes the model after all', async () => {
    const folder = testFolder();
    const options = tinyRun(folder, { tokens: 3 * tokensPerStep });
    const whole = join(folder, 'whole');
    await run(whole, options);
    const crashed = join(folder, 'crashed');
    const blockade = join(crashed, 'model.safetensors');
    await expect(run(crashed, options, { onStep: ({ step }) => void (step === 3 && mkdirSync(blockade)) })).rejects.toThrow(InputError);
    rmdirSync(blockade);
    await run(crashed, options, { resume: true });
    expect(await remains(crashed)).toEqual(await remains(whole));
  });

  test('a run that was stopped before its first save starts again', async () => {
    const folder = testFolder();
    const options = tinyRun(folder);
    const out = join(folder, 'out');
    await expect(
      run(out, options, {
        onStep: () => {
          throw new Error('crash');
        },
      }),
    ).rejects.toThrow('crash');
    const notices: string[] = [];
    const result = await run(out, options, { resume: true, onNotice: (line) => void notices.push(line) });
    expect(result).toMatchObject({ finished: true, step: 30 });
    expect(notices.join()).toMatch(/starting again/);
  });

  test('what is no run, or one of another command, is refused', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: tokensPerStep });
    await run(out, options);
    const file = join(out, 'run', 'options.json');
    const stored = JSON.parse(readFileSync(file, 'utf8'));
    expect(stored.command).toBe('pretrain');
    for (const [content, message] of [
      [{ ...stored, command: 'convert' }, "out: holds a run of 'ufb convert', expected one of 'ufb pretrain'"],
      [null, "options.json: 'the value' is null, expected Object, as 'ufb pretrain' writes it; put back a copy"],
    ] as const) {
      writeFileSync(file, JSON.stringify(content));
      await expect(run(out, options, { resume: true })).rejects.toThrow(message);
    }
    // Runs that are older than the command's name.
    const { command, run: _, ...older } = stored;
    writeFileSync(file, JSON.stringify(older));
    expect(await run(out, options, { resume: true })).toMatchObject({ finished: true });
  });

  test('a state whose records are not what they must be is refused', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: tokensPerStep });
    await run(out, options);
    await withState(out, (metadata) => ({ ...metadata, progress: (metadata.progress as string).replace('step', 'stop') }));
    await expect(run(out, options, { resume: true })).rejects.toThrow(
      /^.*state\.safetensors: the record 'progress' is damaged: 'step' is missing; put back/,
    );
  });

  test.each([
    [
      'value.encoder.layers.0.attn.dense.weight',
      Number.NaN,
      /tensor 'value\..*dense\.weight' holds NaN at element 1, expected finite numbers; put back/,
    ],
    ['variance.encoder.layers.0.attn.dense.weight', Number.POSITIVE_INFINITY, /'variance\..*weight' holds Infinity at element 1/],
    ['stream.pool', -7, /tensor 'stream\.pool' holds -7 at element 1, expected 0 to \d+; put back/],
    ['stream.pool', 1e6, /tensor 'stream\.pool' holds 1000000 at element 1/],
  ])('a state of before there were checksums, of which %s holds %d, is refused by its name', async (tensor, value, message) => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: tokensPerStep });
    await run(out, options);
    let changed = 0;
    await withState(
      out,
      (metadata) => metadata,
      (name, values) => {
        if (name !== tensor) return;
        values[1] = value;
        changed++;
      },
    );
    expect(changed).toBe(1);
    await expect(run(out, options, { resume: true })).rejects.toThrow(message);
    await expect(run(out, options, { resume: true })).rejects.toThrow(/^.*run\/state\.safetensors: /);
  });

  test('a damaged state is refused in one line', async () => {
    const folder = testFolder();
    const out = join(folder, 'out');
    const options = tinyRun(folder, { tokens: tokensPerStep });
    await run(out, options);
    const file = join(out, 'run', 'state.safetensors');
    writeFileSync(file, readFileSync(file).subarray(0, statSync(file).size - 100));
    await expect(run(out, options, { resume: true })).rejects.toThrow(InputError);
    await expect(run(out, { ...options, hidden: 32 }, { resume: true })).rejects.toThrow(InputError);
  });
});
