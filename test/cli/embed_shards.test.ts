import { spawn } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { parquetWriteFile } from 'hyparquet-writer';
import { beforeAll, describe, expect, test } from 'vitest';
import { parseShard } from '../../src/cli/shards.ts';
import { common, folder, lines, madeBy, matrix, model } from './embedded_lines.ts';
import { program, ufb } from './ufb.ts';

const whole = join(folder, 'shards-whole.npy');
const parts = 4; // of 60 lines

beforeAll(async () => {
  expect((await ufb(['embed', ...common, '--out', whole])).code).toBe(0);
});

/** Runs all parts, as a scheduler does: at once, each told which it is by its environment. */
const runParts = (out: string, input: readonly string[], variable: string) =>
  Promise.all(
    Array.from({ length: parts }, (_, index) =>
      ufb(['embed', ...input, '--out', out, '--shard', `${parts}`], '', { [variable]: `${index}` }),
    ),
  );
const rowsOf = async (path: string): Promise<number[]> => {
  if (path.endsWith('.npy')) return Array.from(matrix(path).values);
  if (path.endsWith('.jsonl'))
    return readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .flatMap((line) => JSON.parse(line) as number[]);
  const rows = await parquetReadObjects({ file: await asyncBufferFromFile(path) });
  return rows.flatMap(({ embedding }) => embedding as number[]);
};
async function expectWhole(path: string) {
  const [values, expected] = [await rowsOf(path), Array.from(matrix(whole).values)];
  expect(values.length).toBe(expected.length);
  // Which texts go together differs.
  for (const [i, value] of values.entries()) expect(Math.abs(value - expected[i])).toBeLessThan(1e-5);
}

test.each([
  ['npy', 'JOB_COMPLETION_INDEX'],
  ['jsonl', 'SLURM_ARRAY_TASK_ID'],
  ['parquet', 'SLURM_ARRAY_TASK_ID'],
])('parts of %s, by %s, make the whole', async (ending, variable) => {
  const out = join(folder, `parts.${ending}`);
  for (const { code, stderr } of await runParts(out, common, variable)) expect(code, stderr).toBe(0);
  const merged = await ufb(['embed', '--merge', '--out', out]);
  expect([merged.code, merged.stderr]).toEqual([0, `60 vectors in ${out}\n`]);
  await expectWhole(out);
  expect(readdirSync(folder).filter((name) => name.startsWith('parts.') && name.includes('.part'))).toEqual([]);
});

test('a part that is killed goes on where it was, and one that is finished stays', async () => {
  const out = join(folder, 'killed.npy');
  const args = ['embed', ...common, '--out', out, '--shard', '1/2'];
  const part = join(folder, 'killed.00001-of-00002.npy');
  const child = spawn(process.execPath, [program, ...args]);
  const ended = new Promise((resolve) => child.on('close', resolve));
  await expect.poll(() => existsSync(`${part}.part.json`) || existsSync(part)).toBe(true);
  child.kill('SIGKILL');
  await ended;
  expect((await ufb(args)).code).toBe(0);
  const bytes = readFileSync(part);
  expect((await ufb(args)).stderr).toContain('is finished');
  expect(readFileSync(part)).toEqual(bytes);
  rmSync(part);
  await ufb(args);
  expect(readFileSync(part)).toEqual(bytes);
});

test('a part goes on from vectors that were written', async () => {
  const out = join(folder, 'stopped.npy');
  const part = join(folder, 'stopped.00000-of-00002.npy');
  const args = ['embed', ...common, '--out', out, '--shard', '0/2'];
  // Stopped at once, it keeps nothing; so what a stop leaves is made of a finished one.
  expect((await ufb(args)).code).toBe(0);
  cpSync(part, `${part}.part`);
  rmSync(part);
  truncateSync(`${part}.part`, 128 + 4 * 16 * 10 + 7);
  writeFileSync(`${part}.part.json`, madeBy());
  const { code, stderr } = await ufb(args);
  expect([code, stderr]).toEqual([0, expect.stringContaining('30 vectors of 16')]);
  expect((await ufb(['embed', ...common, '--out', out, '--shard', '1/2'])).code).toBe(0);
  expect((await ufb(['embed', '--merge', '--out', out])).code).toBe(0);
  await expectWhole(out);
});

