import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { readSafetensors } from '../src/io/safetensors.ts';

/**
 * The exact figures that every backend has to agree with, computed by the authors' PyTorch code and Hugging Face's. The environment
 * variable UFB_GOLDENS names another folder of the same form.
 */
export const goldensFolder = process.env.UFB_GOLDENS ?? fileURLToPath(new URL('./fixtures/goldens', import.meta.url));

export function goldenPath(...parts: string[]): string {
  return join(goldensFolder, ...parts);
}

export function goldenJson<T>(...parts: string[]): T {
  return JSON.parse(readFileSync(goldenPath(...parts), 'utf8')) as T;
}

export interface GoldenTensors {
  names: string[];
  shape(name: string): readonly number[];
  floats(name: string): Float32Array;
  integers(name: string): Int32Array;
}

/** A safetensors file of the goldens, read whole. */
export const goldenTensors = (...parts: string[]): Promise<GoldenTensors> => fileTensors(goldenPath(...parts));

/** A safetensors file, read whole. */
export async function fileTensors(path: string): Promise<GoldenTensors> {
  await using file = await readSafetensors(path);
  const floats = new Map<string, Float32Array>();
  const integers = new Map<string, Int32Array>();
  const shapes = new Map<string, readonly number[]>();
  for (const name of file.names) {
    const { dtype, shape } = file.info(name);
    shapes.set(name, shape);
    if (dtype.includes('F')) floats.set(name, await file.read(name));
    else integers.set(name, await file.readIntegers(name));
  }
  const get = <V>(map: Map<string, V>, name: string): V => {
    const value = map.get(name);
    if (!value) throw new Error(`${path} has no tensor '${name}' of this kind`);
    return value;
  };
  return {
    names: [...shapes.keys()],
    shape: (name) => get(shapes, name),
    floats: (name) => get(floats, name),
    integers: (name) => get(integers, name),
  };
}

/** The tolerances that the goldens state, relative to a tensor's largest value (losses: absolute). */
export const tolerances = { output: 2e-5, gradient: 1e-4, loss: 1e-4, trainedWeight: 1e-3 } as const;

export function largest(values: ArrayLike<number>): number {
  let result = 0;
  for (let i = 0; i < values.length; i++) result = Math.max(result, Math.abs(values[i]));
  return result;
}

/** Every value within `tolerance` times the largest expected one, or times `scale` if given. */
export function expectClose(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  scale = largest(expected),
): void {
  expect(actual.length, `${what}: size`).toBe(expected.length);
  let worst = -1;
  let at = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i]);
    // Written so that NaN counts as the worst.
    if (!(error <= worst)) [worst, at] = [error, i];
  }
  const allowed = tolerance * scale;
  expect(worst <= allowed, `${what}: element ${at} is ${actual[at]}, expected ${expected[at]} within ${allowed} (off by ${worst})`).toBe(
    true,
  );
}
