import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { evaluateSts, readStsB } from '../../src/glue/sts.ts';
import { temporaryFolder } from '../temporary.ts';

/** Texts are angles in degrees, their vectors the directions, of several lengths. */
const embed = async (texts: readonly string[]) =>
  Float32Array.from(texts.flatMap((angle, i) => [Math.cos, Math.sin].map((f) => (1 + i) * f((Number(angle) * Math.PI) / 180))));
const pairs = (...angles: [number, number][]) => angles.map(([one, other]) => ({ text: `${one}`, pair: `${other}` }));

test("the order of the cosines is set against that of people's scores", async () => {
  const texts = pairs([0, 10], [5, 35], [90, 20], [-40, 60]);
  const spearmanOf = async (...labels: number[]) => (await evaluateSts({ texts, labels }, embed)).spearman;
  expect(await spearmanOf(5, 4, 3, 1)).toBeCloseTo(1, 12);
  expect(await spearmanOf(1, 3, 4, 5)).toBeCloseTo(-1, 12);
  // Ranks 4 3 2 1 and 4 2 3 1; with two alike 4 2.5 2.5 1.
  expect(await spearmanOf(5, 3, 4, 1)).toBeCloseTo(0.8, 12);
  expect(await spearmanOf(5, 3, 3, 1)).toBeCloseTo(4.5 / Math.sqrt(5 * 4.5), 12);
});

test('the cosines themselves, whatever the lengths of the vectors and the order in a pair', async () => {
  const angles = [0, 60, 90, 180];
  const labels = angles.map((angle) => 2 + 3 * Math.cos((angle * Math.PI) / 180));
  const scores = await evaluateSts({ texts: pairs([0, 0], [0, 60], [90, 0], [180, 0]), labels }, embed);
  expect(scores.pairs).toBe(4);
  expect(scores.pearson).toBeCloseTo(1, 6);
});

test("the file is in the folder, or in GLUE's", async () => {
  const folder = temporaryFolder();
  const rows = (score: number) => `index\tsentence1\tsentence2\tscore\n0\tone\ttwo\t${score}\n1\tthree\tfour\t2.5\n`;
  writeFileSync(join(folder, 'dev.tsv'), rows(1));
  expect((await readStsB(folder)).labels).toEqual([1, 2.5]);
  mkdirSync(join(folder, 'STS-B'));
  writeFileSync(join(folder, 'STS-B', 'dev.tsv'), rows(4));
  expect(await readStsB(folder)).toMatchObject({
    texts: [
      { text: 'one', pair: 'two' },
      { text: 'three', pair: 'four' },
    ],
    labels: [4, 2.5],
  });
});
