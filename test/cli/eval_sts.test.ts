import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { glue, glueMissing, miniLm, miniLmMissing } from '../real_model.ts';
import { folder, lines, model } from './embedded_lines.ts';
import { ufb } from './ufb.ts';

describe('ufb eval sts', () => {
  const data = join(folder, 'sts');
  const header = 'index\tsentence1\tsentence2\tscore';
  const evaluate = (rows: string[]) => {
    mkdirSync(data, { recursive: true });
    writeFileSync(join(data, 'dev.tsv'), [header, ...rows].join('\n'));
    return ufb(['eval', 'sts', '--model', model, '--data', data, '--json']);
  };

  test('correlations of cosines and scores', async () => {
    const rows = lines.slice(0, 20).map((line, i) => `${i}\t${line}\t${lines[(i * 7) % 20]}\t${((i * 3) % 6).toFixed(3)}`);
    const { code, stdout, stderr } = await evaluate(rows);
    expect(code, stderr).toBe(0);
    const { spearman, pearson, pairs } = JSON.parse(stdout);
    expect(pairs).toBe(20);
    for (const score of [spearman, pearson]) expect(Math.abs(score)).toBeLessThanOrEqual(1);
  });

  test.each([
    ['1\ta\tb', 'has 3 columns, expected 4'],
    ['1\ta\tb\tfour', "score 'four', expected a number from 0 to 5"],
    ['1\ta\tb\t7', "score '7', expected a number from 0 to 5"],
  ])('%j is refused with file and line', async (row, message) => {
    const { code, stderr } = await evaluate(['0\ta\tb\t1', row]);
    expect([code, stderr]).toEqual([2, `ufb: ${join(data, 'dev.tsv')}, line 3: ${message}\n`]);
  });

  const missing = miniLmMissing || glueMissing;
  test.skipIf(missing)(`all-MiniLM-L6-v2 scores what others measured${missing}`, async () => {
    const { stdout, stderr, code } = await ufb(['eval', 'sts', '--model', miniLm, '--data', glue, '--json']);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout).spearman).toBeCloseTo(0.8672, 4);
  });
});
