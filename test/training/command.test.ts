/** `ufb pretrain` and `ufb eval` as users run them: the built program in a process of its own. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadAddon } from '../../src/backend/native_loader.ts';
import { program, ufb } from '../cli/ufb.ts';
import { generatedSentences } from '../tiny_model.ts';
import { testFolder, writeCorpus } from './corpora.ts';

const sentences = generatedSentences();
const documents = Array.from({ length: 43 }, (_, i) => sentences.slice(i * 5, i * 5 + 5));

function tinyRun(folder: string, ...options: string[]): string[] {
  const corpus = writeCorpus(folder, 'corpus.txt', documents);
  const shape = '--vocabulary 100 --layers 1 --hidden 16 --heads 2 --depth 3 --length 16 --batch 2 --shuffle 64 --held-out-every 9'.split(
    ' ',
  );
  return ['pretrain', '--corpus', corpus, '--out', join(folder, 'out'), ...shape, ...options];
}

/** The arguments without an option and its value. */
const omitting = (option: string, args: string[]) => args.filter((argument, i) => argument !== option && args[i - 1] !== option);

const reference = ['--device', 'reference'];
const devices = [reference, ...(loadAddon().addon ? [['--device', 'native', '--threads', '2']] : [])];

describe.each(devices.map((device) => ({ device })))('pretrain $backend', ({ device }) => {
  test('prints one line, shows no bar without a terminal, logs JSON lines; eval agrees with the held-out loss', async () => {
    const folder = testFolder();
    const log = join(folder, 'log.jsonl');
    const heldOut = writeCorpus(folder, 'held-out.txt', [sentences.slice(50, 90)]);
    const args = tinyRun(folder, '--tokens', '640', '--held-out', heldOut, '--log', log, ...device);
    const { code, stdout, stderr } = await ufb(args);
    expect(stderr).toMatch(
      /^training a tokenizer of 100 entries\nthe loss ends at \d\.\d\d nats, far above the \d\.\d\d of token frequencies alone: .*\n$/,
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^done: step 20, 640 tokens \(the corpus [\d.]+ times\), \d+ s, held-out loss \d\.\d{4}, leaf use \d\.\d of 3 bits, \d of 8 leaves, [\d.]+ % in the most crowded; .*out\n$/,
    );
    const lines = readFileSync(log, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.shift()).toMatchObject({ event: 'start', step: 0 });
    expect(lines.map(({ event }) => event)).toEqual([...new Array(20).fill('step'), 'evaluation', 'checkpoint']);
    expect(lines[19]).toMatchObject({ step: 20, tokens: 640, progress: 1, loss: expect.any(Number), gradientNorm: expect.any(Number) });

    const scores = await ufb(['eval', 'mlm', '--model', join(folder, 'out'), '--text', heldOut, '--json', ...device]);
    expect(scores.code).toBe(0);
    const result = JSON.parse(scores.stdout);
    expect(Object.keys(result).sort()).toEqual([
      'layers',
      'loss',
      'lossPerByte',
      'mostFrequentTop1',
      'predicted',
      'tokens',
      'top1',
      'top5',
      'unigramLoss',
    ]);
    expect(result.loss).toBeCloseTo(lines[20].heldOutLoss, 4);
    const text = await ufb([
      'eval',
      'mlm',
      '--model',
      join(folder, 'out'),
      '--text',
      heldOut,
      '--seed',
      '1',
      '--max-tokens',
      '100',
      ...device,
    ]);
    expect(text.code).toBe(0);
    expect(text.stdout).toMatch(/^loss +[\d.]+ nats per predicted token, [\d.]+ nats per byte\n/);
    expect(text.stdout).toMatch(/tokens +96, 24 of them predicted\n\n +leaves used .*\nlayer 1 +\d of 8 /);
  });

  // The slow backend shows what does not depend on the backend once.
  const signals = ['SIGINT', 'SIGTERM', 'SIGKILL'] as const;
  test.each(devices.length > 1 && device === reference ? signals.slice(0, 1) : signals)(
    '%s and --resume: the same bits as a run that was never stopped',
    async (signal) => {
      const folder = testFolder();
      const whole = await ufb([...tinyRun(folder, '--tokens', '4800', '--quiet', ...device), '--out', join(folder, 'whole')]);
      expect(whole.code).toBe(0);
      // Stopped as soon as it has saved once; however far it has come by then.
      const log = join(folder, 'log.jsonl');
      const args = tinyRun(folder, '--tokens', '4800', '--checkpoint-every', '0.02', '--log', log, ...device);
      const child = spawn(process.execPath, [program, ...args]);
      let stdout = '';
      child.stdout.on('data', (text) => (stdout += text));
      const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
      while (child.exitCode === null && !(existsSync(log) && readFileSync(log, 'utf8').includes('checkpoint')))
        await new Promise((resolve) => setTimeout(resolve, 5));
      child.kill(signal);
      const code = await ended;
      if (signal === 'SIGKILL') expect(code).toBeNull();
      else expect(`${code} ${stdout}`).toMatch(/^(1 stopped \(go on with --resume\)|0 done): step \d+/);
      const resumed = await ufb([...args, '--resume', '--quiet']);
      expect(resumed.stderr).toBe('');
      expect(resumed.code).toBe(0);
      expect(readFileSync(join(folder, 'out', 'model.safetensors'))).toEqual(readFileSync(join(folder, 'whole', 'model.safetensors')));
      expect(
        readdirSync(join(folder, 'out'))
          .filter((name) => !name.startsWith('.'))
          .sort(),
      ).toEqual(['config.json', 'loss.svg', 'model.safetensors', 'run', 'tokenizer.json', 'tokenizer_config.json']);
    },
  );
});

