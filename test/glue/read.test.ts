import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { findGlueTasks, readGlueFile, readGlueTask } from '../../src/glue/read.ts';
import { glueTask, glueTasks } from '../../src/glue/tasks.ts';
import { glue, glueMissing } from '../real_model.ts';
import { temporaryFolder } from '../temporary.ts';
import { tinyGlueFile, writeTinyGlue } from './tiny_glue.ts';

const folder = temporaryFolder();
const file = (content: string | Uint8Array) => {
  const path = join(folder, 'file.tsv');
  writeFileSync(path, content);
  return path;
};

describe('every task in its own layout', () => {
  const data = join(folder, 'all');
  writeTinyGlue(
    data,
    glueTasks.map(({ name }) => name),
    { test: true },
  );

  test.each(glueTasks)('$name', async (task) => {
    const { train, sets } = await readGlueTask(task, data);
    expect([train.texts.length, train.labels.length, train.notices]).toEqual([24, 24, []]);
    const single = ['CoLA', 'SST-2'].includes(task.name);
    // The second example of the generated files.
    expect(train.texts[1]).toEqual({ text: 'the cat finds a river .', pair: single ? undefined : 'the cat draws a long road .' });
    expect(Object.keys(sets)).toEqual(task.name === 'MNLI' ? ['MNLI-m', 'MNLI-mm'] : [task.name]);
    for (const { dev, test } of Object.values(sets)) {
      expect([dev.texts.length, dev.labels.length, test?.texts.length, test?.labels]).toEqual([12, 12, 5, []]);
      expect(test?.texts[0].pair === undefined).toBe(single);
    }
  });

  test.each(['AX/AX.tsv', 'diagnostic/diagnostic.tsv'])('the diagnostic set, in %s, goes with MNLI', async (name) => {
    const path = join(folder, 'with', name);
    const data = dirname(dirname(path));
    rmSync(data, { recursive: true, force: true });
    writeTinyGlue(data, ['MNLI', 'RTE']);
    expect((await readGlueTask(glueTask('MNLI'), data)).diagnostic).toBe(undefined);
    mkdirSync(dirname(path));
    writeFileSync(path, tinyGlueFile('AX', 'test', 3));
    const { diagnostic } = await readGlueTask(glueTask('MNLI'), data);
    expect(diagnostic?.texts[1]).toEqual({ text: 'the cat finds a river .', pair: 'the cat draws a long road .' });
    expect(diagnostic?.texts).toHaveLength(3);
    expect((await readGlueTask(glueTask('RTE'), data)).diagnostic).toBe(undefined);
    writeFileSync(path, `${tinyGlueFile('AX', 'test', 3)}one cell\n`);
    await expect(readGlueTask(glueTask('MNLI'), data)).rejects.toThrow(`${path}, line 5: has 1 columns, expected 3`);
  });

  test('classes by their numbers, scores as they are', async () => {
    const labels = async (name: string) => (await readGlueTask(glueTask(name), data)).train.labels.slice(0, 4);
    expect(await labels('CoLA')).toEqual([1, 0, 0, 1]);
    expect(await labels('MRPC')).toEqual([1, 0, 0, 1]);
    expect(await labels('RTE')).toEqual([0, 1, 1, 0]);
    expect(await labels('MNLI')).toEqual([1, 0, 2, 1]);
    expect(await labels('STS-B')).toEqual([0, 1.4, 2.8, 4.2]);
  });

  test('tasks are found by their folders, in the order of the work', async () => {
    mkdirSync(join(data, 'SNLI'), { recursive: true });
    expect(await findGlueTasks(data)).toEqual(glueTasks);
    const some = join(folder, 'some');
    writeTinyGlue(some, ['MRPC', 'CoLA']);
    expect((await findGlueTasks(some)).map(({ name }) => name)).toEqual(['CoLA', 'MRPC']);
    expect((await readGlueTask(glueTask('CoLA'), some)).sets.CoLA.test).toBeUndefined();
  });
});

