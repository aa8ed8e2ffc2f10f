import type { Tensor } from '../../../src/backend/tensor.ts';
import { elementwiseSizes, input, normal, type Operand, type OperationCase, output, rounding, updated } from './case.ts';

/** A function of one element: its forward, its backward, and both in place. The backward takes the forward's input or its output. */
function elementFunction(
  name: 'gelu' | 'geluTanh' | 'silu' | 'relu' | 'tanh',
  backwardFrom: 'input' | 'output',
  spread: number,
  backward: (device: Parameters<OperationCase['forward']>[0], from: Tensor, gradOutput: Tensor, gradInput: Tensor) => void,
  moved = (operand: Operand): Operand => operand,
): OperationCase[] {
  return [
    ...elementwiseSizes.map(
      (size): OperationCase => ({
        name: `${name} ${size}`,
        tolerance: rounding,
        operands: (random) => ({
          input: moved(normal(random, [size], spread)),
          output: output([size]),
          gradOutput: normal(random, [size]),
          gradInput: output([size]),
        }),
        forward: (device, t) => device[name]({ input: t.input, output: t.output }),
        backward: (device, t) => backward(device, t[backwardFrom], t.gradOutput, t.gradInput),
        gradient: size > 10000 ? undefined : { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput' } },
      }),
    ),
    {
      name: `${name} in place, far into the tails`,
      tolerance: rounding,
      operands: (random) => ({
        values: updated(
          input(
            [801],
            Array.from({ length: 801 }, (_, i) => (i - 400) / 20),
          ),
        ),
        saved: input(
          [801],
          Array.from({ length: 801 }, (_, i) => (backwardFrom === 'input' ? i / 20 - 20 : i / 400 - 1)),
        ),
        gradient: updated(normal(random, [801])),
      }),
      forward: (device, t) => device[name]({ input: t.values, output: t.values }),
      backward: (device, t) => backward(device, t.saved, t.gradient, t.gradient),
    },
  ];
}

export const activationCases: OperationCase[] = [
  ...elementFunction('gelu', 'input', 2, (device, input, gradOutput, gradInput) => device.geluBackward({ input, gradOutput, gradInput })),
  ...elementFunction('geluTanh', 'input', 2, (device, input, gradOutput, gradInput) =>
    device.geluTanhBackward({ input, gradOutput, gradInput }),
  ),
  ...elementFunction('silu', 'input', 2, (device, input, gradOutput, gradInput) => device.siluBackward({ input, gradOutput, gradInput })),
  // Away from 0, where its slope jumps.
  ...elementFunction(
    'relu',
    'output',
    2,
    (device, output, gradOutput, gradInput) => device.reluBackward({ output, gradOutput, gradInput }),
    (operand) => ({ ...operand, values: Float32Array.from(operand.values, (value) => value + 0.1 * Math.sign(value)) }),
  ),
  ...elementFunction('tanh', 'output', 2, (device, output, gradOutput, gradInput) =>
    device.tanhBackward({ output, gradOutput, gradInput }),
  ),
];
