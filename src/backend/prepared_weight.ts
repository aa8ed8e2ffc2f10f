import type { Device } from './device.ts';
import { type Storage, sizeOf, Tensor } from './tensor.ts';

/**
 * How a prepared weight is stored, and so how its products are computed:
 * - f32: as it is, in the order that the backend's kernels read.
 * - bf16: weights and, in products, inputs are rounded to bf16 (to nearest, ties to even); products are summed in f32.
 * - i8: each row of the weight is rounded to 8-bit integers by a scale of its own, s = max |w| / 127 (q = w / s, to nearest, ties to even;
 *   a row of zeros has scale 0), and so is, at each call, each row of the input; the integer products are summed exactly and scaled by both.
 * Attention in a model of bf16 or i8 weights multiplies in bf16 if {@link Device.multipliesBf16}, else in f32.
 */
export type Precision = 'f32' | 'bf16' | 'i8';

export const precisions: readonly Precision[] = ['f32', 'bf16', 'i8'];

/**
 * How products of tensors that change are computed, of weights in training and in attention: in f32, or with both operands rounded to
 * bf16 (to nearest, ties to even) and their products summed in f32. Operands stay as they are in memory, and so do results.
 */
export type ProductPrecision = 'f32' | 'bf16';

export const productPrecisions: readonly ProductPrecision[] = ['f32', 'bf16'];

const bytes: Record<Precision, number> = { f32: 4, bf16: 2, i8: 1 };

/**
 * A read-only copy of a weight for inference, made by {@link Device.prepareLinear} or {@link Device.prepareNodes}. What `data` holds
 * is the device's own affair; its size is the same on all: rows padded to 64 elements, and two f32 or i32 a row (scales, sums).
 * Who makes it disposes it (`using` works). The weight it was made from is not needed any more.
 */
export class PreparedWeight {
  readonly data: Tensor;

  constructor(
    readonly device: Device,
    readonly name: string,
    /** What takes it: 'linear' or 'fff'. */
    readonly operation: 'linear' | 'fff',
    /** Of the weight: [outputs, inputs] or [nodes, 2 width]. */
    readonly shape: readonly [number, number],
    readonly precision: Precision,
    storage: Storage,
  ) {
    this.data = new Tensor(device, name, [storage.bytes], 'i8', storage);
  }

  /** Bytes that a prepared weight of this shape takes. */
  static bytes(operation: 'linear' | 'fff', shape: readonly [number, number], precision: Precision): number {
    const padded = (n: number) => Math.ceil(n / 64) * 64;
    const [rows, columns] = shape;
    const elements = operation === 'linear' ? padded(rows) * padded(columns) : rows * 2 * padded(columns / 2);
    return sizeOf('prepared weight', [elements * bytes[precision] + 8 * padded(rows)]);
  }

  get disposed(): boolean {
    return this.data.disposed;
  }

  dispose(): void {
    this.data.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
