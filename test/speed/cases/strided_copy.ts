import { nodes, width, zeros } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

export const stridedCopy: SpeedCase[] = [
  { name: 'as it is', rows: nodes, columns: width, offset: 0, rowStride: 2 * width, columnStride: 1 },
  { name: 'transposed', rows: width, columns: nodes, offset: width, rowStride: 1, columnStride: 2 * width },
].map(({ name, ...placement }) => ({
  name: `stridedCopy BF16, ${name}`,
  operands: () => ({
    input: { role: 'input', shape: [2 * nodes * width], dtype: 'i8', values: new Int8Array(2 * nodes * width) },
    output: zeros([nodes, 2 * width]),
  }),
  run: (device, { input, output }) => device.stridedCopy({ input, type: 'BF16', output, ...placement }),
  bytes: 6 * nodes * width,
}));
