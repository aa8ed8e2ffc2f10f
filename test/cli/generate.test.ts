import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { printableLines } from '../../src/errors.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyDecoder } from '../tiny_decoder.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';
import { program, ufb } from './ufb.ts';

const folder = temporaryFolder();
const model = join(folder, 'decoder');
const common = ['generate', '--device', 'reference', '--model', model];
const drawn = ['--temperature', '1.5', '--seed', '4', '--max-new-tokens', '12'];
beforeAll(async () => {
  await writeTinyDecoder(model);
  writeFileSync(join(model, 'generation_config.json'), '{ "eos_token_id": [] }');
});

describe('ufb generate', () => {
  test('prints the prompt and what is written, and on stderr how fast', async () => {
    const { code, stdout, stderr } = await ufb([...common, ...drawn, 'the cat']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^the cat[\s\S]+\n$/);
    expect(stderr).toMatch(/^12 tokens, [\d.]+ tokens\/s, the first after \d+ ms; reference backend \(.*\)\n$/);
    expect(await ufb([...common, ...drawn, '--quiet', 'the cat'])).toEqual({ code: 0, stdout, stderr: '' });
  });

  test('reads a prompt from standard input, with its lines', async () => {
    const text = 'the cat\nsees';
    const { stdout } = await ufb([...common, ...drawn, text]);
    expect(await ufb([...common, ...drawn, '--quiet'], `${text}\n`)).toEqual({ code: 0, stdout, stderr: '' });
    expect((await ufb([...common, ...drawn, '--quiet', '-'], text)).stdout).toBe(stdout);
  });

  test('as JSON, several texts for each prompt', async () => {
    const { code, stdout } = await ufb([...common, ...drawn, '--count', '2', '--json', 'the cat', 'a dog sees']);
    expect(code).toBe(0);
    const { answers, generatedTokens, tokensPerSecond } = JSON.parse(stdout);
    expect(generatedTokens).toBe(48);
    expect(tokensPerSecond).toBeGreaterThan(0);
    expect(answers.map(({ prompt, texts }: { prompt: string; texts: unknown[] }) => [prompt, texts.length])).toEqual([
      ['the cat', 2],
      ['a dog sees', 2],
    ]);
    const [first, second] = answers[0].texts;
    expect(first).toEqual({ text: expect.any(String), finish_reason: 'length', prompt_tokens: expect.any(Number), generated_tokens: 12 });
    expect(second.text).not.toBe(first.text);
    expect((await ufb([...common, ...drawn, '--quiet', 'the cat'])).stdout).toBe(printableLines(`the cat${first.text}\n`));
  });

  test('what a terminal would take as a command is not printed as one', async () => {
    const { stdout } = await ufb([...common, '--max-new-tokens', '0', 'the \u001b[31mcat']);
    expect(stdout).not.toContain('\u001b');
  });

  test('ends before a stop text', async () => {
    const { stdout } = await ufb([...common, ...drawn, '--quiet', 'the cat']);
    const stop = stdout.slice(12, 15);
    expect((await ufb([...common, ...drawn, '--quiet', 'the cat', '--stop', stop])).stdout).toBe(
      `${stdout.slice(0, stdout.indexOf(stop, 7))}\n`,
    );
  });

  test('answers the other prompts where one cannot be, and says so', async () => {
    const long = 'the cat '.repeat(80);
    const { code, stdout, stderr } = await ufb([...common, ...drawn, long, 'the cat']);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^the cat/);
    expect(stderr).toMatch(/^ufb: text 1: has \d+ tokens, and the model 64 positions: none is left to write at; shorten it\n/);
    expect(await ufb([...common, long])).toMatchObject({ code: 2, stdout: '' });
  });

  test('without a model, or with one that does not write, says what to name', async () => {
    expect(await ufb(['generate', 'the cat'])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /^ufb: --model is missing: no model that writes ships with the program yet; name a folder that 'ufb pretrain --objective causal' made/,
      ),
    });
    const other = join(folder, 'masked');
    await writeTinyModel(other);
    const { code, stderr } = await ufb(['generate', '--device', 'reference', '--model', other, 'the cat']);
    expect(code).toBe(2);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(await ufb([...common, 'the', 'cat'])).toMatchObject({ code: 2, stderr: expect.stringContaining('expected texts in quotes') });
    expect(await ufb([...common, '--chat', 'the cat'])).toMatchObject({ code: 2, stderr: expect.stringContaining('has no chat template') });
  });

  test('what is written is there before the end, and Ctrl-C ends it', async () => {
    const child = spawn(process.execPath, [program, ...common, '--temperature', '1', '--max-new-tokens', '60', 'the']);
    const ended = new Promise<NodeJS.Signals | null>((resolve) => child.on('close', (_, signal) => resolve(signal)));
    await new Promise<void>((resolve) => {
      let text = '';
      child.stdout.on('data', (piece) => {
        text += piece;
        if (text.length > 3) resolve();
      });
    });
    child.kill('SIGINT');
    await ended;
  });
});

describe('ufb eval lm', () => {
  const text = join(folder, 'text.txt');
  beforeAll(() => writeFileSync(text, generatedSentences().join('\n')));
  const measure = ['eval', 'lm', '--device', 'reference', '--model', model, '--text', text];

  test('as text and as JSON, by frequency where that is asked for', async () => {
    const { code, stdout } = await ufb([...measure, '--by-frequency']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^loss {17}[\d.]+ nats a token, [\d.]+ bits a byte\n/);
    expect(stdout).toMatch(/\nfrequency in the text +different +of all tokens +nats +top 1\nat least 1 in 100 /);
    expect(stdout).toContain('entropy, bits');
    const scores = JSON.parse((await ufb([...measure, '--json'])).stdout);
    expect(Object.keys(scores)).toEqual(['loss', 'bitsPerByte', 'top1', 'top5', 'tokens', 'unigramLoss', 'mostFrequentTop1', 'layers']);
    expect(scores.tokens % 64).toBe(0);
  });

  test.each([
    [['--length', '65'], 'is more than the 64 positions'],
    [['--max-tokens', '10'], '--max-tokens 10 is less than one sequence of 64 tokens'],
    [['--text', program.replace(/cli\.js$/, 'nothing')], 'nothing'],
  ])('%j is refused', async (more, message) => {
    expect(await ufb([...measure, ...more])).toMatchObject({ code: 2, stderr: expect.stringContaining(message) });
  });
});

describe('ufb pretrain --objective causal', () => {
  test.each([
    [['--varied-share', '0.5'], '--varied-share is of masked tokens, but there is --objective causal; leave it out'],
    [['--normalizer', 'bert'], '--normalizer is of masked tokens, but there is --objective causal; leave it out'],
  ])('refuses %j', async (more, message) => {
    const args = ['pretrain', '--objective', 'causal', '--corpus', 'none', '--out', join(folder, 'run'), '--tokens', '1', ...more];
    expect(await ufb(args)).toMatchObject({ code: 2, stderr: `ufb: ${message}\n` });
  });

  test('refuses of masked tokens what is of next ones', async () => {
    const args = ['pretrain', '--within-documents', '--corpus', 'none', '--out', join(folder, 'run'), '--tokens', '1'];
    expect((await ufb(args)).stderr).toBe('ufb: --within-documents is of next tokens, but there is --objective masked; leave it out\n');
  });
});
