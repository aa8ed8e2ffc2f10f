import { ShapeError } from '../errors.ts';
import type { AttentionArguments, AttentionOperand, Backend, PoolKind } from './backend.ts';
import { PreparedWeight, type ProductPrecision, precisions, productPrecisions } from './prepared_weight.ts';
import { bytesPerElement, type DType, Tensor } from './tensor.ts';
import { neuronsPerTree } from './tree_shape.ts';

export const poolKinds: readonly PoolKind[] = ['first', 'mean', 'max', 'logSumExp'];

/** A tensor or prepared weight in an error's words. */
export const describe = (tensor: Tensor | PreparedWeight) =>
  `'${tensor.name}' ${tensor instanceof Tensor ? tensor.dtype : `prepared in ${tensor.precision}`} [${tensor.shape}]`;

/** Of what kernels count; more would not fit their sizes. */
const isCount = (value: number) => Number.isInteger(value) && value >= 0 && value < 2 ** 31;

/**
 * What a backend's operations ask of their arguments. Each throws a ShapeError that names the operation, what was found and what was
 * expected; those that return something derive it from the shapes.
 */
export class Checks {
  constructor(private readonly backend: Backend) {}

  /** A tensor of this backend, alive. Programs in plain JavaScript may have left it out: native code would take that for address 0. */
  use(operation: string, argument: string, tensor: Tensor): void {
    if (!(tensor instanceof Tensor)) {
      const found = tensor === undefined ? 'missing' : `no tensor (${Object.prototype.toString.call(tensor)})`;
      throw new ShapeError(`${operation}: ${argument} is ${found}: hand in a tensor, as backend.tensor makes them`);
    }
    if (tensor.backend !== this.backend) throw new ShapeError(`${operation}: ${describe(tensor)} belongs to another backend`);
    if (tensor.disposed) throw new ShapeError(`${operation}: tensor '${tensor.name}' was disposed`);
  }

  expectType(operation: string, argument: string, tensor: Tensor, dtype: DType): void {
    this.use(operation, argument, tensor);
    if (tensor.dtype !== dtype) throw new ShapeError(`${operation}: ${argument} ${describe(tensor)} must be ${dtype}`);
  }

  expectWords(operation: string, tensor: Tensor): void {
    if (bytesPerElement[tensor.dtype] !== 4) throw new ShapeError(`${operation}: ${describe(tensor)} must be f32 or i32`);
  }

  expectSize(operation: string, argument: string, tensor: Tensor, size: number): void {
    if (tensor.size !== size)
      throw new ShapeError(`${operation}: ${argument} ${describe(tensor)} has ${tensor.size} elements, expected ${size}`);
  }

  /** Each tensor is there, f32, alive, and has `size` elements, or as many as the first if no size is given. Returns the size. */
  expect(operation: string, tensors: Record<string, Tensor>, size?: number, dtype: DType = 'f32'): number {
    let expected = size;
    for (const argument in tensors) {
      const tensor = tensors[argument];
      this.expectType(operation, argument, tensor, dtype);
      expected ??= tensor.size;
      this.expectSize(operation, argument, tensor, expected);
    }
    return expected as number;
  }

  expectIntegers(operation: string, tensors: Record<string, Tensor>, size?: number): number {
    return this.expect(operation, tensors, size, 'i32');
  }

  /** As {@link expect}, of those that are given. */
  expectOptional(operation: string, tensors: Record<string, Tensor | undefined>, size: number, dtype: DType = 'f32'): void {
    for (const argument in tensors) {
      const tensor = tensors[argument];
      if (tensor) this.expect(operation, { [argument]: tensor }, size, dtype);
    }
  }

  expectOptionalIntegers(operation: string, tensors: Record<string, Tensor | undefined>, size: number): void {
    this.expectOptional(operation, tensors, size, 'i32');
  }

  expectProbability(operation: string, probability: number): void {
    if (!(probability >= 0 && probability < 1)) throw new ShapeError(`${operation}: dropout probability ${probability} is not in [0, 1)`);
  }

