/** What operations ask of sizes. Each throws a ShapeError that says what was found and what was expected; {@link callOperation} puts the operation's name before it. */
import { ShapeError } from '../../errors.ts';
import { PreparedWeight } from '../prepared_weight.ts';
import { Tensor } from '../tensor.ts';

/** A tensor or prepared weight in an error's words. */
export const describe = (tensor: Tensor | PreparedWeight) =>
  `'${tensor.name}' ${tensor instanceof Tensor ? tensor.dtype : `prepared in ${tensor.precision}`} [${tensor.shape}]`;

/** Of what kernels count; more would not fit their sizes. */
export const isCount = (value: number) => Number.isInteger(value) && value >= 0 && value < 2 ** 31;

/** How many rows of `width` a tensor is made of. */
export function rowsOf(name: string, tensor: Tensor, width: number): number {
  const rows = width > 0 ? tensor.size / width : Number.NaN;
  if (!Number.isInteger(rows)) throw new ShapeError(`${name} ${describe(tensor)} is not made of rows of ${width}`);
  return rows;
}

/** How wide the rows are if a tensor is made of so many. */
export function widthOf(tensor: Tensor, rows: number): number {
  const width = rows > 0 ? tensor.size / rows : 0;
  if (!Number.isInteger(width) || rows * width !== tensor.size) throw new ShapeError(`${describe(tensor)} is not made of ${rows} rows`);
  return width;
}

/** The extents of a matrix; `what` is how the error names them. */
export function matrixOf(name: string, matrix: Tensor | PreparedWeight, what: string): readonly [number, number] {
  if (matrix.shape.length !== 2) throw new ShapeError(`${name} ${describe(matrix)} must be ${what}`);
  return matrix.shape as readonly [number, number];
}

/** The place of a word in a list, for kernels. */
export function indexIn(name: string, value: string, list: readonly string[]): number {
  const index = list.indexOf(value);
  if (index < 0) throw new ShapeError(`${name} '${value}' is none of ${list.join(', ')}`);
  return index;
}

/** A weight that was prepared for this operation. */
export function preparedFor(operation: PreparedWeight['operation'], weight: Tensor | PreparedWeight): PreparedWeight {
  if (!(weight instanceof PreparedWeight)) throw new ShapeError(`weight ${describe(weight)} was not prepared`);
  if (weight.operation !== operation) throw new ShapeError(`'${weight.name}' was prepared for ${weight.operation}`);
  return weight;
}

export function expectProbability(probability: number): void {
  if (!(probability >= 0 && probability < 1)) throw new ShapeError(`dropout probability ${probability} is not in [0, 1)`);
}

export function expectInt32(name: string, value: number): void {
  if (value !== (value | 0)) throw new ShapeError(`${name} ${value} is no 32-bit integer`);
}
