import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();
const model = fileURLToPath(new URL('../fixtures/interchange/models/cross-encoder', import.meta.url));
const { rank } = JSON.parse(readFileSync(new URL('../fixtures/interchange/answers.json', import.meta.url), 'utf8'));
const common = ['--model', model, '--device', 'reference', '--quiet'];
const [first, second] = rank.answer as { text: string; score: number }[];
// Blank lines count and are not found.
const text = `\n${rank.documents[0]}\n\n${rank.documents.slice(1).join('\n')}\n`;
const lineOf = (one: { text: string }) => text.split('\n').indexOf(one.text) + 1;

test('lines of a file, best first, with their numbers', async () => {
  const file = join(folder, 'found.txt');
  writeFileSync(file, text);
  const { code, stdout, stderr } = await ufb(['rerank', rank.query, ...common, '--in', file, '--top-k', '2']);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toBe([first, second].map((one) => `${one.score.toFixed(4)}  ${String(lineOf(one)).padStart(6)}  ${one.text}\n`).join(''));
});

test('as JSON, from standard input', async () => {
  const { code, stdout, stderr } = await ufb(['rerank', rank.query, ...common, '--in', '-', '--json'], text);
  expect(code, stderr).toBe(0);
  const { query, found } = JSON.parse(stdout);
  expect(query).toBe(rank.query);
  expect(found).toHaveLength(5);
  expect(found[0]).toEqual({ line: lineOf(first), score: expect.closeTo(first.score, 5), text: first.text });
});

test('refused: a blank query, a file without lines, a model with another head', async () => {
  for (const [query, input, message] of [
    [' ', text, 'the query is empty'],
    ['a', '\n\n', 'standard input: is empty, expected passages, one a line'],
  ])
    expect(await ufb(['rerank', query, ...common, '--in', '-'], input)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(message),
    });
});