  expectInt32(operation: string, argument: string, value: number): void {
    if (value !== (value | 0)) throw new ShapeError(`${operation}: ${argument} ${value} is no 32-bit integer`);
  }

  rows(operation: string, argument: string, tensor: Tensor, width: number): number {
    this.use(operation, argument, tensor);
    const rows = width > 0 ? tensor.size / width : Number.NaN;
    if (!Number.isInteger(rows)) throw new ShapeError(`${operation}: ${argument} ${describe(tensor)} is not made of rows of ${width}`);
    return rows;
  }

  rowWidth(operation: string, argument: string, tensor: Tensor, rows: number): number {
    this.use(operation, argument, tensor);
    const width = rows > 0 ? tensor.size / rows : 0;
    if (!Number.isInteger(width) || rows * width !== tensor.size)
      throw new ShapeError(`${operation}: ${describe(tensor)} is not made of ${rows} rows`);
    return width;
  }

  expectWeight(operation: string, kind: PreparedWeight['operation'], weight: Tensor | PreparedWeight): void {
    const argument = kind === 'fff' ? 'nodes' : 'weight';
    if (weight instanceof PreparedWeight) {
      this.use(operation, argument, weight.data);
      if (weight.operation !== kind) throw new ShapeError(`${operation}: '${weight.name}' was prepared for ${weight.operation}`);
    } else this.expectType(operation, argument, weight, 'f32');
  }

  precisionNumber(operation: string, precision: ProductPrecision = 'f32'): number {
    if (!productPrecisions.includes(precision))
      throw new ShapeError(`${operation}: precision '${precision}' is none of ${productPrecisions.join(', ')}`);
    return precisions.indexOf(precision);
  }

  linearShape(operation: string, input: Tensor, weight: Tensor | PreparedWeight) {
    this.expectWeight(operation, 'linear', weight);
    if (weight.shape.length !== 2) throw new ShapeError(`${operation}: weight ${describe(weight)} must be [outputs, inputs]`);
    const [outputs, inputs] = weight.shape as [number, number];
    return { rows: this.rows(operation, 'input', input, inputs), inputs, outputs };
  }

  embeddingShape(operation: string, table: Tensor, indices: Tensor, output: Tensor) {
    this.expectType(operation, 'table', table, 'f32');
    this.expectType(operation, 'indices', indices, 'i32');
    this.expectType(operation, 'output', output, 'f32');
    if (table.shape.length !== 2) throw new ShapeError(`${operation}: table ${describe(table)} must be [count, width]`);
    const [count, width] = table.shape as [number, number];
    const rows = indices.size;
    this.expectSize(operation, 'output', output, rows * width);
    return { rows, width, count };
  }

  treeShape(operation: string, { trees, depth }: { trees: number; depth: number }): void {
    if (!Number.isInteger(trees) || trees < 1) throw new ShapeError(`${operation}: trees ${trees} is not a count`);
    if (!Number.isInteger(depth) || depth < 0 || depth > 24) throw new ShapeError(`${operation}: depth ${depth} is not in 0 .. 24`);
  }

  fffShape(operation: string, a: { input: Tensor; nodes: Tensor | PreparedWeight; trees: number; depth: number; leafWidth?: number }) {
    const { input, nodes, trees, depth, leafWidth = 1 } = a;
    this.treeShape(operation, a);
    if (!Number.isInteger(leafWidth) || leafWidth < 1) throw new ShapeError(`${operation}: leafWidth ${leafWidth} is not a count`);
    this.expectWeight(operation, 'fff', nodes);
    const neurons = trees * neuronsPerTree(depth, leafWidth);
    if (nodes.shape.length !== 2 || nodes.shape[0] !== neurons || nodes.shape[1] % 2 !== 0) {
      const leaves = leafWidth === 1 ? '' : ` with ${leafWidth} neurons a leaf`;
      throw new ShapeError(
        `${operation}: nodes ${describe(nodes)} must be [${neurons}, 2 width] for ${trees} trees of depth ${depth}${leaves}`,
      );
    }
    const width = nodes.shape[1] / 2;
    return { rows: this.rows(operation, 'input', input, width), width, leafWidth, neurons };
  }

