/** What is not finite is passed on, so that a training that diverges is noticed, and goes nowhere else. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import { type AsyncCandidate, candidates, describeOnEach, webGpuCandidates } from './backends.ts';

/** Wider than a vector of any instruction set, and no multiple of one. */
const width = 37;

describeOnEach<AsyncCandidate>([...candidates, ...webGpuCandidates.slice(0, 1)], ({ create }) => {
  let device: Device;
  beforeAll(async () => {
    device = await create();
  });
  afterAll(() => device?.dispose());
  /** Small numbers, but for `strange` at a place. */
  const rows = (name: string, count: number, at?: number, strange = Number.NaN) =>
    device.tensor(
      name,
      [count, width],
      'f32',
      Float32Array.from({ length: count * width }, (_, i) => (i === at ? strange : Math.sin(i))),
    );
  /** Which places hold what is not finite. */
  const strangeOf = async (tensor: ReturnType<typeof rows>) =>
    Array.from(await device.read(tensor)).flatMap((value, i) => (Number.isFinite(value) ? [] : [i]));
  const row = (index: number) => Array.from({ length: width }, (_, i) => index * width + i);

  test.each(['gelu', 'geluTanh', 'silu', 'tanh'] as const)('%s of a NaN, and no other', async (operation) => {
    for (const at of [0, 20, 36]) {
      const output = rows('y', 1);
      device[operation]({ input: rows('x', 1, at), output });
      expect(await strangeOf(output), `${at}`).toEqual([at]);
    }
  });

  test.each(['geluBackward', 'geluTanhBackward', 'siluBackward'] as const)('%s: a slope, and what it multiplies', async (operation) => {
    for (const [input, gradOutput] of [
      [rows('x', 1, 5), rows('dy', 1)],
      [rows('x', 1), rows('dy', 1, 5)],
    ]) {
      const gradInput = rows('dx', 1);
      device[operation]({ input, gradOutput, gradInput });
      expect(await strangeOf(gradInput)).toEqual([5]);
    }
  });

  test('a row of a norm, of a product', async () => {
    const output = rows('y', 3);
    const ones = device.tensor('gamma', [width], 'f32', new Float32Array(width).fill(1));
    device.layerNorm({ input: rows('x', 3, width + 4), gamma: ones, beta: ones, epsilon: 1e-12, output });
    expect(await strangeOf(output)).toEqual(row(1));
    device.linear({ input: rows('x', 3, width + 4), weight: rows('w', width), output });
    expect(await strangeOf(output)).toEqual(row(1));
  });

  test('the loss of a row, and its gradient; minus infinity is a class that is ruled out', async () => {
    const labels = device.tensor('labels', [2], 'i32', [0, 1]);
    const losses = device.tensor('losses', [2]);
    const gradLogits = rows('dz', 2);
    device.crossEntropy({ logits: rows('z', 2, width + 30), labels, losses, gradLogits });
    expect(Array.from(await device.read(losses), Number.isFinite)).toEqual([true, false]);
    expect(await strangeOf(gradLogits)).toEqual(row(1));
    device.crossEntropy({ logits: rows('z', 2, width + 30, Number.NEGATIVE_INFINITY), labels, losses, gradLogits });
    expect(Array.from(await device.read(losses), Number.isFinite)).toEqual([true, true]);
    expect((await device.read(gradLogits))[width + 30]).toBe(0);
  });

  test('a key that is looked at, by all queries of its sequence', async () => {
    const operand = (tensor: ReturnType<typeof rows>) => ({ tensor, offset: 0, batchStride: 2 * width, rowStride: width, headStride: 0 });
    const output = rows('y', 4);
    const [query, key, value] = [rows('q', 4), rows('k', 4, 2 * width + 3), rows('v', 4)].map(operand);
    device.attention({ query, key, value, batch: 2, heads: 1, headSize: width, queryLength: 2, keyLength: 2, output });
    expect(await strangeOf(output)).toEqual([...row(2), ...row(3)]);
  });

  test('a gradient reaches the positions that are pooled and no other', async () => {
    const mask = device.tensor('mask', [1, 3], 'i32', [1, 0, 1]);
    const selected = device.tensor('selected', [1, width], 'i32', new Int32Array(width).fill(2));
    const [input, gradInput, gradOutput] = [rows('x', 3), rows('dx', 3), rows('dy', 1, 7)];
    const output = rows('y', 1);
    for (const [kind, places] of [
      ['first', [7]],
      ['mean', [7, 2 * width + 7]],
      ['max', [2 * width + 7]],
      ['logSumExp', [7, 2 * width + 7]],
    ] as const) {
      device.pool({ input, batch: 1, length: 3, kind, output, mask, ...(kind === 'max' && { selected }) });
      device.write(selected, new Int32Array(width).fill(2));
      device.poolBackward({ batch: 1, length: 3, kind, gradOutput, gradInput, input, output, selected, mask });
      expect(await strangeOf(gradInput), kind).toEqual(places);
    }
  });

  test('a row too small for 8-bit integers is one of zeros', async () => {
    using weight = device.prepareLinear({ weight: rows('w', 3), precision: 'i8' });
    const input = device.tensor('x', [2, width], 'f32', new Float32Array(2 * width).fill(1e-40).fill(1, width));
    const output = device.tensor('y', [2, 3]);
    const bias = device.tensor('bias', [3], 'f32', [1, 2, 3]);
    device.linear({ input, weight, bias, output });
    const [first] = [Array.from((await device.read(output)).subarray(0, 3))];
    expect(first).toEqual([1, 2, 3]);
  });
});
