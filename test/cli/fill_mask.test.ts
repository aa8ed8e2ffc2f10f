import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { modelFiles } from '../../src/io/model_files.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';
import { program, ufb } from './ufb.ts';

const folder = temporaryFolder();
const model = join(folder, 'model');
const common = ['--device', 'reference', '--model', model];
beforeAll(() => writeTinyModel(model));

describe('answers', () => {
  test('as text: words with probabilities, neurons used, time; no color and no bar without a terminal', async () => {
    const { code, stdout, stderr } = await ufb(['fill-mask', ...common, 'The cat sees [MASK].', 'A [MASK] likes the [MASK].']);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^The cat sees \[MASK\]\. {2}[\d.]+ ms\n( +[\d.]+ % {2}\S+\n){5}\n/);
    expect(stdout).toMatch(/blank 1\n( +[\d.]+ % {2}\S+\n){5} +blank 2\n( +[\d.]+ % {2}\S+\n){5}/);
    expect(stdout).toContain('4 of 15 neurons a token and layer; reference backend');
    expect(stdout).not.toContain('\u001b');
    expect(stdout).not.toContain('█');
  });

  test('as JSON', async () => {
    const { code, stdout } = await ufb([
      'fill-mask',
      ...common,
      '--json',
      '--top-k',
      '2',
      'The cat sees [MASK].',
      'A [MASK] likes the [MASK].',
    ]);
    expect(code).toBe(0);
    const { neurons, device, answers } = JSON.parse(stdout);
    expect(neurons).toEqual({ used: 4, total: 15 });
    expect(device).toBe('reference');
    expect(answers.map(({ blanks }: { blanks: unknown[][] }) => blanks.map((blank) => blank.length))).toEqual([[2], [2, 2]]);
    expect(answers[0].blanks[0][0]).toEqual({
      score: expect.any(Number),
      token: expect.any(Number),
      token_str: expect.any(String),
      sequence: expect.any(String),
    });
  });

  test('among targets, all of them unless --top-k says how many; a notice once', async () => {
    const args = ['fill-mask', ...common, '--json', '--targets', 'Dog,cat,the,a,river,road'];
    const { code, stdout, stderr } = await ufb([...args, 'The cat sees [MASK].', 'A [MASK] sees me.']);
    expect([code, stderr]).toEqual([0, 'target "Dog" is no word of the model\'s vocabulary: "dog" is taken for it\n']);
    for (const { blanks } of JSON.parse(stdout).answers)
      expect(blanks[0].map(({ token_str }: { token_str: string }) => token_str).sort()).toEqual(
        ['dog', 'cat', 'the', 'a', 'river', 'road'].sort(),
      );
    const few = JSON.parse((await ufb([...args, '--top-k', '2', 'The cat sees [MASK].'])).stdout);
    expect(few.answers[0].blanks[0]).toHaveLength(2);
  });

  test('of lines from standard input', async () => {
    const { code, stdout } = await ufb(['fill-mask', ...common, '--json', '-'], 'The cat sees [MASK].\n\nA [MASK] sees me.\n');
    expect(code).toBe(0);
    expect(JSON.parse(stdout).answers.map(({ text }: { text: string }) => text)).toEqual(['The cat sees [MASK].', 'A [MASK] sees me.']);
  });

  test('without a sentence: a few of our own', async () => {
    const { code, stdout } = await ufb(['fill-mask', ...common, '--quiet']);
    expect(code).toBe(0);
    expect(stdout.match(/\[MASK\]/g)?.length).toBeGreaterThan(2);
    expect(stdout).not.toContain('neurons');
  });

  test('without the native backend: by WASM, saying so and why in one line', async () => {
    const options = ['fill-mask', '--model', model, 'The cat sees [MASK].'];
    const [fallen, quiet, named] = await Promise.all(
      [[], ['--quiet'], ['--device', 'native']].map((more) => ufb([...options, ...more], '', { UFB_NATIVE: '0' })),
    );
    expect(fallen.code).toBe(0);
    expect(fallen.stdout).toContain('wasm backend');
    expect(fallen.stderr).toMatch(/^[^\n]*UFB_NATIVE=0[^\n]*using WASM[^\n]*\n$/);
    expect(quiet).toMatchObject({ code: 0, stderr: '' });
    expect(named).toMatchObject({ code: 2, stdout: '' });
    expect(named.stderr).toMatch(/^ufb: [^\n]*UFB_NATIVE=0[^\n]*\n$/);
  });

  test('a reader that stops reading is no failure', async () => {
    const child = spawn(process.execPath, [
      program,
      'fill-mask',
      ...common,
      '--json',
      '--top-k',
      '100',
      ...new Array<string>(40).fill('[MASK] [MASK] [MASK]'),
    ]);
    let stderr = '';
    child.stderr.on('data', (text) => (stderr += text));
    child.stdout.destroy();
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0);
    expect(stderr).toBe('');
  });
});

