import { precisions } from '../../../src/backend/prepared_weight.ts';
import { normal, type Operand } from '../../backend/cases/case.ts';
import type { Random } from '../../backend/random.ts';
import { inner, tokens, width } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

const linearOperands =
  (rows: number, ...names: ('input' | 'output' | 'weight')[]) =>
  (random: Random): Record<string, Operand> => {
    const shapes = { input: [rows, width], output: [rows, inner], weight: [inner, width] };
    return Object.fromEntries(names.map((name) => [name, normal(random, shapes[name])]));
  };
export const linear: SpeedCase[] = [
  ...[1, tokens].flatMap((rows): SpeedCase[] => [
    {
      name: `linear ${rows} x ${width} x ${inner}`,
      operands: linearOperands(rows, 'input', 'weight', 'output'),
      run: (device, { input, weight, output }) => device.linear({ input, weight, output }),
      operations: 2 * rows * width * inner,
    },
    ...precisions.map(
      (precision): SpeedCase => ({
        name: `linear ${rows} x ${width} x ${inner}, prepared in ${precision}`,
        operands: linearOperands(rows, 'input', 'weight', 'output'),
        setUp: (device, { weight }) => device.prepareLinear({ weight, precision }),
        run: (device, { input, output }, weight) => device.linear({ input, weight: weight as never, output }),
        operations: 2 * rows * width * inner,
      }),
    ),
  ]),
  ...precisions.map(
    (precision): SpeedCase => ({
      name: `prepareLinear ${precision}`,
      operands: linearOperands(1, 'weight'),
      run: (device, { weight }) => device.prepareLinear({ weight, precision }).dispose(),
      bytes: 4 * width * inner,
    }),
  ),
  {
    name: `linear ${tokens} x ${width} x ${inner} in bf16, not prepared`,
    operands: linearOperands(tokens, 'input', 'weight', 'output'),
    run: (device, { input, weight, output }) => device.linear({ input, weight, output, precision: 'bf16' }),
    operations: 2 * tokens * width * inner,
  },
  {
    name: 'linearBackwardInput',
    operands: linearOperands(tokens, 'input', 'weight', 'output'),
    run: (device, { input, weight, output }) => device.linearBackwardInput({ gradOutput: output, weight, gradInput: input }),
    operations: 2 * tokens * width * inner,
  },
  {
    name: 'linearBackwardWeight',
    operands: linearOperands(tokens, 'input', 'weight', 'output'),
    run: (device, { input, weight, output }) => device.linearBackwardWeight({ input, gradOutput: output, gradWeight: weight }),
    operations: 2 * tokens * width * inner,
  },
];
