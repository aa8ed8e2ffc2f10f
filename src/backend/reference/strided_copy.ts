import type { Implementation } from '../operations/operation.ts';
import type * as operations from '../operations/strided_copy.ts';

/** The types by their numbers in the operation: F32, BF16, F16. */
const readers = [
  { bytes: 4, read: (view: DataView, at: number) => view.getFloat32(at, true) },
  { bytes: 2, read: (view: DataView, at: number) => upperHalf(view.getUint16(at, true)) },
  { bytes: 2, read: (view: DataView, at: number) => half(view.getUint16(at, true)) },
];

export const stridedCopy: Implementation<typeof operations.stridedCopy> = (
  { input, output },
  { type, rows, columns, offset, rowStride, columnStride },
) => {
  const { bytes, read } = readers[type];
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  let finite = true;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const value = read(view, (row * columns + column) * bytes);
      finite &&= Number.isFinite(value);
      output[offset + row * rowStride + column * columnStride] = value;
    }
  }
  if (!finite) throw new RangeError('stridedCopy: the input holds a value that is not finite');
};

/** A float32 of which these are the upper 16 bits. */
function upperHalf(bits: number): number {
  word.setUint32(0, bits << 16);
  return word.getFloat32(0);
}
const word = new DataView(new ArrayBuffer(4));

/** IEEE 754 binary16. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}