test('quotes are plain characters; line ends of DOS, gzip, empty texts and other orders of columns are read too', async () => {
  const quoted = await readGlueFile(
    glueTask('MRPC'),
    file('Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t1\t2\t"Yes\tHe said "no".\r\n'),
    'train',
  );
  expect(quoted).toEqual({ texts: [{ text: '"Yes', pair: 'He said "no".' }], labels: [1], notices: [] });
  const swapped = await readGlueFile(glueTask('QNLI'), file(gzipSync('label\tsentence\tquestion\nentailment\t\twho ?\n')), 'dev');
  expect(swapped).toEqual({ texts: [{ text: 'who ?', pair: '' }], labels: [0], notices: [] });
});

test("QQP's rows that lack columns, or the label, are left out and counted", async () => {
  const header = 'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate';
  const content = `${header}\n1\t1\t2\ta ?\tb ?\t0\n2\t3\t4\ta question that\nends here ?\tc ?\t1\n3\t5\t6\td ?\te ?\t\n4\t7\t8\tf ?\tg ?\t1\n`;
  const path = file(content);
  for (const part of ['train', 'dev'] as const) {
    expect(await readGlueFile(glueTask('QQP'), path, part)).toEqual({
      texts: [
        { text: 'a ?', pair: 'b ?' },
        { text: 'f ?', pair: 'g ?' },
      ],
      labels: [0, 1],
      notices: [`${path}: 3 rows without all 6 columns left out`],
    });
  }
  await expect(readGlueFile(glueTask('QQP'), file(`${header}\n1\t1\t2\ta\tb\tc\t0\n`), 'train')).rejects.toThrow(
    'line 2: has 7 columns, expected 6',
  );
});

test("MNLI's rows without an agreed label are left out and counted", async () => {
  const [header, first, second] = tinyGlueFile('MNLI', 'dev', 2).split('\n');
  const path = file([header, first, second.replace(/\w+$/, '-')].join('\n'));
  expect(await readGlueFile(glueTask('MNLI'), path, 'dev')).toMatchObject({
    labels: [1],
    notices: [`${path}: 1 row without an agreed gold_label ('-') left out`],
  });
});

test.each([
  ['RTE', '', 'has no examples'],
  ['RTE', 'index\tsentence1\tsentence2\tlabel\n', 'has no examples'],
  [
    'RTE',
    'index\tpremise\tsentence2\tlabel\n',
    "line 1: found 'index', 'premise', 'sentence2', 'label', expected the columns of a dev set of RTE, sentence1 too",
  ],
  ['RTE', 'index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n1\ta\tb\n', 'line 3: has 3 columns, expected 4'],
  ['RTE', 'index\tsentence1\tsentence2\tlabel\n0\ta\tb\tyes\n', "line 2: label 'yes', expected entailment or not_entailment"],
  ['CoLA', 'gj04\t1\t\ta\ngj04\t1\ta\n', 'line 2: has 3 columns, expected 4'],
  ['CoLA', 'source\tlabel\tmark\tsentence\n', "line 1: label 'label', expected 0 or 1"],
  ['CoLA', 'gj04\t2\t\ta\n', "line 1: label '2', expected 0 or 1"],
  ['STS-B', 'sentence1\tsentence2\tscore\na\tb\t5.1\n', "line 2: score '5.1', expected a number from 0 to 5"],
  ['STS-B', 'sentence1\tsentence2\tscore\na\tb\t \n', "line 2: score ' ', expected a number from 0 to 5"],
])('%s: %j is refused', async (task, content, message) => {
  const path = file(content);
  await expect(readGlueFile(glueTask(task), path, 'dev')).rejects.toThrow(`${path}${message.startsWith('line') ? ', ' : ': '}${message}`);
});

describe(`the official files${glueMissing}`, () => {
  const counts = { CoLA: [8551, 1043], 'SST-2': [67349, 872], MRPC: [3668, 408], 'STS-B': [5749, 1500], RTE: [2490, 277], WNLI: [635, 71] };
  test.skipIf(glueMissing).each(Object.entries(counts))('%s', async (name, [train, dev]) => {
    const data = await readGlueTask(glueTask(name), glue);
    expect([data.train.texts.length, data.sets[name].dev.texts.length]).toEqual([train, dev]);
    expect([data.train.notices, data.sets[name].dev.notices]).toEqual([[], []]);
    // Nothing is trimmed or unquoted.
    const raw = readFileSync(join(glue, name, 'dev.tsv'), 'utf8');
    for (const { text } of data.sets[name].dev.texts) if (!raw.includes(text)) throw new Error(`'${text}' is not in dev.tsv`);
  });
});