test.concurrent('standard input that holds nothing or is not text, and an output that cannot be written: one line', async () => {
  const run = (redirection: string) =>
    new Promise<{ code: number | null; stderr: string }>((resolve) => {
      const command = `"${process.execPath}" "${program}" fill-mask --device reference --model "${model}" --quiet ${redirection}`;
      const child = spawn('sh', ['-c', command], { stdio: ['ignore', 'ignore', 'pipe'] });
      let stderr = '';
      child.stderr.on('data', (text) => (stderr += text));
      child.on('close', (code) => resolve({ code, stderr }));
    });
  const binary = join(folder, 'binary');
  writeFileSync(binary, new Uint8Array(100).fill(255));
  expect(await run('- < /dev/null')).toEqual({ code: 2, stderr: 'ufb: standard input is empty, expected sentences, one a line\n' });
  expect(await run(`- < "${binary}"`)).toEqual({
    code: 2,
    stderr: expect.stringMatching(/^ufb: standard input, line 1: is not UTF-8 text [^\n]*\n$/),
  });
  if (!existsSync('/dev/full')) return;
  const full = await run('"A [MASK]." > /dev/full');
  expect(full.code).toBe(1);
  expect(full.stderr).toMatch(/^ufb: standard output cannot be written: .*ENOSPC.*\n$/);
});

test.concurrent('a bad line is reported, the others are answered; several words are no sentences', async () => {
  const lines = 'The cat sees [MASK].\nno blank\n\nA [MASK].\n';
  const [text, json, none, words] = await Promise.all([
    ufb(['fill-mask', ...common, '-'], lines),
    ufb(['fill-mask', ...common, '--json', '-'], lines),
    ufb(['fill-mask', ...common, 'no blank', 'nor here']),
    ufb(['fill-mask', ...common, 'The', 'cat', 'sees', '[MASK].']),
  ]);
  const reason = 'has no blank: write [MASK] where a word is to be filled in (got "no blank")';
  expect([text.code, text.stderr]).toEqual([1, `ufb: standard input, line 2: ${reason}\n2 of 3 texts answered\n`]);
  expect(text.stdout).toMatch(/The cat sees \[MASK\]\.[\s\S]*A \[MASK\]\./);
  const { answers, refused } = JSON.parse(json.stdout);
  expect([json.code, answers.map((answer: { text: string }) => answer.text)]).toEqual([1, ['The cat sees [MASK].', 'A [MASK].']]);
  expect(refused).toEqual([{ name: 'standard input, line 2', reason }]);
  expect([none.code, none.stdout, none.stderr]).toEqual([
    2,
    '',
    expect.stringMatching(/^ufb: text 1: has no blank.*\nufb: text 2: has no blank/),
  ]);
  expect([words.code, words.stderr]).toEqual([
    2,
    'ufb: the 4 arguments are one word each, expected sentences in quotes: ufb fill-mask "The cat sees [MASK]."\n',
  ]);
});

test('help and usage', async () => {
  const [help, version, commandHelp, nothing, unknown, option, value] = await Promise.all([
    ufb(['--help']),
    ufb(['--version']),
    ufb(['fill-mask', '--help']),
    ufb([]),
    ufb(['fill-masks']),
    ufb(['fill-mask', '--nonsense']),
    ufb(['fill-mask', '--top-k', '0']),
  ]);
  expect(help).toMatchObject({ code: 0, stderr: '' });
  expect(help.stdout).toContain('fill-mask');
  expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  for (const option of ['--json', '--device', '--threads', '--model', '--quiet', '--top-k', 'Example'])
    expect(commandHelp.stdout).toContain(option);
  expect(nothing).toMatchObject({ code: 2, stdout: '' });
  expect(unknown.code).toBe(2);
  expect(unknown.stderr).toContain("unknown command 'fill-masks'");
  expect(option.code).toBe(2);
  expect(option.stderr).toContain("unknown option '--nonsense'");
  expect(value.code).toBe(2);
  expect(value.stderr).toContain('whole number from 1');
  for (const { stderr } of [unknown, option, value]) expect(stderr).toMatch(/^ufb: [^\n]+\n$/);
});

