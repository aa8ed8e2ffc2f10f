import { input, normal, type OperationCase, output, sums } from './case.ts';

export const rmsNormCases: OperationCase[] = [
  { rows: 0, width: 8 },
  { rows: 1, width: 1, epsilon: 1e-5 },
  { rows: 3, width: 7 },
  { rows: 5, width: 33, epsilon: 0.1 },
  { rows: 300, width: 20 },
  { rows: 50, width: 770, what: 'several pieces' },
  { rows: 2, width: 24, what: 'rows of zeros', spread: 0 },
  { rows: 3, width: 40, what: 'whose squares leave the range of float32', spread: 1e30 },
].map(
  ({ rows, width, epsilon = 1e-6, what, spread = 1 }): OperationCase => ({
    name: `rmsNorm ${rows} x ${width}${what ? `, ${what}` : ''}`,
    tolerance: sums,
    operands: (random) => ({
      input: input(
        [rows, width],
        random.normals(rows * width).map((x) => spread * x),
      ),
      gamma: normal(random, [width]),
      output: output([rows, width]),
    }),
    forward: (device, { input, gamma, output }) => device.rmsNorm({ input, gamma, epsilon, output }),
  }),
);
