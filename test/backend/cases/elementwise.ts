import { dropoutKey } from '../../../src/backend/backend.ts';
import type { Tensor } from '../../../src/backend/tensor.ts';
import { exact, input, normal, type OperationCase, output, rounding, updated } from './case.ts';

const sizes = [0, 1, 7, 16, 67, 4099];

const moves: OperationCase[] = [
  ...sizes.map(
    (size): OperationCase => ({
      name: `fill ${size}`,
      tolerance: exact,
      operands: () => ({ floats: output([size]), integers: output([size], 'i32') }),
      forward(backend, { floats, integers }) {
        backend.fill({ output: floats, value: 2.5 });
        backend.fill({ output: integers, value: -3.7 });
      },
    }),
  ),
  {
    name: 'copy 5 x 7, floats and integers',
    tolerance: exact,
    operands: (random) => ({
      floats: normal(random, [5, 7]),
      integers: input([5, 7], random.integers(35, 1e9)),
      floatCopy: output([35]),
      integerCopy: output([7, 5], 'i32'),
    }),
    forward(backend, { floats, integers, floatCopy, integerCopy }) {
      backend.copy({ input: floats, output: floatCopy });
      backend.copy({ input: integers, output: integerCopy });
    },
  },
];

const additions: OperationCase[] = [
  ...sizes.map(
    (size): OperationCase => ({
      name: `add ${size}`,
      tolerance: rounding,
      operands: (random) => ({ a: normal(random, [size]), b: normal(random, [size]), sum: output([size]), scaled: output([size]) }),
      forward(backend, { a, b, sum, scaled }) {
        backend.add({ a, b, output: sum });
        backend.add({ a, b, scale: -0.37, output: scaled });
      },
    }),
  ),
  {
    name: 'add in place: output is a, output is b',
    tolerance: rounding,
    operands: (random) => ({ a: updated(normal(random, [37])), b: normal(random, [37]), c: updated(normal(random, [37])) }),
    forward(backend, { a, b, c }) {
      backend.add({ a, b, output: a, scale: 0.5 });
      backend.add({ a: b, b: c, output: c, scale: 3 });
    },
  },
];

/** A function of one element: its forward, its backward, and both in place. The backward takes the forward's input or its output. */
function elementFunction(
  name: 'gelu' | 'tanh',
  backwardFrom: 'input' | 'output',
  spread: number,
  backward: (backend: Parameters<OperationCase['forward']>[0], from: Tensor, gradOutput: Tensor, gradInput: Tensor) => void,
): OperationCase[] {
  return [
    ...sizes.map(
      (size): OperationCase => ({
        name: `${name} ${size}`,
        tolerance: rounding,
        operands: (random) => ({
          input: normal(random, [size], spread),
          output: output([size]),
          gradOutput: normal(random, [size]),
          gradInput: output([size]),
        }),
        forward: (backend, t) => backend[name]({ input: t.input, output: t.output }),
        backward: (backend, t) => backward(backend, t[backwardFrom], t.gradOutput, t.gradInput),
        gradient: { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput' } },
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
      forward: (backend, t) => backend[name]({ input: t.values, output: t.values }),
      backward: (backend, t) => backward(backend, t.saved, t.gradient, t.gradient),
    },
  ];
}

const dropouts = [
  { size: 4099, probability: 0.1 },
  { size: 67, probability: 0.9 },
  { size: 67, probability: 0 },
  { size: 0, probability: 0.5 },
].map(
  ({ size, probability }): OperationCase => ({
    name: `dropout ${size}, probability ${probability}, also in place`,
    tolerance: rounding,
    operands: (random) => ({ input: normal(random, [size]), output: output([size]), inPlace: updated(normal(random, [size])) }),
    forward(backend, { input, output, inPlace }) {
      const dropout = { probability, key: dropoutKey(3, 14, 15) };
      backend.dropout({ input, output, dropout });
      backend.dropout({ input: inPlace, output: inPlace, dropout });
    },
  }),
);

export const elementwiseCases: OperationCase[] = [
  ...moves,
  ...additions,
  ...elementFunction('gelu', 'input', 2, (backend, input, gradOutput, gradInput) => backend.geluBackward({ input, gradOutput, gradInput })),
  ...elementFunction('tanh', 'output', 2, (backend, output, gradOutput, gradInput) =>
    backend.tanhBackward({ output, gradOutput, gradInput }),
  ),
  ...dropouts,
];
