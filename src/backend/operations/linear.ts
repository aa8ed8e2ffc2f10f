import { ShapeError } from '../../errors.ts';
import { PreparedWeight, type ProductPrecision, precisions, productPrecisions } from '../prepared_weight.ts';
import type { Tensor } from '../tensor.ts';
import { input, operation, optional, output, preparable, updated } from './operation.ts';
import { indexIn, matrixOf, preparedFor, rowsOf } from './shapes.ts';

/** [rows, inputs, outputs] of a product with weight [outputs, inputs]. */
export function linearShape(input: Tensor, weight: Tensor | PreparedWeight): [rows: number, inputs: number, outputs: number] {
  const [outputs, inputs] = matrixOf('weight', weight, '[outputs, inputs]');
  return [rowsOf('input', input, inputs), inputs, outputs];
}

export const precisionNumber = (precision: ProductPrecision = 'f32') => indexIn('precision', precision, productPrecisions);

export interface LinearAttributes {
  activation?: 'none' | 'gelu';
  accumulate?: boolean;
  precision?: ProductPrecision;
}

const activations = ['none', 'gelu'] as const;

function activationNumber({ activation = 'none', accumulate }: LinearAttributes): number {
  const gelu = indexIn('activation', activation, activations);
  if (gelu && accumulate) throw new ShapeError('accumulate and an activation exclude each other');
  return gelu;
}

/**
 * output = activation(input weight^T + bias). input [rows, inputs], weight [outputs, inputs] as PyTorch has it, bias [outputs],
 * output [rows, outputs]. With activation 'gelu', `preActivation` [rows, outputs] keeps what the backward needs.
 * accumulate: output += (without activation only), for residuals. A prepared weight computes in its {@link Precision}, for inference:
 * without preActivation. `precision` is of the products with a weight that is not prepared.
 */
export const linear = operation<LinearAttributes>()('linear', {
  operands: {
    input: input('f32', 'rows', 'inputs'),
    weight: preparable('f32'),
    bias: optional(input('f32', 'outputs')),
    output: output('f32', 'rows', 'outputs'),
    preActivation: optional(output('f32', 'rows', 'outputs')),
  },
  numbers: ['rows', 'inputs', 'outputs', 'gelu', 'accumulate', 'precision'],
  measure: (a) => {
    const gelu = activationNumber(a);
    if (a.preActivation && !gelu) throw new ShapeError("preActivation is kept only with activation 'gelu'");
    const [rows, inputs, outputs] = linearShape(a.input, a.weight);
    return [rows, inputs, outputs, gelu, a.accumulate ? 1 : 0, precisionNumber(a.precision)];
  },
  otherwise: ({ weight }) => (weight instanceof PreparedWeight ? linearPrepared : undefined),
});

/** {@link linear} with a prepared weight. */
export const linearPrepared = operation<LinearAttributes & { preActivation?: never }>()('linearPrepared', {
  operands: {
    input: input('f32', 'rows', 'inputs'),
    weight: preparable('i8'),
    bias: optional(input('f32', 'outputs')),
    output: output('f32', 'rows', 'outputs'),
  },
  numbers: ['rows', 'inputs', 'outputs', 'gelu', 'accumulate', 'precision'],
  measure: (a) => {
    if (a.preActivation) throw new ShapeError('a prepared weight is for inference: it keeps no preActivation');
    const { precision } = preparedFor('linear', a.weight);
    const [rows, inputs, outputs] = linearShape(a.input, a.weight);
    return [rows, inputs, outputs, activationNumber(a), a.accumulate ? 1 : 0, precisions.indexOf(precision)];
  },
});

/** gradInput (+)= gradOutput weight. gradOutput [rows, outputs], weight [outputs, inputs], gradInput [rows, inputs]. */
export const linearBackwardInput = operation<{ accumulate?: boolean; precision?: ProductPrecision }>()('linearBackwardInput', {
  operands: { gradOutput: input('f32', 'rows', 'outputs'), weight: input('f32'), gradInput: output('f32', 'rows', 'inputs') },
  numbers: ['rows', 'inputs', 'outputs', 'accumulate', 'precision'],
  measure: (a) => [...linearShape(a.gradInput, a.weight), a.accumulate ? 1 : 0, precisionNumber(a.precision)],
});

/** gradWeight += gradOutput^T input, gradBias += column sums of gradOutput. input [rows, inputs], gradOutput [rows, outputs], gradWeight [outputs, inputs]. */
export const linearBackwardWeight = operation<{ precision?: ProductPrecision }>()('linearBackwardWeight', {
  operands: {
    input: input('f32', 'rows', 'inputs'),
    gradOutput: input('f32', 'rows', 'outputs'),
    gradWeight: updated('f32'),
    gradBias: optional(updated('f32', 'outputs')),
  },
  numbers: ['rows', 'inputs', 'outputs', 'precision'],
  measure: (a) => [...linearShape(a.input, a.gradWeight), precisionNumber(a.precision)],
});
