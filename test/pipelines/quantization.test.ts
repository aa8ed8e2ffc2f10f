import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { fromBinary, fromI8, quantizeEmbeddings, toBinary } from '../../src/pipelines/quantization.ts';

const figures = JSON.parse(readFileSync(new URL('../fixtures/quantized-embeddings/figures.json', import.meta.url), 'utf8'));
const embeddings = (rows: number[][]) => ({ dims: [rows.length, rows[0].length], data: Float32Array.from(rows.flat()) });
const vectors = embeddings(figures.vectors);
const ranges = { least: Float32Array.from(figures.ranges[0]), largest: Float32Array.from(figures.ranges[1]) };

test('i8 and signs: the numbers that sentence-transformers gives', () => {
  const i8 = quantizeEmbeddings(vectors, 'i8');
  expect(i8.dims).toEqual([40, 11]);
  expect([...i8.data]).toEqual(figures.int8.flat());
  expect(i8.ranges).toEqual(ranges);
  const binary = quantizeEmbeddings(vectors, 'binary');
  expect(binary.dims).toEqual([40, 2]);
  expect([...binary.data]).toEqual(figures.binary.flat());
  expect(binary.ranges).toBeUndefined();
});

test('i8 by the ranges of other vectors: what lies beyond them in the last steps', () => {
  const { data } = quantizeEmbeddings(embeddings(figures.others), 'i8', { ranges });
  expect([...data]).toEqual(figures['others in int8'].flat());
  expect(data).toContain(-128);
  expect(data).toContain(127);
});

test('back from i8 less than a step is lost', () => {
  const restore = fromI8(ranges);
  const { data } = quantizeEmbeddings(vectors, 'i8');
  for (let row = 0; row < 40; row++)
    restore(data.subarray(row * 11, (row + 1) * 11)).forEach((value, i) => {
      const lost = vectors.data[row * 11 + i] - value;
      expect(lost).toBeGreaterThan(-1e-6);
      expect(lost).toBeLessThanOrEqual((ranges.largest[i] - ranges.least[i]) / 255 + 1e-6);
    });
});

test('back from signs', () => {
  const vector = Float32Array.of(0.1, -1, 0, 2, 3, -0, 5, 6, Number.NaN, 1e-30);
  expect([...toBinary(vector)]).toEqual([0b10011011 - 128, 0b01000000 - 128]);
  expect([...fromBinary(toBinary(vector), 10)]).toEqual([1, -1, -1, 1, 1, -1, 1, 1, -1, 1]);
});

test('refused: one vector without ranges, vectors of tokens, another type', () => {
  const one = { dims: [1, 11], data: vectors.data.subarray(0, 11) };
  expect(() => quantizeEmbeddings(one, 'i8')).toThrow('found one vector, expected at least 2');
  expect([...quantizeEmbeddings(one, 'i8', { ranges }).data]).toEqual(figures.int8[0]);
  expect(quantizeEmbeddings({ dims: [0, 11], data: new Float32Array(0) }, 'i8').data).toHaveLength(0);
  expect(() => quantizeEmbeddings({ ...vectors, dims: [4, 10, 11] }, 'i8')).toThrow('dims [4,10,11], expected [texts, width]');
  expect(() => quantizeEmbeddings(vectors, 'int8' as 'i8')).toThrow('dtype: got "int8", expected "i8" or "binary"');
});
