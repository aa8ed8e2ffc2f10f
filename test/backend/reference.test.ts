import { afterAll, describe, expect, test } from 'vitest';
import { dropoutKey, fmix32 } from '../../src/backend/dropout.ts';
import { geluSlope, geluTanhSlope, geluTanhValue, geluValue, normalDistribution } from '../../src/backend/reference/gelu.ts';
import { roundToBf16 } from '../../src/backend/reference/rounding.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';

/**
 * The reference judges every other backend; gradients are checked against its forwards by finite differences, and the layers and
 * models against figures of PyTorch (goldens). Here: figures known from elsewhere, and sums done by hand.
 */
const device = new ReferenceDevice();
afterAll(() => device.dispose());

const of = (...values: number[]) => device.tensor('values', [values.length], 'f32', values);
const empty = (size: number) => device.tensor('output', [size]);
const close = (actual: ArrayLike<number>, expected: number[]) => {
  expect(actual).toHaveLength(expected.length);
  expected.forEach((value, i) => {
    expect(Math.abs(actual[i] - value), `element ${i}: ${actual[i]}, expected ${value}`).toBeLessThanOrEqual(
      1e-7 * Math.max(1, Math.abs(value)),
    );
  });
};

describe('the normal distribution function', () => {
  // erfc to 17 digits, by another implementation (C's math library).
  test.each([
    [0, 0.5],
    [0.5, 0.6914624612740131],
    [1, 0.8413447460685429],
    [-1, 0.15865525393145707],
    [1.959963984540054, 0.975],
    [3.9, 0.9999519036559824],
    [-3.9, 4.8096344017602614e-5],
    [4, 0.9999683287581669],
    [-4, 3.167124183311986e-5],
    [-6, 9.86587645037698e-10],
    [-9, 1.1285884059538408e-19],
    [40, 1],
  ])('at %d', (x, expected) => {
    expect(Math.abs(normalDistribution(x) - expected)).toBeLessThan(5e-16);
    // In the left tail, relative to the value too.
    if (x <= -4) expect(Math.abs(normalDistribution(x) / expected - 1)).toBeLessThan(1e-12);
  });

  test('is smooth where the series hands over to the continued fraction', () => {
    expect(Math.abs(normalDistribution(-4 + 1e-9) / normalDistribution(-4 - 1e-9) - 1)).toBeLessThan(1e-7);
  });

  test('GELU and its slope', () => {
    expect(geluValue(1)).toBeCloseTo(0.8413447460685429, 15);
    expect(geluValue(-2)).toBeCloseTo(-0.04550026389635842, 15);
    expect(geluSlope(0)).toBe(0.5);
    expect(geluSlope(1)).toBeCloseTo(0.8413447460685429 + 0.24197072451914337, 15);
    expect(geluValue(Number.NaN)).toBeNaN();
  });

  test('GELU by the hyperbolic tangent, as torch has it', () => {
    expect(geluTanhValue(1)).toBeCloseTo(0.8411919906082768, 14);
    expect(geluTanhValue(-2)).toBeCloseTo(-0.04540230591222494, 14);
    expect(geluTanhSlope(0)).toBe(0.5);
    expect(geluTanhSlope(-2)).toBeCloseTo(-0.0860992566236183, 14);
    expect(geluTanhValue(Number.NaN)).toBeNaN();
  });
});

