import { input, output } from '../../backend/cases/case.ts';
import { alike, flags, inner, nodes, width, zeros } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

export const optimizer: SpeedCase[] = [
  {
    name: 'clipScale',
    operands: () => ({ sums: zeros([100]), output: output([2]) }),
    run: (device, { sums, output }) => device.clipScale({ sums, maximum: 0.5, output }),
  },
  {
    name: 'adamw',
    operands: (random) => ({
      ...alike([inner, width], 'parameter', 'gradient', 'mean')(random),
      variance: input([inner, width], new Float32Array(inner * width).fill(1)),
    }),
    run: (device, { parameter, gradient, mean, variance }) =>
      device.adamw({
        ...{ parameter, gradient, mean, variance },
        ...{ learningRate: 1e-3, beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0.01, step: 10 },
      }),
    bytes: 28 * inner * width,
  },
  {
    name: 'clearRows, one of four',
    operands: () => ({ gradient: zeros([nodes, 2 * width]), rowMask: flags(nodes) }),
    run: (device, { gradient, rowMask }) => device.clearRows({ gradient, rowMask }),
    bytes: 2 * nodes * width,
  },
  {
    name: 'addRows, one of four',
    operands: (random) => ({
      ...alike([nodes, 2 * width], 'input', 'output')(random),
      inputMask: flags(nodes),
      rowMask: flags(nodes),
    }),
    run: (device, { input, inputMask, output, rowMask }) => device.addRows({ input, inputMask, output, rowMask }),
    bytes: 6 * nodes * width,
  },
];
