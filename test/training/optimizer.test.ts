import { describe, expect, test } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { plainLayout } from '../../src/nn/layouts.ts';
import { Parameter } from '../../src/nn/parameter.ts';
import { AdamW, pretrainingAdamW, startBranchesAlike } from '../../src/training/optimizer.ts';
import { Trainer } from '../../src/training/trainer.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';

function setUp(shape: number[], options: { decay?: boolean; sparse?: boolean; device?: Device } = {}) {
  const { device = new ReferenceDevice() } = options;
  const size = shape.reduce((a, b) => a * b);
  const value = device.tensor(
    'w',
    shape,
    'f32',
    Float32Array.from({ length: size }, (_, i) => 0.1 * (i + 1)),
  );
  const parameter = new Parameter(value, plainLayout('w', shape), options.decay ?? false);
  if (options.sparse) parameter.rowMask = device.tensor('rowMask', [shape[0]], 'i32', new Int32Array(shape[0]).fill(7));
  return { device, parameter, clip: device.tensor('clip', [2]) };
}

test.each([true, false])('a trainer that finds no memory keeps none, and the next one works (branches: %s)', async (withBranches) => {
  const branches = withBranches ? () => [Int32Array.of(0, 0, 1), Int32Array.of(0, 0)] : undefined;
  const { device, parameter } = setUp([3, 2]);
  parameter.branches = branches;
  const allocate = device.allocate.bind(device);
  const live = new Set<unknown>();
  let left = Number.POSITIVE_INFINITY;
  device.allocate = (bytes) => {
    if (left-- <= 0) throw new RangeError('no memory');
    const storage = allocate(bytes);
    live.add(storage);
    return storage;
  };
  const release = device.release.bind(device);
  device.release = (storage) => {
    live.delete(storage);
    release(storage);
  };
  const make = () => new Trainer(device, [parameter], { adamW: { ...pretrainingAdamW, branchRate: 1 } });
  make().dispose();
  expect(live.size).toBe(0);
  let tries = 0;
  for (let most = 0; ; most++) {
    left = most;
    try {
      make().dispose();
      break;
    } catch (error) {
      expect((error as Error).message).toBe('no memory');
      expect([live.size, parameter.gradient]).toEqual([0, undefined]);
      tries++;
    }
  }
  expect(tries).toBeGreaterThan(4);
});

