import type { OnnxAttribute, OnnxInitializer, OnnxNode } from './onnx_writer.ts';

export const microsoft = 'com.microsoft';

/** A graph in the making: names its values and constants. */
export class OnnxGraphBuilder {
  readonly nodes: OnnxNode[] = [];
  readonly initializers: OnnxInitializer[] = [];
  private count = 0;

  constant(type: OnnxInitializer['type'], shape: readonly number[], data: ArrayBufferView): string {
    const name = `c${this.count++}`;
    this.initializers.push({ name, type, shape, data });
    return name;
  }

  floats(shape: readonly number[], values: Float32Array | readonly number[]): string {
    return this.constant('f32', shape, values instanceof Float32Array ? values : Float32Array.from(values));
  }

  /** i64, what shapes, axes and indices are given by. */
  integers(values: readonly number[], shape: readonly number[] = [values.length]): string {
    return this.constant('i64', shape, BigInt64Array.from(values, BigInt));
  }

  /** One node with one output; returns the output's name. */
  add(
    operator: string,
    inputs: readonly string[],
    attributes?: Record<string, OnnxAttribute>,
    domain?: string,
    output = `v${this.count++}`,
  ): string {
    this.nodes.push({ operator, inputs, outputs: [output], attributes, domain });
    return output;
  }

  /** One node with several outputs. */
  addSeveral(operator: string, inputs: readonly string[], outputs: number, attributes?: Record<string, OnnxAttribute>): string[] {
    const names = Array.from({ length: outputs }, () => `v${this.count++}`);
    this.nodes.push({ operator, inputs, outputs: names, attributes });
    return names;
  }
}

export function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) result[c * rows + r] = values[r * columns + c];
  return result;
}

/** Each column rounded to i8 by a scale of its own, as onnxruntime's quantizer does per channel. */
export function quantizeColumns(values: Float32Array, rows: number, columns: number): { quantized: Int8Array; scales: Float32Array } {
  const scales = new Float32Array(columns);
  for (let i = 0; i < values.length; i++) scales[i % columns] = Math.max(scales[i % columns], Math.abs(values[i]));
  scales.forEach((most, column) => {
    scales[column] = most / 127 || 1;
  });
  const quantized = new Int8Array(rows * columns);
  for (let i = 0; i < values.length; i++) quantized[i] = Math.round(values[i] / scales[i % columns]);
  return { quantized, scales };
}