describe('bad input: one line, exit code 2', () => {
  const refused = async (args: string[], message: string | RegExp) => {
    const { code, stdout, stderr } = await ufb(args);
    expect(stderr).toMatch(/^ufb: [^\n]+\n$/);
    expect(stderr).toMatch(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  };

  test.concurrent.each([
    ['no blank', 'The cat sleeps.', /has no blank: write \[MASK\]/],
    ['empty', '', /is empty/],
    ['too long', `[MASK]${' cat'.repeat(80)}`, /tokens, but the model takes at most 64/],
  ])('a text: %s', (_, text, message) => refused(['fill-mask', ...common, text], message));

  const configured =
    (change: (config: { model_type: string; arch: Record<string, never> & { embedding: Record<string, unknown> } }) => void) =>
    (copy: string) => {
      const config = JSON.parse(readFileSync(join(copy, 'config.json'), 'utf8'));
      change(config);
      writeFileSync(join(copy, 'config.json'), JSON.stringify(config));
    };
  const cut = (name: string, bytes: number) => (copy: string) => truncateSync(join(copy, name), bytes);
  const write = (name: string, text: string) => (copy: string) => writeFileSync(join(copy, name), text);

  test.concurrent.each<[string, (copy: string) => void, RegExp]>([
    ...modelFiles.map((name): [string, (copy: string) => void, RegExp] => [
      `${name} missing`,
      (copy) => rmSync(join(copy, name)),
      new RegExp(`lacks ${name}`),
    ]),
    ['config.json cut short', cut('config.json', 50), /config\.json: is not valid JSON/],
    ['config.json empty', write('config.json', ''), /config\.json: is empty/],
    ['config.json a list', write('config.json', '[]'), /config\.json: /],
    ['config.json of a decoder', configured((config) => (config.model_type = 'gpt2')), /'model_type' is "gpt2", which is a decoder/],
    ['config.json of another model', configured((config) => (config.model_type = 't5')), /'model_type' is "t5"/],
    ['config.json without the hidden size', configured((config) => delete config.arch.hidden_size), /arch\.hidden_size/],
    [
      'config.json of a wider model',
      configured(
        (config) => Object.assign(config.arch, { hidden_size: 32 }) && Object.assign(config.arch.embedding, { embedding_dim: 32 }),
      ),
      /embedding/,
    ],
    [
      'config.json of a deeper model',
      configured((config) => Object.assign(config.arch, { num_transformer_layers: 3 })),
      /model\.safetensors/,
    ],
    ['config.json of deeper trees', configured((config) => Object.assign(config.arch, { intermed_depth: 4 })), /linear_in/],
    ['model.safetensors empty', cut('model.safetensors', 0), /model\.safetensors: 0 bytes is too short/],
    ['model.safetensors cut short in the header', cut('model.safetensors', 100), /may have been cut short/],
    ['model.safetensors cut short in the values', cut('model.safetensors', 5000), /may have been cut short/],
    ['model.safetensors something else', write('model.safetensors', 'something else altogether\n'), /is not a safetensors file/],
    ['tokenizer.json cut short', cut('tokenizer.json', 500), /tokenizer\.json: is not valid JSON/],
    ['tokenizer.json without a model', write('tokenizer.json', '{}'), /tokenizer\.json: /],
  ])('a model folder: %s', (name, damage, message) => {
    const copy = join(folder, name.replaceAll(' ', '-'));
    mkdirSync(copy);
    for (const name of modelFiles) copyFileSync(join(model, name), join(copy, name));
    damage(copy);
    return refused(['fill-mask', '--device', 'reference', '--model', copy, 'a [MASK]'], message);
  });

  test('a model folder: missing', () =>
    refused(['fill-mask', '--model', join(folder, 'nowhere'), 'a [MASK]'], /no such folder; expected a model folder/));
});
