import type { Device } from '../../../src/backend/device.ts';
import type { DType, Tensor, TypedArray } from '../../../src/backend/tensor.ts';
import type { Random } from '../random.ts';

/** How far a result may be from the reference's: the largest difference over the reference's largest value. */
export interface Tolerance {
  value: number;
  reason: string;
  /** What the difference is taken over where the largest value is smaller: for results that are 0 because their terms cancel. */
  atLeast?: number;
}

export const exact: Tolerance = { value: 0, reason: 'values are moved or counted, not computed' };
export const rounding: Tolerance = { value: 1e-6, reason: 'a few float32 roundings of 6e-8 in a formula of one element' };
export const sums: Tolerance = { value: 5e-6, reason: 'float32 sums of up to a few thousand terms in an order of their own' };

/** A tensor of a case. An input must come out as it went in; an output goes in as garbage; what is updated goes in with values. */
export interface Operand {
  role: 'input' | 'output' | 'updated';
  shape: readonly number[];
  dtype: DType;
  values: TypedArray;
}

export type Tensors = Record<string, Tensor>;

/**
 * One operation, or a forward and its backward, on tensors of one set of shapes. It runs on every backend in these modes:
 * agree (all outputs against the reference) and gradient (the backward's against finite differences of the reference's forward).
 */
export interface OperationCase {
  name: string;
  tolerance: Tolerance;
  operands(random: Random): Record<string, Operand>;
  forward(device: Device, tensors: Tensors): void;
  /** Runs after forward, on the same tensors. */
  backward?(device: Device, tensors: Tensors): void;
  /**
   * What the gradient mode differentiates: the loss is the sum of each of `outputs` times the operand, or the number, named beside it (what
   * the backward takes for the output's gradient); `inputs` names the operand that the backward leaves an input's gradient in.
   */
  gradient?: { outputs: Record<string, string | number>; inputs: Record<string, string> };
}

const size = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);

export function input(shape: readonly number[], values: TypedArray | readonly number[]): Operand {
  const dtype = values instanceof Int32Array ? 'i32' : 'f32';
  return { role: 'input', shape, dtype, values: ArrayBuffer.isView(values) ? values : Float32Array.from(values) };
}

/** Standard normal values, times `standardDeviation`. */
export function normal(random: Random, shape: readonly number[], standardDeviation = 1): Operand {
  return input(shape, random.normals(size(shape), standardDeviation));
}

/** Garbage: NaN, or an index outside of everything. */
export function output(shape: readonly number[], dtype: DType = 'f32'): Operand {
  const values = dtype === 'f32' ? new Float32Array(size(shape)).fill(Number.NaN) : new Int32Array(size(shape)).fill(-7777777);
  return { role: 'output', shape, dtype, values };
}

/** What an operation adds to, or changes in place. */
export function updated(operand: Operand): Operand {
  return { ...operand, role: 'updated' };
}

/** Counts of elements for operations on each by itself; the last is two pieces of work. */
export const elementwiseSizes = [0, 1, 7, 16, 67, 4099, 20011];
