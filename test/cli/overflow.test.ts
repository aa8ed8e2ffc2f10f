/** Weights that are finite, but of which products are not: an error that names the text, whatever the command, and never a result. */
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { writeSafetensors } from '../../src/io/safetensors_writer.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, tinyBert, writeTinyClassifier, writeTinyModel } from '../tiny_model.ts';
import { writeCorpus } from '../training/corpora.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();
const path = (name: string) => join(folder, name);

/** A copy of a model whose norms' scales are as large as float32 has them. */
async function inflate(model: string, to: string): Promise<void> {
  cpSync(path(model), path(to), { recursive: true });
  await using file = await readSafetensors(join(path(model), 'model.safetensors'));
  const tensors = [];
  for (const name of file.names) {
    const values = await file.read(name);
    const isNorm = /norm\w*\.weight$/i.test(name);
    tensors.push({ name, dtype: 'F32' as const, shape: file.info(name).shape, values: isNorm ? values.fill(3e38) : values });
  }
  await writeSafetensors(join(path(to), 'model.safetensors'), tensors);
}

beforeAll(async () => {
  await writeTinyModel(path('base'));
  await writeTinyModel(path('encoder'), tinyBert, 'encoder');
  await writeTinyClassifier(path('base'), path('classifier'));
  for (const name of ['base', 'encoder', 'classifier']) await inflate(name, `huge-${name}`);
  const sentences = generatedSentences();
  writeCorpus(
    folder,
    'text.txt',
    Array.from({ length: 40 }, (_, i) => sentences.slice(i * 5, i * 5 + 5)),
  );
  writeFileSync(
    path('train.csv'),
    `text,label\n${sentences
      .slice(0, 40)
      .map((text, i) => `${text},${i % 2}`)
      .join('\n')}\n`,
  );
  mkdirSync(path('glue/STS-B'), { recursive: true });
  const row = (i: number) => ['i', 'g', 'f', 'y', 'o', 's1', 's2', sentences[i], sentences[i + 1], `${i % 5}`].join('\t');
  writeFileSync(
    path('glue/STS-B/dev.tsv'),
    `index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n${row(0)}\n${row(1)}\n`,
  );
});

const [base, encoder, classifier] = ['base', 'encoder', 'classifier'].map((name) => path(`huge-${name}`));
const texts = ['--text', path('text.txt')];

test.each([
  [
    'fill-mask',
    ['--model', base, 'the [MASK] sees'],
    /^ufb: the text \("the \[MASK\] sees"\): the model's answer is not finite: the weights are damaged/,
  ],
  [
    'embed',
    ['--model', encoder, '--in', path('text.txt'), '--out', path('vectors.npy')],
    /^ufb: text \d+ \(".*"\): the model's answer is not/,
  ],
  ['similar', ['--model', encoder, '--in', path('text.txt'), 'a dog'], /^ufb: .*the model's answer is not finite/],
  ['classify', ['--model', classifier, 'a dog'], /^ufb: text 1 \("a dog"\): the model's answer is not finite/],
  ['inspect', ['--model', base, '--text', 'a dog'], /^ufb: the text \("a dog"\): the model's hidden states are not finite/],
  ['eval mlm', ['--model', base, ...texts], /^ufb: .*text\.txt, sequences 1 to \d+: the model's loss is not finite/],
  [
    'eval sts',
    ['--model', encoder, '--data', path('glue')],
    /^ufb: text 1 \("the cat sees the house \."\): the model's answer is not finite/,
  ],
  [
    'eval agreement',
    ['--model', encoder, '--against', path('encoder'), ...texts, '--count', '20'],
    /^ufb: text \d+ \(".*"\): the model's answer is not finite/,
  ],
  [
    'finetune',
    ['--model', base, '--train', path('train.csv'), '--out', path('out')],
    /^ufb: step 1: the loss is not finite, before anything was trained: of the model/,
  ],
  [
    'pretrain',
    ['--model', base, '--corpus', path('text.txt'), '--length', '16', '--tokens', '1000', '--out', path('pretrained')],
    /^ufb: step 1: the loss is not finite, before/,
  ],
  [
    'convert',
    ['--model', encoder, '--corpus', path('text.txt'), '--held-out-every', '5', '--out', path('converted')],
    /^ufb: .*its answers to the texts held out of .*text\.txt are not finite/,
  ],
] as const)('%s', async (command, args, message) => {
  const { code, stdout, stderr } = await ufb([...command.split(' '), ...args, '--device', 'reference', '--quiet']);
  expect(stderr).toMatch(message);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  expect([code, stdout]).toEqual([1, '']);
  expect(existsSync(path('vectors.npy'))).toBe(false);
  for (const out of ['out', 'pretrained', 'converted']) expect(existsSync(join(path(out), 'model.safetensors'))).toBe(false);
});