describe('AdamW', () => {
  test('the first step moves by the learning rate against the sign of the gradient, decay apart', async () => {
    const { device, parameter, clip } = setUp([4], { decay: true });
    const optimizer = new AdamW(device, [parameter], { ...pretrainingAdamW, weightDecay: 0.1, clipNorm: Number.POSITIVE_INFINITY });
    device.write(parameter.gradient!, [1, -2, 3, -4]);
    optimizer.step(0.01, clip);
    const expected = [0.1, 0.2, 0.3, 0.4].map((value, i) => value * (1 - 0.01 * 0.1) - 0.01 * (i % 2 === 0 ? 1 : -1));
    for (const [i, value] of (await device.read(parameter.value)).entries()) expect(value).toBeCloseTo(expected[i], 6);
  });

  test('clips by the norm of all gradients together, reports the norm before, and zeroes them', async () => {
    const { device, parameter, clip } = setUp([2]);
    const other = new Parameter(device.tensor('v', [1], 'f32', [1]), plainLayout('v', [1]), false);
    const optimizer = new AdamW(device, [parameter, other], { ...pretrainingAdamW, clipNorm: 0.5 });
    device.write(parameter.gradient!, [1, 2]);
    device.write(other.gradient!, [2]);
    optimizer.step(0.01, clip);
    const [scale, norm] = await device.read(clip);
    expect(norm).toBeCloseTo(3, 6);
    expect(scale).toBeCloseTo(0.5 / 3, 6);
    expect(await device.read(optimizer.parameters[1].mean)).toEqual(Float32Array.of(0.1 * 2 * scale));
    expect(await device.read(parameter.gradient!)).toEqual(new Float32Array(2));
  });

  test('row-sparse gradients: untouched rows are not read but their moments move; flags are cleared', async () => {
    const { device, parameter, clip } = setUp([3, 2], { sparse: true });
    const optimizer = new AdamW(device, [parameter], { ...pretrainingAdamW, clipNorm: Number.POSITIVE_INFINITY });
    expect(await device.readIntegers(parameter.rowMask!)).toEqual(new Int32Array(3));
    device.write(parameter.gradient!, [1, 1, 1, 1, 1, 1]);
    device.write(parameter.rowMask!, [1, 1, 1]);
    optimizer.step(0.01, clip);
    const before = await device.read(parameter.value);
    device.write(parameter.rowMask!, [0, 1, 0]);
    device.write(parameter.gradient!, [Number.NaN, Number.NaN, 3, 4, Number.NaN, Number.NaN]);
    optimizer.step(0.01, clip);
    expect((await device.read(clip))[1]).toBeCloseTo(5, 6);
    const after = await device.read(parameter.value);
    for (let i = 0; i < 6; i++) expect(after[i]).toBeLessThan(before[i]);
    expect((await device.read(parameter.gradient!)).slice(2, 4)).toEqual(new Float32Array(2));
    expect(await device.readIntegers(parameter.rowMask!)).toEqual(new Int32Array(3));
  });

  const alone = 'a row steps as it would alone, a little, and as each of its branches would on the sum of their gradients';
  describeOnEach(candidates, ({ create }) => {
    test(`with branches ${alone}`, async () => {
      const options = { ...pretrainingAdamW, clipNorm: Number.POSITIVE_INFINITY };
      const [narrow, wide] = [Int32Array.of(0, 1, 1, 2, 2, 2), Int32Array.of(0, 1, 1)];
      using device = create();
      const rows = setUp([6, 2], { sparse: true, device });
      rows.parameter.branches = () => [narrow, wide];
      const trained = new AdamW(rows.device, [rows.parameter], { ...options, branchRate: 0.5 });
      // What the row, its branch and that one's branch would each come to by themselves; `of`: where a row finds its own.
      const parts = [
        { of: (row: number) => row, rate: 0.3 },
        { of: (row: number) => narrow[row], rate: 0.5 },
        { of: (row: number) => wide[narrow[row]], rate: 0.5 },
      ].map(({ of, rate }) => {
        const part = setUp([6, 2]);
        return { ...part, of, rate, optimizer: new AdamW(part.device, [part.parameter], options) };
      });
      const start = await rows.device.read(rows.parameter.value);
      for (const rowMask of [
        [1, 1, 0, 0, 1, 0],
        [1, 0, 1, 1, 0, 1],
        [1, 1, 1, 0, 0, 0],
      ]) {
        const gradient = rowMask.flatMap((flag, row) => (flag ? [row + 1, -2 * row] : [0, 0]));
        rows.device.write(rows.parameter.rowMask!, rowMask);
        rows.device.write(rows.parameter.gradient!, gradient);
        trained.step(0.01, rows.clip);
        for (const { device, parameter, of, rate, optimizer, clip } of parts) {
          const sums = new Float32Array(12);
          for (const [i, value] of gradient.entries()) sums[2 * of(i >> 1) + (i % 2)] += value;
          device.write(parameter.gradient!, sums);
          optimizer.step(rate * 0.01, clip);
        }
      }
      const expected = start.slice();
      for (const { device, parameter, of } of parts) {
        const value = await device.read(parameter.value);
        for (const i of expected.keys()) expected[i] += value[2 * of(i >> 1) + (i % 2)] - start[2 * of(i >> 1) + (i % 2)];
      }
      for (const [i, value] of (await rows.device.read(rows.parameter.value)).entries()) expect(value).toBeCloseTo(expected[i], 5);
      trained.dispose();
    });
  });

  test('with branches weights decay as without', async () => {
    const values = [];
    for (const branchRate of [0, 1]) {
      const { device, parameter, clip } = setUp([6, 2], { sparse: true, decay: true });
      parameter.branches = () => [Int32Array.of(0, 1, 1, 2, 2, 2)];
      const optimizer = new AdamW(device, [parameter], { ...pretrainingAdamW, weightDecay: 0.1, branchRate });
      optimizer.step(0.5, clip);
      values.push(await device.read(parameter.value));
    }
    for (const [i, value] of values[1].entries()) expect(value).toBeCloseTo(values[0][i], 6);
    expect(values[0][0]).toBeCloseTo(0.1 * (1 - 0.5 * 0.1), 6);
  });

  test('neurons of a place start as the first of them', async () => {
    const { device, parameter } = setUp([4, 2]);
    parameter.branches = () => [Int32Array.of(0, 1, 0, 2), Int32Array.of(0, 1, 0)];
    await startBranchesAlike(parameter);
    const [a, b, c, d] = [0.1, 0.2, 0.3, 0.4];
    expect(await device.read(parameter.value)).toEqual(Float32Array.of(a, b, c, d, a, b, a, b));
  });

  test('frozen parameters get no gradient and stay', async () => {
    const { device, parameter, clip } = setUp([2]);
    const frozen = new Parameter(device.tensor('v', [1], 'f32', [1]), plainLayout('v', [1]), true);
    frozen.frozen = true;
    const optimizer = new AdamW(device, [parameter, frozen]);
    expect(frozen.gradient).toBeUndefined();
    optimizer.step(0.1, clip);
    expect(await device.read(frozen.value)).toEqual(Float32Array.of(1));
  });
});
