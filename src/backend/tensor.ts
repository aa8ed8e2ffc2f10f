import { ShapeError } from '../errors.ts';
import type { Device } from './device.ts';

/** f32: 32-bit float; i32: 32-bit signed integer; bf16: the upper half of a float, as its bits; i8: 8-bit signed integer, or a byte of what only a kernel reads. */
export type DType = 'f32' | 'i32' | 'bf16' | 'i8';

export type TypedArray = Float32Array | Int32Array | Uint16Array | Int8Array;

/** What holds the values of a tensor of each type in JavaScript. */
export const arrayTypes = { f32: Float32Array, i32: Int32Array, bf16: Uint16Array, i8: Int8Array } as const;

export const bytesPerElement: Record<DType, number> = { f32: 4, i32: 4, bf16: 2, i8: 1 };

/** How many elements a tensor of this shape has. Throws ShapeError if an extent is no size: native code trusts the product. */
export function sizeOf(name: string, shape: readonly number[]): number {
  let size = 1;
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 0) throw new ShapeError(`tensor '${name}': extent ${extent} in [${shape}] is not a size`);
    size *= extent;
  }
  if (!Number.isSafeInteger(size * bytesPerElement.f32)) throw new ShapeError(`tensor '${name}' [${shape}] is too large`);
  return size;
}

/**
 * A block of memory that a device owns. `address` is the device's own notion of where it lies (a pointer for native code, an
 * offset for WASM); `data` is set only where JavaScript itself holds the memory (the reference).
 */
export interface Storage {
  readonly bytes: number;
  readonly address: number;
  readonly data?: ArrayBuffer;
  disposed: boolean;
}

/**
 * An n-dimensional array in a device's memory, dense and row-major. Who creates a tensor disposes it (`using` works); a view
 * shares its parent's storage and owns nothing. Values are seen through `device.read`, never directly.
 */
export class Tensor {
  readonly size: number;

  constructor(
    readonly device: Device,
    readonly name: string,
    readonly shape: readonly number[],
    readonly dtype: DType,
    readonly storage: Storage,
    /** First element, counted in elements from the start of the storage. */
    readonly offset = 0,
    private readonly owner = true,
  ) {
    this.size = sizeOf(name, shape);
  }

  /** A tensor of another shape over the same storage, from element `offset` of this tensor on. Throws if it would reach past the end. */
  view(shape: readonly number[], offset = 0, name = this.name): Tensor {
    const size = sizeOf(name, shape);
    if (!Number.isInteger(offset) || offset < 0 || offset + size > this.size) {
      throw new RangeError(
        `view of '${this.name}' [${this.shape}]: [${shape}] at element ${offset} reaches past its ${this.size} elements`,
      );
    }
    return new Tensor(this.device, name, shape, this.dtype, this.storage, this.offset + offset, false);
  }

  get disposed(): boolean {
    return this.storage.disposed;
  }

  /** Gives the memory back once operations already queued have run. A view's dispose does nothing. Disposing twice does nothing. */
  dispose(): void {
    if (this.owner && !this.storage.disposed) this.device.release(this.storage);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Where a tensor's first element lies, in its device's notion of addresses; 0 for an absent operand. */
export function addressOf(tensor: Tensor | undefined): number {
  return tensor ? tensor.storage.address + bytesPerElement[tensor.dtype] * tensor.offset : 0;
}

/** A new array for as many values as the tensor has. */
export function arrayFor(tensor: Tensor): TypedArray {
  return new arrayTypes[tensor.dtype](tensor.size);
}
