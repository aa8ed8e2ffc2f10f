import { input, normal, type OperationCase, output, sums, updated } from './case.ts';

export const rmsNormCases: OperationCase[] = [
  { rows: 0, width: 8 },
  { rows: 1, width: 1, epsilon: 0.5 },
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
      rstd: output([rows]),
      inference: output([rows, width]),
      gradOutput: normal(random, [rows, width]),
      gradInput: output([rows, width]),
      gradGamma: updated(normal(random, [width])),
      // A residual's gradient that is already there; a norm whose gamma is frozen, in place.
      accumulated: updated(normal(random, [rows, width])),
      inPlace: updated(normal(random, [rows, width])),
    }),
    forward(device, { input, gamma, output, rstd, inference }) {
      device.rmsNorm({ input, gamma, epsilon, output, rstd });
      device.rmsNorm({ input, gamma, epsilon, output: inference });
    },
    backward(device, { input, gamma, rstd, gradOutput, gradInput, gradGamma, accumulated, inPlace }) {
      device.rmsNormBackward({ input, gamma, rstd, gradOutput, gradInput, gradGamma });
      device.rmsNormBackward({ input, gamma, rstd, gradOutput, gradInput: accumulated, accumulate: true });
      device.rmsNormBackward({ input, gamma, rstd, gradOutput: inPlace, gradInput: inPlace });
    },
    gradient:
      spread === 1 && rows * width < 7000
        ? { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput', gamma: 'gradGamma' } }
        : undefined,
  }),
);
