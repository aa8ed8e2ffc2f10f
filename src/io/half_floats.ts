/** Floating-point values in 16 bits: bfloat16 and IEEE 754's float16. */
import { InputError } from '../errors.ts';

/** Float32 values of bfloat16 bits. A function of its own, so that the engine sees one array type only: opening a model spends its time here. */
export function fromBfloat16(values: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = values[i] << 16;
  return new Float32Array(bits.buffer);
}

/** The value of float16 bits. */
export function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** bfloat16 bits of float32 values, rounded to nearest, ties to even; NaN stays NaN. */
export function toBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const result = new Uint16Array(values.length);
  for (let i = 0; i < result.length; i++) {
    const value = bits[i];
    const notANumber = (value & 0x7fffffff) > 0x7f800000;
    result[i] = notANumber ? (value >>> 16) | 0x40 : (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
  }
  return result;
}

/**
 * float16 bits of float32 values, rounded to nearest, ties to even; NaN stays NaN.
 * @throws InputError if a finite value is larger than float16 holds (65504); `name` says which tensor's.
 */
export function toFloat16(values: Float32Array, name = 'values'): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const result = new Uint16Array(values.length);
  for (let i = 0; i < result.length; i++) {
    const sign = (bits[i] >>> 16) & 0x8000;
    const magnitude = bits[i] & 0x7fffffff;
    if (magnitude > 0x7f800000) result[i] = sign | 0x7e00;
    else if (magnitude === 0x7f800000) result[i] = sign | 0x7c00;
    else if (magnitude < 0x38800000) {
      // Below 2^-14 the steps are 2^-24, and rounding up to 1024 of them gives the smallest normal number.
      const steps = Math.abs(values[i]) * 2 ** 24;
      const below = Math.floor(steps);
      const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 === 1);
      result[i] = sign | (below + (up ? 1 : 0));
    } else {
      const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
      if (rounded >= 0x47800000)
        throw new InputError(`tensor '${name}' holds ${values[i]}, more than float16 holds (65504): take bf16 or f32`);
      result[i] = sign | ((rounded - 0x38000000) >>> 13);
    }
  }
  return result;
}
