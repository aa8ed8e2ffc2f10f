import { dropoutKey } from '../../../src/backend/dropout.ts';
import { output } from '../../backend/cases/case.ts';
import { alike, elements } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

export const elementwise: SpeedCase[] = [
  {
    name: 'fill',
    operands: alike([elements], 'output'),
    run: (device, { output }) => device.fill({ output, value: 1 }),
    bytes: 4 * elements,
  },
  {
    name: 'fillIntegers',
    operands: () => ({ output: output([elements], 'i32') }),
    run: (device, { output }) => device.fill({ output, value: 1 }),
    bytes: 4 * elements,
  },
  {
    name: 'copy',
    operands: alike([elements], 'input', 'output'),
    run: (device, { input, output }) => device.copy({ input, output }),
    bytes: 8 * elements,
  },
  {
    name: 'add',
    operands: alike([elements], 'a', 'b', 'output'),
    run: (device, { a, b, output }) => device.add({ a, b, output }),
    bytes: 12 * elements,
  },
  ...(['gelu', 'geluTanh', 'silu', 'relu', 'tanh'] as const).map(
    (name): SpeedCase => ({
      name,
      operands: alike([elements], 'input', 'output'),
      run: (device, { input, output }) => device[name]({ input, output }),
      bytes: 8 * elements,
    }),
  ),
  ...(['geluBackward', 'geluTanhBackward', 'siluBackward'] as const).map(
    (name): SpeedCase => ({
      name,
      operands: alike([elements], 'input', 'gradOutput', 'gradInput'),
      run: (device, { input, gradOutput, gradInput }) => device[name]({ input, gradOutput, gradInput }),
      bytes: 12 * elements,
    }),
  ),
  {
    name: 'reluBackward',
    operands: alike([elements], 'output', 'gradOutput', 'gradInput'),
    run: (device, { output, gradOutput, gradInput }) => device.reluBackward({ output, gradOutput, gradInput }),
    bytes: 12 * elements,
  },
  {
    name: 'tanhBackward',
    operands: alike([elements], 'output', 'gradOutput', 'gradInput'),
    run: (device, { output, gradOutput, gradInput }) => device.tanhBackward({ output, gradOutput, gradInput }),
    bytes: 12 * elements,
  },
  {
    name: 'dropout',
    operands: alike([elements], 'input', 'output'),
    run: (device, { input, output }) => device.dropout({ input, output, dropout: { probability: 0.1, key: dropoutKey(1, 2, 3) } }),
    bytes: 8 * elements,
  },
];
