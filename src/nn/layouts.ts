import type { ParameterLayout } from './parameter.ts';

/** One tensor of the checkpoint, as it is. */
export function plainLayout(name: string, shape: readonly number[]): ParameterLayout {
  return { tensors: [{ name, shape }], pack: ([values]) => values, unpack: (values) => [values] };
}

/**
 * An FFF's nodes: `inName` [nodes, width] and `outName` [width, nodes] of the checkpoint become [nodes, 2 width], a node's input
 * weights and, beside them, its output weights, so that a visit reads one stretch of memory.
 */
export function nodesLayout(inName: string, outName: string, nodes: number, width: number): ParameterLayout {
  return {
    tensors: [
      { name: inName, shape: [nodes, width] },
      { name: outName, shape: [width, nodes] },
    ],
    pack([weightIn, weightOut]) {
      const packed = new Float32Array(nodes * 2 * width);
      for (let node = 0; node < nodes; node++) packed.set(weightIn.subarray(node * width, (node + 1) * width), node * 2 * width);
      transpose(weightOut, 0, nodes, packed, width, 2 * width, width, nodes);
      return packed;
    },
    unpack(packed) {
      const weightIn = new Float32Array(nodes * width);
      const weightOut = new Float32Array(width * nodes);
      for (let node = 0; node < nodes; node++) weightIn.set(packed.subarray(node * 2 * width, (2 * node + 1) * width), node * width);
      transpose(packed, width, 2 * width, weightOut, 0, nodes, nodes, width);
      return [weightIn, weightOut];
    },
  };
}

/**
 * to[toOffset + column toStride + row] = from[fromOffset + row fromStride + column], in squares of 16, a cache line of floats, so that
 * memory is missed once a line and not once an element.
 */
function transpose(
  from: Float32Array,
  fromOffset: number,
  fromStride: number,
  to: Float32Array,
  toOffset: number,
  toStride: number,
  rows: number,
  columns: number,
): void {
  for (let top = 0; top < rows; top += 16) {
    const bottom = Math.min(top + 16, rows);
    for (let left = 0; left < columns; left += 16) {
      const right = Math.min(left + 16, columns);
      for (let row = top; row < bottom; row++) {
        const source = fromOffset + row * fromStride;
        for (let column = left; column < right; column++) to[toOffset + column * toStride + row] = from[source + column];
      }
    }
  }
}

/**
 * Separate query, key and value projections, [width, inputs] each ([width] for biases: `inputs` undefined), as one of [3 width, inputs]
 * in which each head's query, key and value rows lie side by side.
 */
export function headsLayout(names: readonly [string, string, string], heads: number, headSize: number, inputs?: number): ParameterLayout {
  const shape = inputs === undefined ? [heads * headSize] : [heads * headSize, inputs];
  const block = headSize * (inputs ?? 1);
  return {
    tensors: names.map((name) => ({ name, shape })),
    pack(parts) {
      const packed = new Float32Array(3 * heads * block);
      for (let head = 0; head < heads; head++) {
        parts.forEach((part, index) => {
          packed.set(part.subarray(head * block, (head + 1) * block), (3 * head + index) * block);
        });
      }
      return packed;
    },
    unpack(packed) {
      return names.map((_, index) => {
        const part = new Float32Array(heads * block);
        for (let head = 0; head < heads; head++) {
          const from = (3 * head + index) * block;
          part.set(packed.subarray(from, from + block), head * block);
        }
        return part;
      });
    },
  };
}
