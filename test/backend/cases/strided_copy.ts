import type { FileType } from '../../../src/backend/operations/strided_copy.ts';
import { toBfloat16 } from '../../../src/io/half_floats.ts';
import type { Placement } from '../../../src/nn/parameter.ts';
import type { Random } from '../random.ts';
import { exact, normal, type Operand, type OperationCase, updated } from './case.ts';

interface Variant extends Placement {
  name: string;
  size: number;
}

/** Whole and in rows, by itself and among others, transposed; tails of vectors, of squares and of pieces of work. */
const variants: Variant[] = [
  { name: 'nothing', rows: 3, columns: 0, offset: 0, rowStride: 0, columnStride: 1, size: 5 },
  { name: 'one value', rows: 1, columns: 1, offset: 2, rowStride: 0, columnStride: 0, size: 4 },
  { name: 'as it is', rows: 5, columns: 7, offset: 0, rowStride: 7, columnStride: 1, size: 35 },
  { name: 'as it is, long', rows: 1, columns: 40_001, offset: 3, rowStride: 1, columnStride: 1, size: 40_010 },
  { name: 'every other row', rows: 9, columns: 33, offset: 33, rowStride: 66, columnStride: 1, size: 9 * 66 },
  { name: 'rows longer than a piece', rows: 2, columns: 17_000, offset: 0, rowStride: 17_003, columnStride: 1, size: 34_010 },
  { name: 'transposed', rows: 35, columns: 131, offset: 35, rowStride: 1, columnStride: 70, size: 131 * 70 },
  { name: 'transposed, small', rows: 3, columns: 2, offset: 0, rowStride: 1, columnStride: 3, size: 6 },
  { name: 'one column', rows: 50, columns: 1, offset: 1, rowStride: 3, columnStride: 9, size: 150 },
  { name: 'apart in both', rows: 4, columns: 5, offset: 1, rowStride: 20, columnStride: 3, size: 80 },
];

/** Finite bits of every kind: of both signs, zeros, and the smallest and largest. */
const values: Record<FileType, (random: Random, count: number) => Uint8Array> = {
  F32: (random, count) => {
    const floats = random.normals(count, 1);
    floats.set([-0, 2 ** -149, 3.4028234e38].slice(0, count));
    return new Uint8Array(floats.buffer);
  },
  BF16: (random, count) => new Uint8Array(toBfloat16(random.normals(count, 1)).buffer),
  F16: (random, count) => {
    const bits = Uint16Array.from(random.integers(count, 0x7c00), (magnitude, i) => magnitude | (i % 2 ? 0x8000 : 0));
    bits.set([0x8000, 1, 0x3ff, 0x400, 0x7bff].slice(0, count));
    return new Uint8Array(bits.buffer);
  },
};

const bytesOf = (bytes: Uint8Array): Operand => ({
  role: 'input',
  shape: [bytes.length],
  dtype: 'i8',
  values: new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length),
});

export const stridedCopyCases: OperationCase[] = (['F32', 'BF16', 'F16'] as const).flatMap((type) =>
  variants.map(({ name, size, ...placement }) => ({
    name: `stridedCopy ${type}, ${name}`,
    tolerance: exact,
    operands: (random) => ({
      input: bytesOf(values[type](random, placement.rows * placement.columns)),
      output: updated(normal(random, [size])),
    }),
    forward(device, { input, output }) {
      device.stridedCopy({ input, type, output, ...placement });
    },
  })),
);
