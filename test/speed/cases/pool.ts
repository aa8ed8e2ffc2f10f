import { normal } from '../../backend/cases/case.ts';
import { tokens, width, zeros } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

const poolShape = { batch: 8, length: tokens, kind: 'mean' } as const;
export const pool: SpeedCase[] = [
  {
    name: 'pool mean',
    operands: (random) => ({ input: normal(random, [8 * tokens, width]), output: zeros([8, width]) }),
    run: (device, { input, output }) => device.pool({ input, ...poolShape, output }),
    bytes: 4 * 8 * tokens * width,
  },
  {
    name: 'poolBackward mean',
    operands: (random) => ({ gradOutput: normal(random, [8, width]), gradInput: zeros([8 * tokens, width]) }),
    run: (device, { gradOutput, gradInput }) => device.poolBackward({ ...poolShape, gradOutput, gradInput }),
    bytes: 4 * 8 * tokens * width,
  },
];
