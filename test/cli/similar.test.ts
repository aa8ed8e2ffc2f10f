import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { common, folder, lines, model, text } from './embedded_lines.ts';
import { ufb } from './ufb.ts';

describe('ufb similar', () => {
  test('finds the line itself first, with vectors made before or now', async () => {
    const out = join(folder, 'similar.npy');
    await ufb(['embed', ...common, '--out', out]);
    for (const vectors of [[], ['--vectors', out]]) {
      const { code, stdout, stderr } = await ufb(['similar', lines[17], ...common, '--top-k', '3', '--json', ...vectors]);
      expect(code, stderr).toBe(0);
      const { found } = JSON.parse(stdout);
      expect(found).toHaveLength(3);
      expect(found[0]).toMatchObject({ line: 18, text: lines[17], score: expect.closeTo(1, 5) });
      expect(found[1].score).toBeGreaterThanOrEqual(found[2].score);
    }
  });

  test('blank lines count and are not found; a query that is blank is refused', async () => {
    const sparse = join(folder, 'sparse.txt');
    writeFileSync(sparse, `\n${lines[0]}\n\n${lines[1]}\n`);
    const { stdout } = await ufb(['similar', lines[1], '--model', model, '--in', sparse, '--json', '--quiet']);
    expect(JSON.parse(stdout).found.map(({ line }: { line: number }) => line)).toEqual([4, 2]);
    expect(await ufb(['similar', ' ', '--model', model, '--in', sparse])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('query is empty'),
    });
  });

  test('vectors of other lines are refused', async () => {
    const short = join(folder, 'short.txt');
    writeFileSync(short, lines.slice(0, 5).join('\n'));
    const out = join(folder, 'short.npy');
    await ufb(['embed', '--model', model, '--in', short, '--out', out]);
    const { code, stderr } = await ufb(['similar', 'a', ...common, '--vectors', out]);
    expect([code, stderr]).toEqual([2, `ufb: ${out}: has 5 vectors, but ${text} has more lines\n`]);
  });
});
