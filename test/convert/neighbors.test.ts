import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { recallOfNeighbors, sampleLines } from '../../src/convert/neighbors.ts';
import { temporaryFolder } from '../temporary.ts';

const device = new ReferenceDevice();

/** Vectors of two numbers at these angles, in degrees. */
const at = (...degrees: number[]) =>
  Float32Array.from(degrees.flatMap((angle) => [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)]));

test('recall counts neighbors that both have', async () => {
  const reference = at(0, 10, 30, 60, 100);
  const recall = (own: Float32Array, k = 2) => recallOfNeighbors(device, reference, own, { width: 2, k });
  expect(await recall(reference)).toBe(1);
  expect(await recall(at(50, 60, 80, 110, 150))).toBe(1);
  // The second and the last change places: by hand, the neighbors are {1,2} {0,2} {1,0} {2,4} {3,2} and {4,2} {3,2} {4,0} {1,2} {0,2}.
  expect(await recall(at(0, 100, 30, 60, 10))).toBeCloseTo((1 + 1 + 1 + 1 + 1) / 10, 10);
  expect(await recall(reference, 1)).toBe(1);
  await expect(recall(reference, 5)).rejects.toThrow(/5 texts, expected more than 5/);
});

test('more rows than are in memory at once', async () => {
  const angles = Array.from({ length: 700 }, (_, i) => i * 0.2);
  expect(await recallOfNeighbors(device, at(...angles), at(...angles), { width: 2, k: 3 })).toBe(1);
});

test('a sample of lines depends on the seed, and leaves out blank ones', async () => {
  const path = join(temporaryFolder(), 'lines.txt');
  const lines = Array.from({ length: 50 }, (_, i) => `line ${i}`);
  writeFileSync(path, lines.join('\n\n'));
  const sample = await sampleLines(path, 20, 1);
  expect(new Set(sample).size).toBe(20);
  expect(sample.every((line) => lines.includes(line))).toBe(true);
  expect(sample.map((line) => lines.indexOf(line))).toEqual(sample.map((line) => lines.indexOf(line)).sort((a, b) => a - b));
  expect(await sampleLines(path, 20, 1)).toEqual(sample);
  expect(await sampleLines(path, 20, 2)).not.toEqual(sample);
  expect(await sampleLines(path, 50, 1)).toEqual(lines);
  expect(await sampleLines(path, 51, 1)).toEqual(lines);
  // Each line as likely as any other: over many seeds the first and the last come as often.
  const counts = [0, 0];
  for (let seed = 0; seed < 200; seed++) {
    const drawn = await sampleLines(path, 10, seed);
    if (drawn.includes('line 0')) counts[0]++;
    if (drawn.includes('line 49')) counts[1]++;
  }
  for (const count of counts) expect(Math.abs(count - 40)).toBeLessThan(20);
});
