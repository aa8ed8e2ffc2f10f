import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { readLabeledFile } from '../../src/training/labeled_files.ts';
import { testFolder } from './corpora.ts';

function file(name: string, content: string): string {
  const path = join(testFolder(), name);
  writeFileSync(path, name.endsWith('.gz') ? gzipSync(content) : content);
  return path;
}

test('TSV: quotes are plain characters, other columns are left aside', async () => {
  const path = file('a.tsv', '\ufeffid\ttext\tlabel\r\n1\tShe said "no.\tnegative\r\n2\tFine, thanks\tpositive\r\n');
  expect(await readLabeledFile(path)).toEqual({
    kind: 'classes',
    records: [
      { text: 'She said "no.', pair: undefined, label: 'negative', line: 2 },
      { text: 'Fine, thanks', pair: undefined, label: 'positive', line: 3 },
    ],
  });
});

test('CSV: quoted cells with commas, quotes and line ends; pairs; scores', async () => {
  const path = file('a.csv', 'text,pair,score\n"one, two","she said ""yes""",4.5\n"two\nlines",b,0\n');
  const { kind, records } = await readLabeledFile(path);
  expect(kind).toBe('scores');
  expect(records.map(({ text, pair, label }) => [text, pair, label])).toEqual([
    ['one, two', 'she said "yes"', 4.5],
    ['two\nlines', 'b', 0],
  ]);
});

test('JSON lines, gzipped: labels may be words, numbers or booleans', async () => {
  const path = file('a.jsonl.gz', '{"text":"a","label":0}\n\n{"text":"b","label":"1"}\n{"text":"c","label":true}\n');
  expect((await readLabeledFile(path)).records.map(({ label, line }) => [label, line])).toEqual([
    ['0', 1],
    ['1', 3],
    ['true', 4],
  ]);
});

test.each([';', '\t', '|'])('CSV with %j between its columns', async (delimiter) => {
  const path = file('a.csv', ['"Text"|label', 'one, two|x', '"a|b"|y'].join('\r\n').replaceAll('|', delimiter));
  expect((await readLabeledFile(path)).records.map(({ text, label }) => [text, label])).toEqual([
    ['one, two', 'x'],
    [`a${delimiter}b`, 'y'],
  ]);
});

test.each([
  ['csv', 'text, label\nthe cat,pos\nbad, neg\n"a, b" , "pos"\nc," neg "\n'],
  ['tsv', 'text\t label\na\tpos\nb\t neg\nc\tpos \nd\t\u00a0neg\n'],
  ['jsonl', ['pos', ' neg', 'pos ', '\tneg'].map((label) => JSON.stringify({ text: 'a', label })).join('\n')],
])('%s: blanks around a label are no part of it', async (ending, content) => {
  expect((await readLabeledFile(file(`a.${ending}`, content))).records.map(({ label }) => label)).toEqual(['pos', 'neg', 'pos', 'neg']);
});

const refused: [name: string, content: string, message: RegExp][] = [
  ['a.txt', 'text\tlabel\n', /a\.txt: expected a file whose name ends in \.tsv, \.csv or \.jsonl/],
  ['a.tsv', 'text\tlabel\n', /a\.tsv: has no examples/],
  ['a.tsv', '', /a\.tsv: has no examples/],
  [
    'a.tsv',
    'sentence\tclass\nx\ty\n',
    /a\.tsv, line 1: found 'sentence', 'class', expected 'text' .* and either 'label' \(a class\) or 'score'/,
  ],
  ['a.tsv', 'text\tlabel\tscore\nx\ty\t1\n', /a\.tsv, line 1: found both 'label' and 'score', expected .* either/],
  ['a.tsv', 'sentence\tlabel\nx\ty\n', /a\.tsv, line 1: found 'sentence', 'label', expected 'text'/],
  ['a.tsv', 'text,label\nx,y\n', /a\.tsv, line 1: found 'text,label', expected 'text'/],
  ['a.csv', 'Sentence;Label\nx;y\n', /a\.csv, line 1: found 'sentence;label', expected 'text'/],
  ['a.jsonl', '{"sentence":"a","label":"x"}\n', /a\.jsonl, line 1: found 'sentence', 'label', expected 'text'/],
  ['a.jsonl', '{"text":"a","label":"x"}\n{"sentence":"b","label":"x"}\n', /line 2: 'text' is missing \(found 'sentence', 'label'\)/],
  ['a.tsv', 'text\tlabel\nx\t \n', /a\.tsv, line 2: 'label' is " ", expected the name of a class/],
  ['a.tsv', 'text\tlabel\nx\ty\nonly one\n', /a\.tsv: .*line 3/],
  ['a.tsv', 'text\tscore\nx\t1\ny\thigh\n', /a\.tsv, line 3: 'score' is "high", expected a number/],
  ['a.tsv', 'text\tlabel\nx\t\n', /a\.tsv, line 2: 'label' is "", expected the name of a class/],
  ['a.csv', 'text,label\na,x\n"never closed,x\nb,y\nc,z\n', /a\.csv, line 3: a cell begins with a quotation mark that none closes/],
  ['a.csv', 'text,label\n"a\nb",x\n"never closed,x\n"b, c",y\nc,z\n', /a\.csv, line 4: a cell begins with a quotation mark/],
  ['a.csv', 'text;label\n"she said ""no""" ; x\n"b"c;y\n', /a\.csv, line 3: a cell begins .* before the next ";" or line end/],
  ['a.jsonl', '{"text":"a","label":"x"}\n[1]\n', /a\.jsonl, line 2: expected a JSON object/],
  ['a.jsonl', '{"text":"a","label":"x"}\n{"text":"b"\n', /a\.jsonl, line 2: is not valid JSON: .*; expected a JSON object/],
  ['a.jsonl', '{"text":"a","pair":"b","label":"x"}\n{"text":"b","label":"x"}\n', /a\.jsonl, line 2: 'pair' is missing/],
  ['a.jsonl', '{"text":"a","label":"x"}\n{"text":"b","pair":"c","label":"x"}\n', /line 2: 'pair' is "c", expected none/],
  ['a.csv', 'text,label,Text\nx,y,z\n', /a\.csv: line 1: has two columns "text", expected one/],
  ['a.jsonl', `{"text":${'['.repeat(1e5)}${']'.repeat(1e5)},"label":"x"}\n`, /line 1: is nested more than 100 levels deep/],
  ['a.tsv.gz', 'text\tlabel\n'.concat('\n'.repeat(2_200_000)), /more than 268435456 characters \(128 for each row/],
  ['a.jsonl', `{"text":"${'x'.repeat(2 ** 20)}","label":"x"}\n`, /a\.jsonl, line 1: has more than 1048576 characters/],
  ['a.jsonl', '{"text":["a"],"label":"x"}\n', /line 1: 'text' is \["a"\], expected a text/],
];
test.each(refused.map(([name, content, message]) => [name, content.slice(0, 40), content, message] as const))(
  '%s with %j is refused',
  async (name, _, content, message) => {
    await expect(readLabeledFile(file(name, content))).rejects.toThrow(message);
  },
);