  /** numbers: [rows, inputs, choices, blockSize, blocks]. */
  choiceShape(operation: string, input: Tensor, weight: Tensor, chosen: Tensor, blockSize = 1) {
    const { rows, inputs } = this.linearShape(operation, input, weight);
    this.expect(operation, { input }, rows * inputs);
    if (!Number.isInteger(blockSize) || blockSize < 1) throw new ShapeError(`${operation}: blockSize ${blockSize} is not a count`);
    const blocks = weight.shape[0] / blockSize;
    if (!Number.isInteger(blocks))
      throw new ShapeError(`${operation}: weight ${describe(weight)} is not made of blocks of ${blockSize} rows`);
    const choices = this.rowWidth(operation, 'chosen', chosen, rows);
    this.expectIntegers(operation, { chosen }, rows * choices);
    return { numbers: [rows, inputs, choices, blockSize, blocks], rows, outputs: choices * blockSize };
  }

  poolWidth(operation: string, input: Tensor, output: Tensor, a: { batch: number; length: number; kind: PoolKind; mask?: Tensor }): number {
    if (!poolKinds.includes(a.kind)) throw new ShapeError(`${operation}: kind '${a.kind}' is none of ${poolKinds.join(', ')}`);
    if (!isCount(a.batch) || !isCount(a.length) || a.length < 1)
      throw new ShapeError(`${operation}: batch ${a.batch} and length ${a.length} must be counts, the length at least 1`);
    const width = this.rowWidth(operation, 'output', output, a.batch);
    this.expect(operation, { output }, a.batch * width);
    this.expect(operation, { input }, a.batch * a.length * width);
    this.expectOptionalIntegers(operation, { mask: a.mask }, a.batch * a.length);
    return width;
  }

  /** [batch, heads, headSize, queryLength, keyLength, causal, dropout probability, dropout key, precision, then offset, batchStride, rowStride, headStride of each operand]. */
  attentionNumbers(operation: string, a: AttentionArguments, operands: AttentionOperand[]): number[] {
    for (const count of [a.batch, a.heads, a.headSize, a.queryLength, a.keyLength]) {
      if (!isCount(count) || count < 1)
        throw new ShapeError(`${operation}: batch, heads, headSize and lengths must be counts, got ${count}`);
    }
    if (a.causal && a.queryLength > a.keyLength)
      throw new ShapeError(`${operation}: causal attention of ${a.queryLength} queries over ${a.keyLength} keys`);
    this.expectOptionalIntegers(operation, { paddingMask: a.paddingMask }, a.batch * a.keyLength);
    if (a.dropout) this.expectProbability(operation, a.dropout.probability);
    const numbers = [
      a.batch,
      a.heads,
      a.headSize,
      a.queryLength,
      a.keyLength,
      a.causal ? 1 : 0,
      a.dropout?.probability ?? 0,
      a.dropout?.key ?? 0,
      this.precisionNumber(operation, a.precision),
    ];
    operands.forEach((operand, index) => {
      const { tensor, offset, batchStride, rowStride, headStride } = operand;
      this.expectType(operation, 'operand', tensor, 'f32');
      const length = index % 3 === 0 ? a.queryLength : a.keyLength;
      const last = offset + (a.batch - 1) * batchStride + (length - 1) * rowStride + (a.heads - 1) * headStride + a.headSize;
      if (![offset, batchStride, rowStride, headStride].every((n) => Number.isInteger(n) && n >= 0) || last > tensor.size) {
        throw new ShapeError(`${operation}: an operand reaches element ${last} of ${describe(tensor)}`);
      }
      numbers.push(offset, batchStride, rowStride, headStride);
    });
    return numbers;
  }
}
