import type { ParameterLayout, Placement, StoredTensor } from './parameter.ts';

/** One tensor of the checkpoint, as it is. */
export function plainLayout(name: string, shape: readonly number[]): ParameterLayout {
  const [rows, columns] = rowsAndColumns(shape);
  return { tensors: [{ name, shape, placement: { rows, columns, offset: 0, rowStride: columns, columnStride: 1 } }] };
}

/**
 * An FFF's nodes: `inName` [nodes, width] and `outName` [width, nodes] of the checkpoint become [nodes, 2 width], a node's input
 * weights and, beside them, its output weights, so that a visit reads one stretch of memory.
 */
export function nodesLayout(inName: string, outName: string, nodes: number, width: number): ParameterLayout {
  return {
    tensors: [
      {
        name: inName,
        shape: [nodes, width],
        placement: { rows: nodes, columns: width, offset: 0, rowStride: 2 * width, columnStride: 1 },
      },
      {
        name: outName,
        shape: [width, nodes],
        placement: { rows: width, columns: nodes, offset: width, rowStride: 1, columnStride: 2 * width },
      },
    ],
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
    tensors: names.map((name, index) => ({
      name,
      shape,
      placement: { rows: heads, columns: block, offset: index * block, rowStride: 3 * block, columnStride: 1 },
    })),
  };
}

/** A tensor of the checkpoint whose rows are the parameter's columns: `shape` is the parameter's. */
export function transposedLayout(name: string, [rows, columns]: readonly [number, number]): ParameterLayout {
  return {
    tensors: [
      { name, shape: [columns, rows], placement: { rows: columns, columns: rows, offset: 0, rowStride: 1, columnStride: columns } },
    ],
  };
}

/** Tensors of the checkpoint one below the other, [rows, columns] each ([rows] for biases: `columns` undefined). */
export function stackedLayout(parts: readonly { name: string; rows: number }[], columns?: number): ParameterLayout {
  let offset = 0;
  return {
    tensors: parts.map(({ name, rows }) => {
      const size = rows * (columns ?? 1);
      const placement = { rows: 1, columns: size, offset, rowStride: size, columnStride: 1 };
      offset += size;
      return { name, shape: columns === undefined ? [rows] : [rows, columns], placement };
    }),
  };
}

/** The checkpoint's arrays, in the order of the layout's tensors, as one array in the layout. */
export function packArrays({ tensors }: ParameterLayout, arrays: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const packed = new Float32Array(tensors.reduce((size, { placement }) => size + placement.rows * placement.columns, 0));
  tensors.forEach(({ placement }, index) => {
    const values = arrays[index];
    eachStretch(placement, (stored, place, count, stride) => {
      if (stride === 1) packed.set(values.subarray(stored, stored + count), place);
      else for (let i = 0; i < count; i++) packed[place + i * stride] = values[stored + i];
    });
  });
  return packed;
}

/** The inverse of {@link packArrays}. */
export function unpackArrays({ tensors }: ParameterLayout, packed: Float32Array): Float32Array<ArrayBuffer>[] {
  return tensors.map(({ placement }: StoredTensor) => {
    const values = new Float32Array(placement.rows * placement.columns);
    eachStretch(placement, (stored, place, count, stride) => {
      if (stride === 1) values.set(packed.subarray(place, place + count), stored);
      else for (let i = 0; i < count; i++) values[stored + i] = packed[place + i * stride];
    });
    return values;
  });
}

/**
 * Calls move(stored, place, count, stride) for stretches that make up the tensor: its elements from `stored` on lie `stride` apart from
 * `place` on. What is transposed goes in squares of 16, a cache line of floats, so that memory is missed once a line and not once an element.
 */
function eachStretch(
  { rows, columns, offset, rowStride, columnStride }: Placement,
  move: (stored: number, place: number, count: number, stride: number) => void,
): void {
  const [height, width] = columnStride === 1 ? [1, columns] : [16, 16];
  for (let top = 0; top < rows; top += height) {
    const bottom = Math.min(top + height, rows);
    for (let left = 0; left < columns; left += width) {
      const count = Math.min(width, columns - left);
      for (let row = top; row < bottom; row++) {
        move(row * columns + left, offset + row * rowStride + left * columnStride, count, columnStride);
      }
    }
  }
}

/** A shape taken as rows of what follows its first dimension. */
function rowsAndColumns(shape: readonly number[]): [number, number] {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return shape.length > 1 && size > 0 ? [shape[0], size / shape[0]] : [1, size];
}
