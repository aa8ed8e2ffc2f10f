import { input, normal, type Operand, type OperationCase, output, rounding, sums, type Tolerance, updated } from './case.ts';

interface Variant {
  rows: number;
  width: number;
  what?: string;
  /** Inputs are offset + spread x normal. */
  offset?: number;
  spread?: number;
  epsilon?: number;
  tolerance?: Tolerance;
}

const variants: Variant[] = [
  { rows: 0, width: 8 },
  { rows: 1, width: 1, epsilon: 1e-5, tolerance: { ...sums, atLeast: 1, reason: 'the gradient is 0: differences of equal terms' } },
  { rows: 1, width: 16 },
  { rows: 3, width: 7 },
  { rows: 5, width: 33 },
  { rows: 17, width: 100 },
  { rows: 300, width: 20 },
  { rows: 9, width: 768 },
  { rows: 50, width: 770, what: 'several pieces' },
  {
    rows: 4,
    width: 65,
    what: 'mean 100 times the deviation',
    offset: 100,
    tolerance: { value: 2e-5, reason: 'float32 rounds the mean to 4e-6 of the deviation, and inputs are that far apart only' },
  },
  { rows: 2, width: 24, what: 'rows of zeros', spread: 0 },
  { rows: 3, width: 40, what: 'whose squares leave the range of float32', spread: 1e30 },
  { rows: 2, width: 40, what: 'whose sum leaves it too', offset: 1e37, spread: 3e36 },
];

/** What a forward in training takes and keeps, and the gradient of its output. */
function keptOperands(random: Parameters<OperationCase['operands']>[0], rowsOf: Operand) {
  const [rows, width] = rowsOf.shape;
  return {
    input: rowsOf,
    gamma: normal(random, [width]),
    beta: normal(random, [width]),
    output: output([rows, width]),
    mean: output([rows]),
    rstd: output([rows]),
    gradOutput: normal(random, [rows, width]),
  };
}

const layerNorm = ({ rows, width, what, offset = 0, spread = 1, epsilon = 1e-12, tolerance = sums }: Variant): OperationCase => ({
  name: `layerNorm ${rows} x ${width}${what ? `, ${what}` : ''}`,
  tolerance,
  operands: (random) => ({
    ...keptOperands(
      random,
      input(
        [rows, width],
        random.normals(rows * width).map((x) => offset + spread * x),
      ),
    ),
    // Slopes of huge inputs are tiny: a large gradient keeps what follows from it away from what processors flush to 0.
    ...(spread > 1e20 && { gradOutput: normal(random, [rows, width], 1e10) }),
    gradInput: output([rows, width]),
    gradGamma: updated(normal(random, [width])),
    gradBeta: updated(normal(random, [width])),
  }),
  forward: (device, t) =>
    device.layerNorm({ input: t.input, gamma: t.gamma, beta: t.beta, epsilon, output: t.output, mean: t.mean, rstd: t.rstd }),
  backward: (device, t) =>
    device.layerNormBackward({
      input: t.input,
      gamma: t.gamma,
      mean: t.mean,
      rstd: t.rstd,
      gradOutput: t.gradOutput,
      gradInput: t.gradInput,
      gradGamma: t.gradGamma,
      gradBeta: t.gradBeta,
    }),
  // Rows without spread are divided by 1e-6, and the slopes of huge ones are next to nothing: finite differences say nothing there.
  gradient:
    spread === 0 || spread > 1e20 || rows * width > 10000
      ? undefined
      : { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput', gamma: 'gradGamma', beta: 'gradBeta' } },
});

export const layerNormCases: OperationCase[] = [
  ...variants.map(layerNorm),
  {
    name: 'layerNorm 6 x 35, nothing kept',
    tolerance: rounding,
    operands: (random) => ({
      input: normal(random, [6, 35]),
      gamma: normal(random, [35]),
      beta: normal(random, [35]),
      output: output([6, 35]),
    }),
    forward: (device, { input, gamma, beta, output }) => device.layerNorm({ input, gamma, beta, epsilon: 1e-12, output }),
  },
  ...[
    [6, 35],
    [50, 770],
  ].map(
    ([rows, width]): OperationCase => ({
      name: `layerNorm ${rows} x ${width}, backward accumulates, gamma and beta frozen`,
      tolerance: sums,
      operands: (random) => ({
        ...keptOperands(random, normal(random, [rows, width])),
        gradInput: updated(normal(random, [rows, width])),
      }),
      forward: (device, { input, gamma, beta, output, mean, rstd }) =>
        device.layerNorm({ input, gamma, beta, epsilon: 1e-12, output, mean, rstd }),
      backward: (device, { input, gamma, mean, rstd, gradOutput, gradInput }) =>
        device.layerNormBackward({ input, gamma, mean, rstd, gradOutput, gradInput, accumulate: true }),
      gradient: width > 100 ? undefined : { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput' } },
    }),
  ),
  ...(['gradGamma', 'gradBeta'] as const).map(
    (only): OperationCase => ({
      name: `layerNorm 6 x 35, backward for ${only} alone`,
      tolerance: sums,
      operands: (random) => ({
        input: normal(random, [6, 35]),
        gamma: normal(random, [35]),
        mean: normal(random, [6]),
        rstd: normal(random, [6]),
        gradOutput: normal(random, [6, 35]),
        gradInput: output([6, 35]),
        [only]: updated(normal(random, [35])),
      }),
      forward: (device, { input, gamma, mean, rstd, gradOutput, gradInput, gradGamma, gradBeta }) =>
        device.layerNormBackward({ input, gamma, mean, rstd, gradOutput, gradInput, gradGamma, gradBeta }),
    }),
  ),
  {
    name: 'layerNorm 6 x 35, backward in place',
    tolerance: sums,
    operands: (random) => ({
      input: normal(random, [6, 35]),
      gamma: normal(random, [35]),
      beta: normal(random, [35]),
      output: output([6, 35]),
      mean: output([6]),
      rstd: output([6]),
      gradient: updated(normal(random, [6, 35])),
      gradGamma: updated(normal(random, [35])),
      gradBeta: updated(normal(random, [35])),
    }),
    forward: (device, { input, gamma, beta, output, mean, rstd }) =>
      device.layerNorm({ input, gamma, beta, epsilon: 1e-12, output, mean, rstd }),
    backward: (device, { input, gamma, mean, rstd, gradient, gradGamma, gradBeta }) =>
      device.layerNormBackward({ input, gamma, mean, rstd, gradOutput: gradient, gradInput: gradient, gradGamma, gradBeta }),
  },
];