describe('Parquet', () => {
  const input = join(folder, 'lines.parquet');
  beforeAll(() => {
    parquetWriteFile({
      filename: input,
      rowGroupSize: 7,
      columnData: [
        { name: 'id', data: lines.map((_, i) => i) },
        { name: 'text', data: [...lines] },
        { name: 'other', data: lines.map(() => 'x') },
      ],
    });
  });

  test('a column of texts is read, a column of vectors written', async () => {
    const out = join(folder, 'from-parquet.parquet');
    const { code, stderr } = await ufb(['embed', '--model', model, '--in', input, '--out', out]);
    expect(code, stderr).toBe(0);
    await expectWhole(out);
    const named = await ufb(['embed', '--model', model, '--in', input, '--column', 'other', '--out', join(folder, 'other.npy')]);
    expect(named.code).toBe(0);
  });

  test('what is no Parquet, and columns that are not there, are told', async () => {
    const damaged = join(folder, 'damaged.parquet');
    writeFileSync(damaged, readFileSync(input).subarray(0, 500));
    const refused = async (...args: string[]) => {
      const { code, stderr } = await ufb(['embed', '--model', model, '--out', join(folder, 'refused.npy'), ...args]);
      expect(code, stderr).toBe(2);
      return stderr;
    };
    expect(await refused('--in', damaged)).toContain('cannot be read as Parquet');
    expect(await refused('--in', join(folder, 'none.parquet'))).toContain('none.parquet');
    expect(await refused('--in', input, '--column', 'id')).toContain('no column id of texts, expected one of text, other');
    expect(existsSync(join(folder, 'refused.npy'))).toBe(false);
  });
});

test('parts that are missing, short or of two runs are told', async () => {
  const out = join(folder, 'lacking.npy');
  const merge = () => ufb(['embed', '--merge', '--out', out]);
  expect((await merge()).stderr).toContain('there are no parts beside it');
  for (const index of [0, 2]) await ufb(['embed', ...common, '--out', out, '--shard', `${index}/3`]);
  expect((await merge()).stderr).toContain('1 of 3 parts are missing, ');
  cpSync(join(folder, 'killed.00001-of-00002.npy'), join(folder, 'lacking.00001-of-00003.npy'));
  const short = await merge();
  expect([short.code, short.stderr]).toEqual([2, expect.stringContaining('has fewer vectors than')]);
  cpSync(join(folder, 'killed.00001-of-00002.npy'), join(folder, 'lacking.00001-of-00002.npy'));
  expect((await merge()).stderr).toContain('parts of');
  expect(existsSync(out)).toBe(false);
});

test.each([
  ['2/8', {}, { index: 2, count: 8 }],
  ['8', { JOB_COMPLETION_INDEX: '7' }, { index: 7, count: 8 }],
  ['8', { SLURM_ARRAY_TASK_ID: '0' }, { index: 0, count: 8 }],
  ['3/8', { JOB_COMPLETION_INDEX: '7' }, { index: 3, count: 8 }],
  ['8', {}, 'neither JOB_COMPLETION_INDEX nor SLURM_ARRAY_TASK_ID'],
  ['8/8', {}, 'expected 0 to 7'],
  ['8', { SLURM_ARRAY_TASK_ID: '8' }, 'expected 0 to 7 in SLURM_ARRAY_TASK_ID'],
  ['0/0', {}, 'part 0 of 0'],
  ['-1/8', {}, 'expected I/N'],
  ['a', {}, 'expected I/N'],
])('--shard %s with %j', (text, environment, expected) => {
  if (typeof expected === 'string') expect(() => parseShard(text, environment)).toThrow(expected);
  else expect(parseShard(text, environment)).toEqual(expected);
});
