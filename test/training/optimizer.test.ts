import { describe, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backend/reference.ts';
import { plainLayout } from '../../src/nn/layouts.ts';
import { Parameter } from '../../src/nn/parameter.ts';
import { AdamW, pretrainingAdamW, startGroupsAlike } from '../../src/training/optimizer.ts';

function setUp(shape: number[], options: { decay?: boolean; sparse?: boolean } = {}) {
  const backend = new ReferenceBackend();
  const size = shape.reduce((a, b) => a * b);
  const value = backend.tensor(
    'w',
    shape,
    'f32',
    Float32Array.from({ length: size }, (_, i) => 0.1 * (i + 1)),
  );
  const parameter = new Parameter(value, plainLayout('w', shape), options.decay ?? false);
  if (options.sparse) parameter.touched = backend.tensor('touched', [shape[0]], 'i32', new Int32Array(shape[0]).fill(7));
  return { backend, parameter, clip: backend.tensor('clip', [2]) };
}

describe('AdamW', () => {
  test('the first step moves by the learning rate against the sign of the gradient, decay apart', async () => {
    const { backend, parameter, clip } = setUp([4], { decay: true });
    const optimizer = new AdamW(backend, [parameter], { ...pretrainingAdamW, weightDecay: 0.1, clipNorm: Number.POSITIVE_INFINITY });
    backend.write(parameter.gradient!, [1, -2, 3, -4]);
    optimizer.step(0.01, clip);
    const expected = [0.1, 0.2, 0.3, 0.4].map((value, i) => value * (1 - 0.01 * 0.1) - 0.01 * (i % 2 === 0 ? 1 : -1));
    for (const [i, value] of (await backend.read(parameter.value)).entries()) expect(value).toBeCloseTo(expected[i], 6);
  });

  test('clips by the norm of all gradients together, reports the norm before, and zeroes them', async () => {
    const { backend, parameter, clip } = setUp([2]);
    const other = new Parameter(backend.tensor('v', [1], 'f32', [1]), plainLayout('v', [1]), false);
    const optimizer = new AdamW(backend, [parameter, other], { ...pretrainingAdamW, clipNorm: 0.5 });
    backend.write(parameter.gradient!, [1, 2]);
    backend.write(other.gradient!, [2]);
    optimizer.step(0.01, clip);
    const [scale, norm] = await backend.read(clip);
    expect(norm).toBeCloseTo(3, 6);
    expect(scale).toBeCloseTo(0.5 / 3, 6);
    expect(await backend.read(optimizer.parameters[1].mean)).toEqual(Float32Array.of(0.1 * 2 * scale));
    expect(await backend.read(parameter.gradient!)).toEqual(new Float32Array(2));
  });

  test('row-sparse gradients: untouched rows are not read but their moments move; flags are cleared', async () => {
    const { backend, parameter, clip } = setUp([3, 2], { sparse: true });
    const optimizer = new AdamW(backend, [parameter], { ...pretrainingAdamW, clipNorm: Number.POSITIVE_INFINITY });
    expect(await backend.readIntegers(parameter.touched!)).toEqual(new Int32Array(3));
    backend.write(parameter.gradient!, [1, 1, 1, 1, 1, 1]);
    backend.write(parameter.touched!, [1, 1, 1]);
    optimizer.step(0.01, clip);
    const before = await backend.read(parameter.value);
    backend.write(parameter.touched!, [0, 1, 0]);
    backend.write(parameter.gradient!, [Number.NaN, Number.NaN, 3, 4, Number.NaN, Number.NaN]);
    optimizer.step(0.01, clip);
    expect((await backend.read(clip))[1]).toBeCloseTo(5, 6);
    const after = await backend.read(parameter.value);
    for (let i = 0; i < 6; i++) expect(after[i]).toBeLessThan(before[i]);
    expect((await backend.read(parameter.gradient!)).slice(2, 4)).toEqual(new Float32Array(2));
    expect(await backend.readIntegers(parameter.touched!)).toEqual(new Int32Array(3));
  });

  test('rows of a group also step together, as one row would on the sum of their gradients', async () => {
    const options = { ...pretrainingAdamW, clipNorm: Number.POSITIVE_INFINITY };
    const groups = Int32Array.of(0, 1, 1, 2, 2, 2);
    const rows = setUp([6, 2], { sparse: true });
    rows.parameter.groups = groups;
    const [alone, sums] = [setUp([6, 2]), setUp([3, 2])];
    const together = new AdamW(rows.backend, [rows.parameter], { ...options, groupRate: 0.5 });
    const [own, common] = [new AdamW(alone.backend, [alone.parameter], options), new AdamW(sums.backend, [sums.parameter], options)];
    const start = await sums.backend.read(sums.parameter.value);
    for (const touched of [
      [1, 1, 0, 0, 1, 0],
      [1, 0, 1, 1, 0, 1],
      [1, 1, 1, 0, 0, 0],
    ]) {
      const gradient = touched.flatMap((flag, row) => (flag ? [row + 1, -2 * row] : [0, 0]));
      const total = new Float32Array(6);
      for (const [i, value] of gradient.entries()) total[2 * groups[i >> 1] + (i % 2)] += value;
      rows.backend.write(rows.parameter.touched!, touched);
      rows.backend.write(rows.parameter.gradient!, gradient);
      alone.backend.write(alone.parameter.gradient!, gradient);
      sums.backend.write(sums.parameter.gradient!, total);
      together.step(0.01, rows.clip);
      own.step(0.01, alone.clip);
      common.step(0.005, sums.clip);
    }
    const [value, byItself, moved] = await Promise.all([rows, alone, sums].map(({ backend, parameter }) => backend.read(parameter.value)));
    for (const [i, x] of value.entries()) {
      const at = 2 * groups[i >> 1] + (i % 2);
      expect(x).toBeCloseTo(byItself[i] + moved[at] - start[at], 5);
    }
  });

  test('rows of a group start as the first of them', async () => {
    const { backend, parameter } = setUp([4, 2]);
    parameter.groups = Int32Array.of(0, 1, 0, 1);
    await startGroupsAlike(parameter);
    const [a, b, c, d] = [0.1, 0.2, 0.3, 0.4];
    expect(await backend.read(parameter.value)).toEqual(Float32Array.of(a, b, c, d, a, b, c, d));
  });

  test('frozen parameters get no gradient and stay', async () => {
    const { backend, parameter, clip } = setUp([2]);
    const frozen = new Parameter(backend.tensor('v', [1], 'f32', [1]), plainLayout('v', [1]), true);
    frozen.frozen = true;
    const optimizer = new AdamW(backend, [parameter, frozen]);
    expect(frozen.gradient).toBeUndefined();
    optimizer.step(0.1, clip);
    expect(await backend.read(frozen.value)).toEqual(Float32Array.of(1));
  });
});
