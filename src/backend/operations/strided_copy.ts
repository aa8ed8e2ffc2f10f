import { ShapeError } from '../../errors.ts';
import { input, operation, updated } from './operation.ts';
import { describe, indexIn } from './shapes.ts';

/** Bytes of a value of each type that {@link stridedCopy} reads: IEEE 754 in 32 and 16 bits, and bfloat16. */
const bytesPerFileValue = { F32: 4, BF16: 2, F16: 2 } as const;
export type FileType = keyof typeof bytesPerFileValue;

export interface Places {
  type: FileType;
  rows: number;
  columns: number;
  offset: number;
  rowStride: number;
  columnStride: number;
}

/**
 * Little-endian values of a file, taken as [rows, columns], to where a layout wants them: value (r, c) goes, as float32, to output
 * element offset + r rowStride + c columnStride; other elements stay as they are. input: the values' bytes (i8). Exact. A value that
 * is not finite is a late error.
 */
export const stridedCopy = operation<Places>()('stridedCopy', {
  operands: { input: input('i8', 'bytes'), output: updated('f32') },
  numbers: ['type', 'rows', 'columns', 'offset', 'rowStride', 'columnStride', 'bytes'],
  measure: (a) => {
    const { rows, columns, offset, rowStride, columnStride } = a;
    const numbers = [rows, columns, offset, rowStride, columnStride] as const;
    if (!numbers.every((n) => Number.isSafeInteger(n) && n >= 0)) throw new ShapeError(`[${numbers}] are not all sizes`);
    const type = indexIn('type', a.type, Object.keys(bytesPerFileValue));
    const [lastRow, lastColumn] = [(rows - 1) * rowStride, (columns - 1) * columnStride];
    if (rows * columns > 0) {
      if (!(offset + lastRow + lastColumn < a.output.size))
        throw new ShapeError(`reaches element ${offset + lastRow + lastColumn} of ${describe(a.output)}`);
      const apart = (rows < 2 || rowStride > lastColumn) && (columns < 2 || columnStride > 0);
      if (!apart && !((columns < 2 || columnStride > lastRow) && (rows < 2 || rowStride > 0)))
        throw new ShapeError(`with strides ${rowStride} and ${columnStride}, values of [${rows}, ${columns}] fall on each other`);
    }
    return [type, ...numbers, rows * columns * bytesPerFileValue[a.type]];
  },
});
