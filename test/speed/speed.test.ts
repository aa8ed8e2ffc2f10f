import { describe, expect, test } from 'vitest';
import { operations } from '../../src/backend/operations/operations.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import { compare, counterpart, lineOf, type SpeedResult } from './report.ts';
import { speedCases } from './speed_cases.ts';

describe('the speed cases', () => {
  test('time every operation', () => {
    const covered = new Set<string>();
    /** Notes what is called, and computes nothing. */
    class RecordingDevice extends ReferenceDevice {
      override enqueue(operation: string): void {
        covered.add(operation);
      }
    }
    using device = new RecordingDevice();
    const random = { normals: (count: number) => new Float32Array(count), integers: (count: number) => new Int32Array(count) };
    for (const { operands, setUp, run } of speedCases) {
      const tensors: Record<string, Tensor> = {};
      for (const [name, { shape, dtype }] of Object.entries(operands(random as never))) tensors[name] = device.tensor(name, shape, dtype);
      run(device, tensors, setUp?.(device, tensors));
      for (const name in tensors) tensors[name].dispose();
    }
    expect([...covered].sort()).toEqual(Object.keys(operations).sort());
  });

  test('have names of their own', () => {
    expect(new Set(speedCases.map(({ name }) => name)).size).toBe(speedCases.length);
  });
});

describe('two runs', () => {
  const timing = (median: number, spread: number) => ({ median, low: median * (1 - spread), high: median * (1 + spread) });

  test.each([
    [200, 100, 0.02, 'slower'],
    [100, 200, 0.02, 'faster'],
    [104, 100, 0.001, 'the same'],
    [120, 100, 0.1, 'the same'],
    [80, 100, 0.2, 'the same'],
    [130, 100, 0.1, 'slower'],
  ] as const)('%d ns after %d ns, spread %d: %s', (now, before, spread, verdict) => {
    expect(compare(timing(now, spread), timing(before, spread))).toEqual({ ratio: now / before, verdict });
  });

  test('a case is compared with itself, on the same backend', () => {
    const result = (device: string, name: string, median: number): SpeedResult => ({ device, name, ...timing(median, 0.01) });
    const before = { machine: '', results: [result('a', 'x', 1), result('b', 'x', 2), result('a', 'y', 3)] };
    expect(counterpart(result('b', 'x', 9), before)?.median).toBe(2);
    expect(counterpart(result('b', 'y', 9), before)).toBeUndefined();
  });

  test('a line tells time, spread, rate and what became slower', () => {
    const before = { device: 'a', name: 'add', ...timing(1000, 0.01), bytes: 12_000 };
    expect(lineOf({ ...before, ...timing(1500, 0.02) }, before).replace(/ +/g, ' ')).toBe('add 1.50 us +- 2 % 8.0 GB/s x 1.50 SLOWER');
    const { bytes, ...multiplied } = { ...before, operations: 5000 };
    expect(lineOf(multiplied, undefined).replace(/ +/g, ' ')).toBe('add 1.00 us +- 1 % 5.0 GFLOP/s');
  });
});
