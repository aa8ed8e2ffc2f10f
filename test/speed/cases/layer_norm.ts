import { alike, tokens, width } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

export const layerNorm: SpeedCase[] = [
  {
    name: 'layerNorm',
    operands: (random) => ({ ...alike([tokens, width], 'input', 'output')(random), ...alike([width], 'gamma', 'beta')(random) }),
    run: (device, { input, gamma, beta, output }) => device.layerNorm({ input, gamma, beta, epsilon: 1e-12, output }),
    bytes: 8 * tokens * width,
  },
  {
    name: 'layerNormBackward',
    operands: (random) => ({
      ...alike([tokens, width], 'input', 'gradOutput', 'gradInput')(random),
      ...alike([width], 'gamma', 'gradGamma', 'gradBeta')(random),
      ...alike([tokens], 'mean', 'rstd')(random),
    }),
    run: (device, { input, gamma, mean, rstd, gradOutput, gradInput, gradGamma, gradBeta }) =>
      device.layerNormBackward({ input, gamma, mean, rstd, gradOutput, gradInput, gradGamma, gradBeta }),
    bytes: 12 * tokens * width,
  },
];
