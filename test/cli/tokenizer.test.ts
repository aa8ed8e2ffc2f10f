import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { temporaryFolder } from '../temporary.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();
const text = join(folder, 'text.txt');
const zipped = join(folder, 'text.txt.gz');
writeFileSync(text, 'The cat sat on the mat.\n\nThe other cat sat on the other mat.\n');
writeFileSync(zipped, gzipSync('A bat and a rat.\n'));

it('ufb tokenizer trains on plain and gzipped text and writes a tokenizer.json', async () => {
  const out = join(folder, 'new', 'tokenizer.json');
  const ended = await ufb(['tokenizer', '--corpus', text, zipped, '--vocabulary', '60', '--out', out, '--json']);
  expect(ended).toMatchObject({ code: 0, stderr: expect.stringContaining('too small for 60 tokens') });
  const tokenizer = await Tokenizer.load(out);
  expect(JSON.parse(ended.stdout)).toMatchObject({ out, vocabulary: tokenizer.vocabularySize });
  expect(tokenizer.encode('the rat').tokens).toEqual(['the', 'rat', '[SEP]']);
  expect(readdirSync(join(folder, 'new'))).toEqual(['tokenizer.json']);
});

it.each<[string, string | Buffer, string]>([
  ['empty', '', 'the corpus holds no words'],
  ['binary', Buffer.from([0, 1, 2, 3, 255, 254, 0, 0]), 'is not UTF-8 text'],
])('refuses a corpus that is %s with one line and writes nothing', async (name, content, message) => {
  const corpus = join(folder, name);
  const out = join(folder, `${name}.json`);
  writeFileSync(corpus, content);
  const { code, stdout, stderr } = await ufb(['tokenizer', '--corpus', corpus, '--out', out]);
  expect(code).toBe(2);
  expect(stdout).toBe('');
  expect(stderr.trimEnd().split('\n')).toEqual([expect.stringContaining(message)]);
  expect(existsSync(out)).toBe(false);
});

it('does not write over its corpus', async () => {
  const { code, stderr } = await ufb(['tokenizer', '--corpus', zipped, text, '--out', text]);
  expect([code, stderr]).toEqual([2, expect.stringContaining('which is read: expected another')]);
  expect(readFileSync(text, 'utf8')).toContain('cat');
});

it('refuses an output that cannot be written before it reads the corpus', async () => {
  const { code, stderr } = await ufb(['tokenizer', '--corpus', join(folder, 'missing.txt'), '--out', join(text, 'tokenizer.json')]);
  expect(code).toBe(2);
  expect(stderr).toContain('cannot write');
  expect(readFileSync(text, 'utf8')).toContain('cat');
});

it('--type bpe trains a byte-level one, which reads every text back', async () => {
  const out = join(folder, 'bpe.json');
  const ended = await ufb(['tokenizer', '--type', 'bpe', '--corpus', text, zipped, '--vocabulary', '270', '--out', out, '--json']);
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  const tokenizer = await Tokenizer.load(out);
  expect(tokenizer.vocabularySize).toBe(270);
  expect(tokenizer.decode(tokenizer.encode('The naïve 😀\n cat').ids)).toBe('The naïve 😀\n cat');
  const { code, stderr } = await ufb(['tokenizer', '--type', 'bpe', '--normalizer', 'bert', '--corpus', text, '--out', out]);
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: 'ufb: --normalizer is of WordPiece, but there is --type bpe, which keeps every character; leave it out\n',
  });
});
