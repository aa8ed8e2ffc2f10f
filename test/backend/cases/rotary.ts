import type { Tensor } from '../../../src/backend/tensor.ts';
import { input, normal, type OperationCase, rounding, updated } from './case.ts';

export const rotaryCases: OperationCase[] = [
  { rows: 1, heads: 1, headSize: 2 },
  { rows: 5, heads: 3, headSize: 14 },
  { rows: 7, heads: 2, headSize: 64, what: 'the first two thirds of a row', rowHeads: 3 },
  { rows: 3, heads: 2, headSize: 20, half: 4, what: 'a part of each head' },
  { rows: 400, heads: 4, headSize: 66, what: 'several pieces' },
].map(
  ({ rows, heads, headSize, half = headSize / 2, rowHeads = heads, what }): OperationCase => ({
    name: `rotary ${rows} x ${heads} heads of ${headSize}${what ? `, ${what}` : ''}`,
    tolerance: rounding,
    operands: (random) => {
      const angles = random.normals(rows * half, 3);
      const turned = Float32Array.from({ length: rows * 2 * half }, (_, at) => {
        const [row, column] = [Math.floor(at / (2 * half)), at % (2 * half)];
        return column < half ? Math.cos(angles[row * half + column]) : Math.sin(angles[row * half + column - half]);
      });
      const shape = [rows, rowHeads * headSize];
      return { vectors: updated(normal(random, shape)), back: updated(normal(random, shape)), rotation: input([rows, 2 * half], turned) };
    },
    forward(device, { vectors, back, rotation }) {
      const of = (tensor: Tensor) => ({ tensor, offset: 0, batchStride: 0, rowStride: rowHeads * headSize, headStride: headSize });
      device.rotary({ vectors: of(vectors), rotation, rows, heads });
      device.rotary({ vectors: of(back), rotation, rows, heads, inverse: true });
    },
  }),
);
