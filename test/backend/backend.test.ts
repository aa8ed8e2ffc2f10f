import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { type AsyncCandidate, candidates, describeOnEach, webGpuCandidates } from './backends.ts';
import { watchBlocks } from './blocks.ts';

describeOnEach<AsyncCandidate>([...candidates, ...webGpuCandidates.slice(0, 1)], ({ label, create }) => {
  let device: Device;
  beforeAll(async () => {
    device = await create();
  });
  afterAll(() => device?.dispose());
  const f32 = (name: string, ...shape: number[]) => device.zeros(name, shape);

  test('values come back as they went in, and arrays may be reused at once', async () => {
    const values = Float32Array.of(1.5, -2, Number.POSITIVE_INFINITY, 0);
    const tensor = device.tensor('t', [2, 2], 'f32', values);
    values.fill(9);
    expect(await device.read(tensor)).toEqual(Float32Array.of(1.5, -2, Number.POSITIVE_INFINITY, 0));
    device.write(tensor, [1, 2, 3, 4]);
    const before = await device.read(tensor);
    device.fill({ output: tensor, value: 7 });
    expect(before).toEqual(Float32Array.of(1, 2, 3, 4));
    expect(await device.read(tensor)).toEqual(new Float32Array(4).fill(7));
    const integers = device.tensor('i', [3], 'i32', [2 ** 31 - 1, -(2 ** 31), 5]);
    expect(await device.readIntegers(integers)).toEqual(Int32Array.of(2 ** 31 - 1, -(2 ** 31), 5));
  });

  test('operations, writes and reads keep the order of the calls', async () => {
    const tensor = device.tensor('t', [1], 'f32', [1]);
    const one = device.tensor('one', [1], 'f32', [1]);
    const reads = [];
    for (let i = 0; i < 20; i++) {
      device.add({ a: tensor, b: one, output: tensor });
      if (i === 9) device.write(tensor, [100]);
      reads.push(device.read(tensor));
    }
    const values = (await Promise.all(reads)).map(([value]) => value);
    expect(values).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110]);
  });

  test('an empty tensor can be made, written and read', async () => {
    const tensor = device.tensor('empty', [0, 4], 'f32', []);
    expect(await device.read(tensor)).toEqual(new Float32Array(0));
  });

  test('a tensor that cannot take its values leaves no memory behind', async () => {
    using other = await create();
    const watch = watchBlocks(other);
    expect(() => other.tensor('t', [3], 'f32', [1, 2])).toThrow("write: 't' f32 [3] takes 3 values, got 2");
    expect(watch).toEqual({ held: 0, largest: 12 });
  });

  test.skipIf(label === 'reference')('values on their way do not pile up behind the list that copies them', async () => {
    await device.finish();
    const submit = vi.spyOn(device, 'submit');
    const tensor = device.tensor('t', [25_000]);
    const values = new Float32Array(25_000).fill(3);
    for (let i = 0; i < 31; i++) device.write(tensor, values);
    expect(submit.mock.calls).toHaveLength(2); // of 100 kB each: at every megabyte
    submit.mockRestore();
    expect(await device.read(tensor)).toEqual(values);
  });

  test('views share memory and have bounds', async () => {
    const tensor = device.tensor(
      't',
      [4, 3],
      'f32',
      Float32Array.from({ length: 12 }, (_, i) => i),
    );
    const row = tensor.view([3], 6);
    expect(await device.read(row)).toEqual(Float32Array.of(6, 7, 8));
    device.fill({ output: row.view([2], 1), value: -1 });
    expect([...(await device.read(tensor))].slice(5, 10)).toEqual([5, 6, -1, -1, 9]);
    row.dispose();
    expect(await device.read(tensor)).toHaveLength(12);
    expect(() => tensor.view([3], 10)).toThrow(/'t' \[4,3\].*\[3\] at element 10/);
    expect(() => row.view([4])).toThrow(RangeError);
    expect(() => tensor.view([1], -1)).toThrow(RangeError);
    expect(() => tensor.view([1], 0.5)).toThrow(RangeError);
    expect(() => tensor.view([-2, 3])).toThrow("'t': extent -2 in [-2,3] is not a size");
    expect(() => tensor.view([Number.NaN])).toThrow('is not a size');
  });

  test('a disposed tensor is refused by its name, by operations, reads and writes', async () => {
    const tensor = f32('gone', 4);
    const view = tensor.view([2], 1, 'part of it');
    const other = f32('other', 4);
    device.copy({ input: tensor, output: other });
    tensor.dispose();
    tensor.dispose();
    expect(() => device.copy({ input: tensor, output: other })).toThrow("copy: tensor 'gone' was disposed");
    expect(() => device.fill({ output: view, value: 1 })).toThrow("fill: tensor 'part of it' was disposed");
    expect(() => device.write(tensor, [1, 2, 3, 4])).toThrow("write: tensor 'gone' was disposed");
    await expect(device.read(tensor)).rejects.toThrow("read: tensor 'gone' was disposed");
    expect(await device.read(other)).toEqual(new Float32Array(4));
  });

  test('using disposes', () => {
    const kept = (() => {
      using tensor = f32('scoped', 4);
      return tensor;
    })();
    expect(kept.disposed).toBe(true);
  });

  test('tensors of another device are refused', async () => {
    using other = new ReferenceDevice();
    const foreign = other.zeros('foreign', [4]);
    expect(() => device.gelu({ input: foreign, output: f32('y', 4) })).toThrow("gelu: 'foreign' f32 [4] belongs to another device");
    await expect(device.read(foreign)).rejects.toThrow('belongs to another device');
  });

  test('after dispose every tensor is refused, and none can be made', async () => {
    const ended = await create();
    const tensor = ended.zeros('late', [4]);
    ended.dispose();
    expect(() => ended.fill({ output: tensor, value: 1 })).toThrow("tensor 'late' was disposed");
    expect(() => ended.tensor('later', [4])).toThrow('disposed');
    ended.dispose();
  });
});
