import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { type Embed, evaluateRetrieval } from '../../src/retrieval/evaluate.ts';
import { temporaryFolder } from '../temporary.ts';

const root = temporaryFolder();
const lines = (rows: readonly object[]) => rows.map((row) => JSON.stringify(row)).join('\n');

interface Task {
  corpus?: string | Uint8Array;
  queries?: string;
  qrels?: string;
}

const corpus = [
  { _id: 'north', title: 'North', text: '0 1' },
  { _id: 'east', title: '', text: '1 0' },
  { _id: 'northeast', text: '1 1' },
  { _id: 'q3', title: '', text: '-1 0' },
];
const queries = [
  { _id: 'q1', text: '0.1 1' },
  { _id: 'q2', text: '1 0.2' },
  { _id: 'q3', text: '-1 0.1' },
  { _id: 'q4', text: '5 5' },
];
const qrels = 'query-id\tcorpus-id\tscore\nq1\tnorth\t2\nq1\tnortheast\t1\nq1\teast\t0\nq2\tnorth\t1\nq3\tnorth\t1\nq9\tnorth\t1\n';

let count = 0;
function write(task: Task = {}): string {
  const folder = join(root, `task-${count++}`);
  mkdirSync(join(folder, 'qrels'), { recursive: true });
  writeFileSync(join(folder, 'corpus.jsonl'), task.corpus ?? lines(corpus));
  writeFileSync(join(folder, 'queries.jsonl'), task.queries ?? lines(queries));
  writeFileSync(join(folder, 'qrels', 'test.tsv'), task.qrels ?? qrels);
  return folder;
}

/** A text's vector is the two numbers at its end, scaled to length 1. */
const seen: string[] = [];
const embed: Embed = async function* (texts, kind) {
  for await (const text of texts) {
    seen.push(`${kind}: ${text}`);
    const [x, y] = text.split(' ').slice(-2).map(Number);
    yield Float32Array.of(x, y).map((value) => value / Math.hypot(x, y));
  }
};

async function evaluate(folder: string) {
  using device = new ReferenceDevice();
  const notices: string[] = [];
  const progress: string[] = [];
  const scores = await evaluateRetrieval(folder, {
    device,
    embed,
    onNotice: (line) => notices.push(line),
    onProgress: (done, total) => progress.push(`${done} of ${total}`),
  });
  return { scores, notices, progress };
}

test('queries with relevant documents are scored; what else there is does not count', async () => {
  seen.length = 0;
  const { scores, notices, progress } = await evaluate(write());
  // q1: north, northeast, east: as good as can be. q2: east, northeast, north: rank 3. q3 does not find itself: north, northeast, ...: rank 1.
  const second = 1 / Math.log2(4);
  expect(scores).toMatchObject({ queries: 3, documents: 4, recallAt100: 1 });
  expect(scores.ndcgAt10).toBeCloseTo((1 + second + 1) / 3, 6);
  expect(scores.mrrAt10).toBeCloseTo((1 + 1 / 3 + 1) / 3, 6);
  expect(notices).toEqual([
    '1 query has no relevant document in qrels/test.tsv: it does not count',
    '1 query of qrels/test.tsv is not in queries.jsonl: it does not count',
  ]);
  expect(progress.at(-1)).toBe('4 of 4');
  expect(seen).toContain('query: 0.1 1');
  expect(seen).toContain('document: North 0 1');
  expect(seen).toContain('document: 1 0');
  expect(seen).not.toContain('query: 5 5');
});

test('a corpus of more documents than are compared at once, gzipped', async () => {
  const many = Array.from({ length: 2500 }, (_, i) => ({ _id: `d${i}`, text: `${Math.cos(i / 500)} ${Math.sin(i / 500)}` }));
  const folder = write({
    corpus: gzipSync(lines(many)),
    queries: lines([{ _id: 'q', text: `${Math.cos(2200.4 / 500)} ${Math.sin(2200.4 / 500)}` }]),
    qrels: 'query-id\tcorpus-id\tscore\nq\td2200\t1\nq\td2201\t2\nq\td100\t1\n',
  });
  const { scores } = await evaluate(folder);
  expect(scores).toMatchObject({ queries: 1, documents: 2500, mrrAt10: 1 });
  expect(scores.recallAt100).toBeCloseTo(2 / 3, 12);
});

test.each<[string, Task, RegExp]>([
  [
    'no JSON',
    { corpus: '{"_id": "a", "text": "1 0"}\n{"_id": ' },
    /corpus\.jsonl, line 2: is no JSON object; expected a JSON object \{"_id"/,
  ],
  ['no text', { corpus: '{"_id": "a"}' }, /corpus\.jsonl, line 1: 'text' is missing; expected/],
  ['a number', { queries: '{"_id": 7, "text": "x"}' }, /queries\.jsonl, line 1: '_id' is not a string/],
  ['an id twice', { corpus: lines([corpus[0], corpus[0]]) }, /corpus\.jsonl, line 2: the id 'north' came before/],
  ['a grade', { qrels: 'q1\tnorth\tmuch\n' }, /test\.tsv, line 1: expected a query's id, a document's id and a whole number/],
  ['trec form', { qrels: 'q1\t0\tnorth\t1\n' }, /test\.tsv, line 1: expected/],
  ['nothing relevant', { qrels: 'q1\tnorth\t0\n' }, /no query of queries\.jsonl has a relevant document/],
  ['no documents', { corpus: '\n' }, /corpus\.jsonl: has no documents/],
])('%s is refused, by file and line', async (_, task, message) => {
  await expect(evaluate(write(task))).rejects.toThrow(message);
});

test('a file that is missing', async () => {
  await expect(evaluate(root)).rejects.toThrow(/qrels.test\.tsv: cannot read: no such file/);
});
