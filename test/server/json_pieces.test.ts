import { expect, test } from 'vitest';
import { jsonBody, jsonPieces } from '../../src/server/json_pieces.ts';

const values: [string, unknown, unknown?][] = [
  ['numbers and texts', { a: 1, b: 'é"\n', c: [true, null, [], {}], d: undefined }],
  ['nothing', []],
  ['an empty object', {}],
  ['a text', 'text'],
  ['vectors', [Float32Array.of(1, 0.1, -2e-20), new Float32Array(0)], [[1, Math.fround(0.1), Math.fround(-2e-20)], []]],
  ['vectors in objects', { data: [{ index: 0, embedding: Float32Array.of(0.5) }] }, { data: [{ index: 0, embedding: [0.5] }] }],
  ['lists of lists', [[{ id: 1, text: 'a' }], [{ id: 2, text: 'b' }]]],
  ['many', Array.from({ length: 20_000 }, (_, i) => ({ i, text: 'text' }))],
];

test.each(values)('%s are as JSON.stringify has them', async (_, value, expected = value) => {
  expect(JSON.parse([...jsonPieces(value)].join(''))).toEqual(JSON.parse(JSON.stringify(expected)));
  const body = jsonBody(value);
  expect(JSON.parse(await new Response(body).text())).toEqual(JSON.parse(JSON.stringify(expected)));
});

test('what is long comes in pieces', () => {
  const pieces = [...jsonPieces(Array.from({ length: 100 }, () => new Float32Array(1000).fill(0.1)))];
  expect(pieces.length).toBeGreaterThan(10);
  expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThan(2 ** 18);
});