const budget = ['--tokens', '320'];

test('pretrain --model goes on from a model, whose shape it has', async () => {
  const folder = testFolder();
  expect((await ufb(tinyRun(folder, ...budget, ...reference))).code).toBe(0);
  const model = join(folder, 'out');
  const next = [
    'pretrain',
    '--model',
    model,
    '--corpus',
    join(folder, 'corpus.txt'),
    '--out',
    join(folder, 'next'),
    ...budget,
    ...reference,
  ];
  const shaped = await ufb([...next, '--leaf-width', '2']);
  expect(shaped.code).toBe(2);
  expect(shaped.stderr).toMatch(/--model and --leaf-width are both given: the model has its shape and its tokenizer/);
  const dense = join(folder, 'dense');
  const denseRun = omitting('--depth', tinyRun(folder, ...budget, ...reference, '--feedforward', 'dense'));
  expect(await ufb([...denseRun, '--out', dense])).toMatchObject({ code: 0 });
  for (const option of ['--balance', '--branch-rate']) {
    const treeless = await ufb([...next, '--model', dense, option, '0.1']);
    expect(treeless).toMatchObject({
      code: 2,
      stderr: `ufb: ${option} is given, which --model ${dense}, of dense feedforward layers, does not have\n`,
    });
  }
  const varied = ['--length', '16', '--batch', '2', '--shuffle', '64', '--varied-share', '0.5', '--balance', '0.1'];
  expect(await ufb([...next, ...varied])).toMatchObject({ code: 0 });
  expect(JSON.parse(readFileSync(join(folder, 'next', 'config.json'), 'utf8')).arch.hidden_size).toBe(16);
  expect(await ufb([...next, ...varied, '--resume'])).toMatchObject({ code: 0 });
  const without = await ufb(tinyRun(folder, ...budget, ...reference, '--resume', '--tokenizer', join(model, 'tokenizer.json')));
  expect(without).toMatchObject({ code: 2, stderr: expect.stringContaining('--tokenizer: the run was started without it; leave it out') });
  const all = await ufb([...next, '--varied-share', '1.5']);
  expect(all).toMatchObject({ code: 2, stderr: expect.stringContaining('--varied-share 1.5 is more than all batches, 1') });
});

test.skipIf(process.platform === 'win32')(
  'a stop is saved though nobody reads what is said: `2>&1 | tee log`, and Ctrl-C ends both',
  async () => {
    const folder = testFolder();
    const log = join(folder, 'log.jsonl');
    const child = spawn(process.execPath, [program, ...tinyRun(folder, '--tokens', '100000000', '--log', log, ...reference)]);
    child.stdout.destroy();
    child.stderr.destroy();
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
    while (child.exitCode === null && !(existsSync(log) && readFileSync(log, 'utf8').includes('step')))
      await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGINT');
    expect(await ended).toBe(1);
    expect(readdirSync(join(folder, 'out', 'run'))).toContain('state.safetensors');
  },
);

test('a log lies elsewhere than the run and than what is read, and a run that is refused leaves none', async () => {
  const folder = testFolder();
  const refused = async (log: string, message: RegExp, ...more: string[]) => {
    const { code, stderr } = await ufb([...tinyRun(folder, ...budget, ...reference, '--log', log), ...more]);
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  };
  await refused(join(folder, 'out', 'log.jsonl'), /lies in .*out, which is kept for the run/);
  await refused(join(folder, 'corpus.txt'), /corpus\.txt, which is read: expected another/);
  await refused(join(folder, 'log.jsonl'), /none\.txt/, '--corpus', join(folder, 'none.txt'));
  expect(readdirSync(folder)).toEqual(['corpus.txt']);
});

test('without the native part it trains in WASM, and says so', async () => {
  const { code, stderr } = await ufb(tinyRun(testFolder(), ...budget, '--threads', '1'), '', { UFB_NATIVE: '0' });
  expect(stderr.split('\n')[0]).toMatch(/UFB_NATIVE=0; using WASM, which is slower$/);
  expect(code).toBe(0);
});