describe('operations by hand', () => {
  test('silu and its backward, as torch has them', async () => {
    const input = device.tensor('x', [3], 'f32', [1, -2, 0.5]);
    const [output, gradInput] = [device.tensor('y', [3]), device.tensor('dx', [3])];
    device.silu({ input, output });
    device.siluBackward({ input, gradOutput: device.tensor('dy', [3], 'f32', [1, 1, 2]), gradInput });
    const values = [...(await device.read(output)), ...(await device.read(gradInput))];
    const expected = [0.7310585786, -0.238405844, 0.3112296656, 0.9276705119, -0.0907842488, 2 * 0.7399611873];
    for (const [i, value] of values.entries()) expect(value).toBeCloseTo(expected[i], 7);
  });

  test('layerNorm', async () => {
    const output = empty(4);
    const [mean, rstd] = [empty(1), empty(1)];
    device.layerNorm({ input: of(1, 2, 3, 6), gamma: of(1, 1, 2, 1), beta: of(0, 0, 0, 10), epsilon: 0.5, output, mean, rstd });
    // Mean 3, variance 14 / 4.
    close(await device.read(output), [-1, -0.5, 0, 11.5]);
    close(await device.read(mean), [3]);
    close(await device.read(rstd), [0.5]);
  });

  test('linear', async () => {
    const output = empty(3);
    const weight = device.tensor('weight', [3, 2], 'f32', [1, 2, 3, 4, 5, 6]);
    device.linear({ input: of(10, 1), weight, bias: of(0.5, 0, -1), output });
    close(await device.read(output), [12.5, 34, 55]);
  });

  test('attention over two keys', async () => {
    const operand = (...values: number[]) => ({ tensor: of(...values), offset: 0, batchStride: 8, rowStride: 4, headStride: 4 });
    const output = empty(4);
    const logSumExp = empty(1);
    // Scores q.k / 2 are 0 and ln 3: probabilities 1/4 and 3/4.
    const query = operand(2 * Math.log(3), 0, 0, 0);
    const shape = { batch: 1, heads: 1, headSize: 4, queryLength: 1, keyLength: 2 };
    device.attention({ ...shape, query, key: operand(0, 5, 5, 5, 1, 5, 5, 5), value: operand(0, 4, 8, 0, 4, 0, 8, 4), output, logSumExp });
    close(await device.read(output), [3, 1, 8, 3]);
    close(await device.read(logSumExp), [Math.log(4)]);
  });

  test('the only key gets no gradient, whatever values and gradients have in common, in bf16 neither', async () => {
    const operand = (...values: number[]) => ({ tensor: of(...values), offset: 0, batchStride: 4, rowStride: 4, headStride: 4 });
    const [query, key, value] = [operand(1, 2, 3, 4), operand(0.1, 0.2, 0.3, 0.4), operand(9.1, 9.2, 9.3, 9.4)];
    const [gradQuery, gradKey, gradValue] = [operand(7, 7, 7, 7), operand(7, 7, 7, 7), operand(0, 0, 0, 0)];
    const shape = { batch: 1, heads: 1, headSize: 4, queryLength: 1, keyLength: 1, query, key, value, precision: 'bf16' as const };
    const [output, logSumExp] = [empty(4), empty(1)];
    device.attention({ ...shape, output, logSumExp });
    device.attentionBackward({ ...shape, output, logSumExp, gradOutput: of(5.1, 5.2, 5.3, 5.4), gradQuery, gradKey, gradValue });
    for (const { tensor } of [gradQuery, gradKey])
      for (const slope of await device.read(tensor)) expect(Math.abs(slope)).toBeLessThan(1e-6);
    close(await device.read(gradValue.tensor), [5.1, 5.2, 5.3, 5.4].map(roundToBf16));
  });

  test('crossEntropy', async () => {
    const logits = device.tensor('logits', [2, 2], 'f32', [0, Math.log(3), 7, 7]);
    const losses = empty(2);
    const gradLogits = empty(4);
    device.crossEntropy({ logits, labels: device.tensor('labels', [2], 'i32', [0, -100]), losses, gradLogits, scale: 2 });
    close(await device.read(losses), [Math.log(4), 0]);
    close(await device.read(gradLogits), [-1.5, 1.5, 0, 0]);
  });

  test('clipScale and sumOfSquares', async () => {
    const sums = empty(2);
    device.sumOfSquares({ input: of(1, 2, 2), output: sums.view([1], 0) });
    device.sumOfSquares({ input: of(0, 4), output: sums.view([1], 1) });
    const output = empty(2);
    device.clipScale({ sums, maximum: 0.5, output });
    close(await device.read(output), [0.5 / (5 + 1e-6), 5]);
    device.clipScale({ sums, maximum: 6, output });
    close(await device.read(output), [1, 5]);
  });

  test('two steps of adamw', async () => {
    const parameter = of(1);
    const [mean, variance] = [of(0), of(0)];
    const step = (gradient: number, step: number) =>
      device.adamw({
        parameter,
        gradient: of(gradient),
        mean,
        variance,
        learningRate: 0.1,
        beta1: 0.5,
        beta2: 0.75,
        epsilon: 0,
        weightDecay: 0.2,
        step,
      });
    step(3, 1);
    // Corrected, the first step's moments are the gradient and its square: decay to 0.98, then a step of the learning rate.
    close(await device.read(parameter), [0.88]);
    close(await device.read(mean), [1.5]);
    close(await device.read(variance), [2.25]);
    step(0, 2);
    // Mean 0.75 / (1 - 1/4), variance 1.6875 / (1 - 9/16).
    close(await device.read(parameter), [0.88 * 0.98 - 0.1 / Math.sqrt(1.6875 / 0.4375)]);
  });

  test('dropout keys by murmur3', () => {
    expect(fmix32(0)).toBe(0);
    expect(fmix32(1)).toBe(0x514e28b7);
    expect(fmix32(0xffffffff)).toBe(0x81f16f39);
    expect(dropoutKey(0, 0, 0)).toBe(0);
    expect(dropoutKey(1, 2, 3)).toBe(fmix32(fmix32((0x514e28b7 ^ 2) >>> 0) + 3));
  });

  test('memory reads as NaN until it is written', async () => {
    expect(await device.read(empty(2))).toEqual(Float32Array.of(Number.NaN, Number.NaN));
  });
});

test('weights of more inputs than int32 holds the sums of are not prepared in i8', () => {
  using device = new ReferenceDevice();
  const weight = device.tensor('wide', [1, 2 ** 16 + 1]);
  expect(() => device.prepareLinear({ weight, precision: 'i8' })).toThrow(
    'wide: 65537 inputs, but int32 holds the sums of 65536 products of i8: take bf16 or f32',
  );
  device.prepareLinear({ weight, precision: 'bf16' });
});
