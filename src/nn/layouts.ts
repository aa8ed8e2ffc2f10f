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
      for (let node = 0; node < nodes; node++) {
        const row = node * 2 * width;
        packed.set(weightIn.subarray(node * width, (node + 1) * width), row);
        for (let i = 0; i < width; i++) packed[row + width + i] = weightOut[i * nodes + node];
      }
      return packed;
    },
    unpack(packed) {
      const weightIn = new Float32Array(nodes * width);
      const weightOut = new Float32Array(width * nodes);
      for (let node = 0; node < nodes; node++) {
        const row = node * 2 * width;
        weightIn.set(packed.subarray(row, row + width), node * width);
        for (let i = 0; i < width; i++) weightOut[i * nodes + node] = packed[row + width + i];
      }
      return [weightIn, weightOut];
    },
  };
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
