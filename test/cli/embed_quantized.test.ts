import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { quantizeEmbeddings } from '../../src/pipelines/quantization.ts';
import { common, expected, folder, lines, madeBy, matrix, model, text } from './embedded_lines.ts';
import { ufb } from './ufb.ts';

describe('ufb embed --embedding-dtype', () => {
  const features = () => ({ dims: [60, 16], data: expected });

  test('i8: a matrix and its ranges, also after it was stopped at its end', async () => {
    const [whole, out] = [join(folder, 'to-resume.npy'), join(folder, 'i8.npy')];
    const { code, stderr } = await ufb(['embed', ...common, '--embedding-dtype', 'i8', '--out', out]);
    expect(code, stderr).toBe(0);
    expect(existsSync(`${out}.part`) || existsSync(`${out}.part.json`)).toBe(false);
    const { data, ranges } = quantizeEmbeddings(features(), 'i8');
    const check = () => {
      const { rows, columns, values } = matrix(out);
      expect([rows, columns, values.constructor.name]).toEqual([60, 16, 'Int8Array']);
      // Values at the bounds of steps may fall to either side by the backend's rounding.
      for (const [i, value] of values.entries()) expect(Math.abs(value - data[i])).toBeLessThanOrEqual(1);
      const stored = matrix(join(folder, 'i8.ranges.npy'));
      expect(stored).toMatchObject({ rows: 2, columns: 16 });
      const wanted = [...(ranges?.least ?? []), ...(ranges?.largest ?? [])];
      for (const [i, value] of stored.values.entries()) expect(value).toBeCloseTo(wanted[i], 5);
    };
    check();
    // As a run leaves it that ended while it quantized.
    await ufb(['embed', ...common, '--out', whole]);
    writeFileSync(`${out}.part`, readFileSync(whole));
    writeFileSync(`${out}.part.json`, madeBy('i8'));
    expect((await ufb(['embed', ...common, '--embedding-dtype', 'i8', '--out', out, '--resume'])).code).toBe(0);
    check();
    expect(existsSync(`${out}.part`) || existsSync(`${out}.part.json`)).toBe(false);
  });

  test('binary: a matrix, resumed, and JSON lines', async () => {
    const out = join(folder, 'binary.npy');
    expect((await ufb(['embed', ...common, '--embedding-dtype', 'binary', '--out', out])).code).toBe(0);
    const { data } = quantizeEmbeddings(features(), 'binary');
    expect(matrix(out)).toEqual({ rows: 60, columns: 2, values: data });
    const bytes = readFileSync(out);
    writeFileSync(`${out}.part`, bytes.subarray(0, 128 + 33));
    writeFileSync(`${out}.part.json`, madeBy('binary'));
    expect((await ufb(['embed', ...common, '--embedding-dtype', 'binary', '--out', out, '--resume'])).code).toBe(0);
    expect(readFileSync(out).equals(bytes)).toBe(true);
    const { stdout } = await ufb(['embed', ...common, '--embedding-dtype', 'binary', '--quiet']);
    expect(
      stdout
        .trim()
        .split('\n')
        .flatMap((line) => JSON.parse(line)),
    ).toEqual([...data]);
  });

  test('i8 needs a .npy file and more than one line', async () => {
    const args = ['embed', '--model', model, '--embedding-dtype', 'i8', '--in'];
    for (const out of [[], ['--out', join(folder, 'i8.jsonl')]])
      expect(await ufb([...args, text, ...out])).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('a file by --out that ends in .npy'),
      });
    const [one, out] = [join(folder, 'one.txt'), join(folder, 'one.npy')];
    writeFileSync(one, lines[0]);
    const { code, stderr } = await ufb([...args, one, '--out', out]);
    expect([code, stderr]).toEqual([2, expect.stringContaining('found one vector, expected at least 2')]);
    expect([out, `${out}.part`, `${out}.part.json`].some((path) => existsSync(path))).toBe(false);
  });

  test('ufb similar reads them', async () => {
    for (const dtype of ['i8', 'binary']) {
      const out = join(folder, `similar-${dtype}.npy`);
      await ufb(['embed', ...common, '--embedding-dtype', dtype, '--out', out]);
      const { code, stdout, stderr } = await ufb(['similar', lines[17], ...common, '--json', '--vectors', out]);
      expect(code, stderr).toBe(0);
      const { found } = JSON.parse(stdout);
      if (dtype === 'i8') expect(found[0]).toMatchObject({ line: 18, score: expect.closeTo(1, 3) });
      // The cosine with the signs alone.
      const vector = expected.subarray((found[0].line - 1) * 16, found[0].line * 16);
      const query = expected.subarray(17 * 16, 18 * 16);
      const signs = [...query].reduce((sum, value, i) => sum + value * (vector[i] > 0 ? 1 : -1), 0) / Math.hypot(...query) / 4;
      if (dtype === 'binary') expect(found[0].score).toBeCloseTo(signs, 4);
    }
    const out = join(folder, 'similar-i8.npy');
    rmSync(join(folder, 'similar-i8.ranges.npy'));
    const { code, stderr } = await ufb(['similar', 'a', ...common, '--vectors', out]);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/similar-i8\.ranges\.npy: cannot read: no such file/)]);
  });
});