describe('refusals: one line, exit code 2', () => {
  const cases: [string, (folder: string) => string[], RegExp][] = [
    ['no corpus', (folder) => ['pretrain', '--out', join(folder, 'out'), ...budget], /--corpus FILE\.\.\. is missing/],
    ['no budget', (folder) => tinyRun(folder), /the budget is missing/],
    ['two budgets', (folder) => tinyRun(folder, ...budget, '--minutes', '1'), /one budget/],
    ['a number that is none', (folder) => tinyRun(folder, '--tokens', 'many'), /--tokens.*whole number/],
    ['a learning rate of 0', (folder) => tinyRun(folder, ...budget, '--learning-rate', '0'), /--learning-rate.*greater than 0/],
    ['heads that do not divide', (folder) => tinyRun(folder, ...budget, '--heads', '3'), /16.*3/],
    ['a tree too deep', (folder) => tinyRun(folder, ...budget, '--depth', '40'), /depth/],
    [
      'a missing tokenizer',
      (folder) => [...omitting('--vocabulary', tinyRun(folder, ...budget)), '--tokenizer', join(folder, 'none.json')],
      /none\.json.*no such file/,
    ],
    ['a folder as log', (folder) => tinyRun(folder, ...budget, '--log', folder), /cannot write/],
    ['a revision of nothing', (folder) => tinyRun(folder, ...budget, '--revision', 'main'), /--revision is of a model on the hub/],
    [
      'trees of dense layers',
      (folder) => tinyRun(folder, ...budget, '--feedforward', 'dense'),
      /--depth is given, which --feedforward dense/,
    ],
    ['nothing at all as a path', (folder) => [...tinyRun(folder, ...budget), '--out', ''], /--out is empty/],
    ['nothing to resume', (folder) => tinyRun(folder, ...budget, '--resume'), /no run to resume/],
  ];
  test.each(cases)('%s', async (_, args, message) => {
    const folder = testFolder();
    const { code, stdout, stderr } = await ufb([...args(folder), ...reference]);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^ufb: .*\n(\(see --help\)\n)?$/);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(existsSync(join(folder, 'out'))).toBe(false);
  });

  test('a run that is there already, and other options than it was started with', async () => {
    const folder = testFolder();
    expect((await ufb(tinyRun(folder, ...budget, ...reference))).code).toBe(0);
    const again = await ufb(tinyRun(folder, ...budget, ...reference));
    expect(again.code).toBe(2);
    expect(again.stderr).toMatch(/holds a run already; add --resume/);
    const other = await ufb(tinyRun(folder, ...budget, ...reference, '--resume', '--learning-rate', '0.1'));
    expect(other.code).toBe(2);
    expect(other.stderr).toMatch(/--learning-rate 0\.1 differs from the run's 0\.001/);
    const path = join(folder, 'out', 'run', 'options.json');
    const { branchRate, run: _, ...older } = JSON.parse(readFileSync(path, 'utf8'));
    expect(branchRate).toBe(1);
    expect((await ufb(tinyRun(folder, ...budget, ...reference, '--resume', '--branch-rate', '1'))).code).toBe(0);
    // As runs wrote it that are older than the option, and trained without.
    writeFileSync(path, JSON.stringify(older));
    const changed = await ufb(tinyRun(folder, ...budget, ...reference, '--resume', '--branch-rate', '1'));
    expect(changed).toMatchObject({ code: 2, stderr: expect.stringContaining("--branch-rate 1 differs from the run's 0;") });
    writeFileSync(path, JSON.stringify({ branchRate, ...older }));
    expect((await ufb(tinyRun(folder, ...budget, ...reference, '--resume'))).code).toBe(0);
  });

  test('eval: no model, a text too short, a text that is none', async () => {
    const folder = testFolder();
    expect((await ufb(tinyRun(folder, ...budget, ...reference))).code).toBe(0);
    const model = join(folder, 'out');
    const short = join(folder, 'short.txt');
    writeFileSync(short, 'the cat\n');
    const binary = join(folder, 'binary.txt');
    writeFileSync(binary, Buffer.alloc(1000));
    mkdirSync(join(folder, 'nothing'));
    for (const [args, message] of [
      [['--model', join(folder, 'nothing'), '--text', short], /lacks config\.json/],
      [['--model', model, '--text', short], /short\.txt: has 3 tokens, expected at least one sequence of 16/],
      [['--model', model, '--text', binary], /binary\.txt: the tokenizer makes no token of it/],
      [['--model', model, '--text', short, '--max-tokens', '3'], /--max-tokens 3/],
      [['--model', model, '--text', short, '--length', '17'], /--length 17 is more than the 16 positions/],
      [['--model', model, '--text', short, '--length', '3', '--blanks', '4'], /--blanks 4 is more than the 3 tokens/],
    ] as [string[], RegExp][]) {
      const { code, stderr } = await ufb(['eval', 'mlm', ...args, ...reference]);
      expect(stderr).toMatch(message);
      expect(code).toBe(2);
    }
  });
});
