import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { Storage, Tensor, TypedArray } from '../../src/backend/tensor.ts';

/**
 * The reference with every f32 tensor held in double, so that finite differences are exact to many digits more than the gradients
 * they check. Values that are written are kept as they are if they come as plain numbers, not as a Float32Array.
 */
export class DoublePrecisionDevice extends ReferenceDevice {
  override allocate(bytes: number): Storage {
    // The storage says what it holds in elements of four bytes, as an arena reckons.
    return Object.assign(super.allocate(2 * bytes), { bytes });
  }

  override write(tensor: Tensor, values: TypedArray | readonly number[]): void {
    if (tensor.dtype === 'f32' && Array.isArray(values) && values.length === tensor.size) (this.values(tensor) as Float64Array).set(values);
    else super.write(tensor, values);
  }

  protected override values(tensor: Tensor): TypedArray | Float64Array {
    if (tensor.dtype !== 'f32') return super.values(tensor);
    return new Float64Array(tensor.storage.data as ArrayBuffer, tensor.offset * 8, tensor.size);
  }
}
