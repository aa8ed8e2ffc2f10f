/** The making of weights for inference. */
import { ShapeError } from '../../errors.ts';
import type { Device } from '../device.ts';
import { type Precision, PreparedWeight, precisions } from '../prepared_weight.ts';
import type { Tensor } from '../tensor.ts';
import { callOperation, input, numbersOf, operation, output } from './operation.ts';
import { describe, indexIn, matrixOf } from './shapes.ts';

/** Kernels multiply unsigned bytes by signed ones: 255 x 127 x this is what int32 holds. */
const maxI8Inputs = 2 ** 16;

function preparedNumbers(weight: Tensor, rows: number, columns: number, inputs: number, precision: Precision) {
  const code = indexIn('precision', precision, precisions);
  if (precision === 'i8' && inputs > maxI8Inputs)
    throw new ShapeError(`${weight.name}: ${inputs} inputs, but int32 holds the sums of ${maxI8Inputs} products of i8: take bf16 or f32`);
  return [rows, columns, code] as const;
}

/** data = weight [outputs, inputs], as kernels of `linear` read it in that precision. A weight that is not finite is a late error for i8. */
export const prepareLinear = operation<{ precision: Precision }>()('prepareLinear', {
  operands: { weight: input('f32'), data: output('i8') },
  numbers: ['outputs', 'inputs', 'precision'],
  measure: ({ weight, precision }) => {
    const [outputs, inputs] = matrixOf('weight', weight, '[outputs, inputs]');
    return preparedNumbers(weight, outputs, inputs, inputs, precision);
  },
});

/** data = nodes [nodes, 2 width], as kernels of `fff` read them in that precision. For i8, w_in and w_out have a scale each. */
export const prepareNodes = operation<{ precision: Precision }>()('prepareNodes', {
  operands: { nodes: input('f32'), data: output('i8') },
  numbers: ['count', 'columns', 'precision'],
  measure: ({ nodes, precision }) => {
    const [count, columns] = matrixOf('nodes', nodes, '[nodes, 2 width]');
    if (columns % 2 !== 0) throw new ShapeError(`nodes ${describe(nodes)} must be [nodes, 2 width]`);
    return preparedNumbers(nodes, count, columns, columns / 2, precision);
  },
});

/** A copy of a weight for inference; the caller disposes it. */
export function prepareWeight(
  device: Device,
  operation: PreparedWeight['operation'],
  weight: Tensor,
  precision: Precision,
): PreparedWeight {
  const [definition, a] = operation === 'linear' ? [prepareLinear, { weight, precision }] : [prepareNodes, { nodes: weight, precision }];
  const [rows, columns] = numbersOf(device, definition, a);
  const storage = device.allocate(PreparedWeight.bytes(operation, [rows, columns], precision));
  const prepared = new PreparedWeight(device, weight.name, operation, [rows, columns], precision, storage);
  callOperation(device, definition, { ...a, data: prepared.data });
  return prepared;
}
