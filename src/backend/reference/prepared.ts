import type * as fffOperations from '../operations/fff.ts';
import type * as linearOperations from '../operations/linear.ts';
import type { Implementation } from '../operations/operation.ts';
import type * as operations from '../operations/prepared.ts';
import { type Precision, precisions } from '../prepared_weight.ts';
import { neuronsPerTree } from '../tree_shape.ts';
import { addScaled, dot, type Floats } from './arrays.ts';
import { geluValue } from './gelu.ts';
import { roundToBf16 } from './rounding.ts';
import { walkTrees } from './trees.ts';

/** The nearest integer, ties to even. */
function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}

/** `count` values rounded to a precision; for i8 to integers that `scale` multiplies, else scale is 1. See {@link Precision}. */
function roundRow(values: Floats, start: number, count: number, precision: Precision): { rounded: Float32Array; scale: number } {
  const row = Float32Array.from(values.subarray(start, start + count));
  if (precision === 'f32') return { rounded: row, scale: 1 };
  if (precision === 'bf16') return { rounded: row.map(roundToBf16), scale: 1 };
  const most = row.reduce((max, value) => Math.max(max, Math.abs(value)), 0); // NaN stays
  const inverse = Math.fround(127 / most);
  // 127 / most is infinite below 3.7e-37: as good as zeros.
  const rounded =
    most === 0 || inverse === Number.POSITIVE_INFINITY ? row.fill(0) : row.map((value) => roundToEven(Math.fround(value * inverse)));
  return { rounded, scale: Math.fround(most / 127) };
}

/** The weight's rows, rounded; in `data` they lie as floats if they fit, else as integers with a scale a row behind them. */
class PreparedRows {
  private readonly values: Float32Array | Uint16Array | Int8Array;
  private readonly scales: Float32Array;

  constructor(
    data: Int8Array,
    rows: number,
    private readonly columns: number,
    readonly precision: Precision,
  ) {
    const ArrayType = { f32: Float32Array, bf16: Uint16Array, i8: Int8Array }[precision];
    this.values = new ArrayType(data.buffer as ArrayBuffer, data.byteOffset, rows * columns);
    const end = Math.ceil(this.values.byteLength / 4) * 4;
    this.scales = new Float32Array(data.buffer as ArrayBuffer, data.byteOffset + end, precision === 'i8' ? rows : 0);
  }

  /** `what` the row is, in the words of the late error of a row that i8 cannot hold. */
  set(row: number, weight: Floats, what: string): void {
    const { rounded, scale } = roundRow(weight, row * this.columns, this.columns, this.precision);
    if (!Number.isFinite(scale)) throw new RangeError(`${what} are not finite and cannot be rounded to i8`);
    if (this.precision === 'bf16')
      this.values.set(
        new Uint16Array(rounded.buffer).filter((_, i) => i % 2 === 1),
        row * this.columns,
      );
    else this.values.set(rounded, row * this.columns);
    if (this.precision === 'i8') this.scales[row] = scale;
  }

  /** For i8 the integers. */
  get(row: number): Float32Array {
    const values = this.values.subarray(row * this.columns, (row + 1) * this.columns);
    if (this.precision !== 'bf16') return Float32Array.from(values);
    return new Float32Array(Uint32Array.from(values, (half) => half << 16).buffer);
  }

  scale(row: number): number {
    return this.precision === 'i8' ? this.scales[row] : 1;
  }
}

const at = (index: number): Precision => precisions[index];

export const prepareLinear: Implementation<typeof operations.prepareLinear> = ({ weight, data }, { outputs, inputs, precision }) => {
  const rows = new PreparedRows(data, outputs, inputs, at(precision));
  for (let o = 0; o < outputs; o++) rows.set(o, weight, `prepareLinear: the weights of output ${o}`);
};

/** A node is two rows: w_in and w_out. */
export const prepareNodes: Implementation<typeof operations.prepareNodes> = ({ nodes, data }, { count, columns, precision }) => {
  const rows = new PreparedRows(data, 2 * count, columns / 2, at(precision));
  for (let row = 0; row < 2 * count; row++) rows.set(row, nodes, `prepareNodes: the weights of neuron ${row >> 1}`);
};

/** As linear, on rounded inputs and weights: z = (sum of products) (s_x s_w) + bias. */
export const linearPrepared: Implementation<typeof linearOperations.linearPrepared> = (
  { input, weight, bias, output },
  { rows, inputs, outputs, gelu, accumulate, precision },
) => {
  const prepared = new PreparedRows(weight, outputs, inputs, at(precision));
  const rounded = Array.from({ length: rows }, (_, r) => roundRow(input, r * inputs, inputs, at(precision)));
  for (let o = 0; o < outputs; o++) {
    const w = prepared.get(o);
    for (let r = 0; r < rows; r++) {
      const scale = Math.fround(rounded[r].scale * prepared.scale(o));
      const z = dot(rounded[r].rounded, 0, w, 0, inputs) * scale + (bias ? bias[o] : 0);
      const y = gelu ? geluValue(z) : z;
      output[r * outputs + o] = accumulate ? output[r * outputs + o] + y : y;
    }
  }
};

/** As fff, on rounded weights: z from the rounded input, y += (gelu(z) s_out) w_out. */
export const fffPrepared: Implementation<typeof fffOperations.fffPrepared> = ({ input, nodes, bias, ...operands }, numbers) => {
  const { rows, width, trees, depth, leafWidth, precision } = numbers;
  const prepared = new PreparedRows(nodes, 2 * trees * neuronsPerTree(depth, leafWidth), width, at(precision));
  const rounded = Array.from({ length: rows }, (_, row) => roundRow(input, row * width, width, at(precision)));
  walkTrees(operands, numbers, {
    logit(neuron, row) {
      const scale = Math.fround(rounded[row].scale * prepared.scale(2 * neuron));
      return dot(rounded[row].rounded, 0, prepared.get(2 * neuron), 0, width) * scale + bias[neuron];
    },
    add: (y, z, neuron) => addScaled(y, geluValue(z) * prepared.scale(2 * neuron + 1), prepared.get(2 * neuron + 1), 0, width),
  });
};
