import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { ufb } from './ufb.ts';

const root = temporaryFolder();
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/interchange/models/${name}`, import.meta.url));
const data = join(root, 'data');
mkdirSync(join(data, 'qrels'), { recursive: true });
const lines = (rows: readonly object[]) => rows.map((row) => JSON.stringify(row)).join('\n');
writeFileSync(join(data, 'corpus.jsonl'), lines(['the cat sleeps', 'the dog barks'].map((text, i) => ({ _id: `d${i}`, title: '', text }))));
writeFileSync(join(data, 'queries.jsonl'), lines([{ _id: 'q', text: 'the cat sleeps' }]));
writeFileSync(join(data, 'qrels', 'test.tsv'), 'query-id\tcorpus-id\tscore\nq\td0\t1\n');

const evaluate = (model: string) => ufb(['eval', 'retrieval', '--model', model, '--data', data, '--device', 'reference', '--json']);

test('what is said of a model while it is opened is printed, and stops nothing', async () => {
  const { code, stdout, stderr } = await evaluate(fixture('tokenizer-config-cased'));
  expect(code, stderr).toBe(0);
  expect(stderr).toContain('tokenizer.json and tokenizer_config.json disagree');
  expect(JSON.parse(stdout)).toMatchObject({ ndcgAt10: 1, queries: 1, documents: 2 });
});

test("queries and documents are read behind the model's prompts for them", async () => {
  const model = join(root, 'prompted');
  cpSync(fixture('st6-pooling'), model, { recursive: true });
  const file = join(model, 'config_sentence_transformers.json');
  const long = 'the cat '.repeat(100);
  const evaluateWith = async (prompts: object) => {
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), prompts, default_prompt_name: null }));
    const { code, stderr } = await evaluate(model);
    expect(code, stderr).toBe(0);
    return stderr;
  };
  const cut = (stderr: string) => stderr.trimEnd().split('\n').at(-1);
  expect(cut(await evaluateWith({ query: '', document: '' }))).toBe('');
  expect(cut(await evaluateWith({ query: long, document: '' }))).toBe('1 of 1 texts has more than 64 tokens: the end was left out');
  // Told of the first document too, if the second one was not read yet.
  expect(cut(await evaluateWith({ query: '', document: long }))).toBe('2 of 2 texts have more than 64 tokens: the end was left out');
});
