/**
 * The one door to arithmetic. A backend owns memory (tensors) and runs the operations below on it.
 *
 * Execution. An operation checks shapes and dtypes at the call and throws {@link ShapeError} there; the work itself is only queued
 * and runs in the order of the calls, off the JavaScript thread where the backend can (native: a C++ worker with its thread pool).
 * `await read(tensor)` or `await finish()` hands the queue over in one go and waits; an error of the work itself (an index out of
 * range, say) surfaces there, once; operations queued behind it are skipped until then, so that nothing is computed from what it left
 * (no optimiser step, say), but values written are written. `readNow` is the one synchronous path, for calls so small that a round trip would cost more.
 *
 * Ownership. An operation writes into outputs that it is handed and allocates nothing that outlives it. Unless said otherwise an
 * output may not share memory with an input; gradients of parameters (gradWeight, gradBias, gradGamma, gradTable, gradNodes ...)
 * are added to, every other output is overwritten, except where `accumulate: true` adds to it.
 *
 * Results do not depend on timing: every sum has one fixed order, whatever the threads; native results do not depend on the number
 * of threads either.
 *
 * Notation: [rows, width] are row-major shapes; a tensor with more leading dimensions is taken as rows x width by its size.
 *
 * To add an operation: declare it here and check its arguments (checks.ts), write it in reference/, write one kernel file, add one case in
 * test/backend/cases/. The order of operands and numbers in `enqueue` is the kernel's signature.
 */
import { checkArgument, kinds } from '../arguments.ts';
import { InputError, quoted, ShapeError } from '../errors.ts';
import { Checks, describe, poolKinds } from './checks.ts';
import { type Precision, PreparedWeight, type ProductPrecision, precisions } from './prepared_weight.ts';
import { arrayTypes, bytesPerElement, type DType, type Storage, sizeOf, Tensor, type TypedArray } from './tensor.ts';
import { innerNodes } from './tree_shape.ts';

/** Where attention finds one of its operands: element (batch b, position t, head h, i) is at offset + b batchStride + t rowStride + h headStride + i. */
export interface AttentionOperand {
  tensor: Tensor;
  /** Elements from the start of the tensor. */
  offset: number;
  batchStride: number;
  rowStride: number;
  headStride: number;
}

/** Keeps an element with probability 1 - probability and scales what is kept by 1 / (1 - probability). The element's index and `key` alone decide. */
export interface Dropout {
  probability: number;
  /** From {@link dropoutKey}. */
  key: number;
}

export interface AttentionArguments {
  query: AttentionOperand;
  key: AttentionOperand;
  value: AttentionOperand;
  batch: number;
  heads: number;
  headSize: number;
  queryLength: number;
  keyLength: number;
  /** i32 [batch, keyLength]: 0 marks padding, whose scores get -10000 added (crammedBERT's and BERT's convention). */
  paddingMask?: Tensor;
  /** Query i sees keys j <= i + keyLength - queryLength. Keys and values that it does not see must be finite all the same. */
  causal?: boolean;
  /** On the attention probabilities; element index ((b heads + h) queryLength + i) keyLength + j. */
  dropout?: Dropout;
  /**
   * Of every product, f32 if absent. In bf16 probabilities are rounded before they are divided by their sum, which stays that of the exact
   * ones; the backward rounds gradOutput, probabilities (divided, after dropout's factor) and the gradients of scores (after the factor
   * 1 / sqrt(headSize)).
   */
  precision?: ProductPrecision;
}

/** Bytes of a value of each type that {@link Backend.place} reads: IEEE 754 in 32 and 16 bits, and bfloat16. */
const bytesPerFileValue = { F32: 4, BF16: 2, F16: 2 } as const;
export type FileType = keyof typeof bytesPerFileValue;

export type PoolKind = 'first' | 'mean' | 'max' | 'logSumExp';
/** Kernels multiply unsigned bytes by signed ones: 255 x 127 x this is what int32 holds. */
const mostI8Inputs = 2 ** 16;

/** murmur3's 32-bit finaliser. */
export function fmix32(value: number): number {
  let h = value >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * The key of one dropout site at one step. Dropout is counter-based: element i is kept if
 * (fmix32(fmix32(i) ^ key) >>> 8) / 2^24 >= probability, so that backward recomputes it and a resumed run repeats it.
 */
export function dropoutKey(seed: number, step: number, site: number): number {
  for (const [name, value] of Object.entries({ seed, step, site })) checkArgument(name, value, kinds.integer);
  return fmix32(fmix32(fmix32(seed >>> 0) ^ (step >>> 0)) + site);
}

export abstract class Backend {
  abstract readonly name: string;
  /** Threads that share an operation's work. */
  abstract readonly threads: number;
  /** What runs, for reports: 'AVX-512, 2 threads', say. */
  abstract readonly description: string;

  private readonly checks = new Checks(this);

  /** Whether products take less time in bf16 than in f32 (see {@link ProductPrecision}). */
  get multipliesBf16(): boolean {
    return false;
  }

  // ------------------------------------------------------------------ memory and execution

  /** Raw memory, at least `bytes` long, aligned for every dtype. Use {@link tensor} or an Arena. */
  abstract allocate(bytes: number): Storage;
  /** Gives memory back after the operations already queued. */
  abstract release(storage: Storage): void;
  /** Copies `values` (as many as the tensor has elements) into the tensor, in queue order; the array may be changed after the call. */
  protected abstract upload(tensor: Tensor, values: TypedArray): void;
  /** Queues one operation. */
  protected abstract enqueue(operation: string, operands: readonly (Tensor | undefined)[], numbers: readonly number[]): void;
  /** Starts what is queued without waiting for it. */
  abstract submit(): void;
  /** Resolves when all that was queued before has run; rejects with its first error. */
  abstract finish(): Promise<void>;
  protected abstract download(tensor: Tensor): Promise<TypedArray>;
  protected abstract downloadNow(tensor: Tensor): TypedArray;
  /** Ends threads and frees all memory, whoever owns it. */
  abstract dispose(): void;
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A new tensor; uninitialised unless `values` are given. */
  tensor(name: string, shape: readonly number[], dtype: DType = 'f32', values?: TypedArray | readonly number[]): Tensor {
    checkArgument('name', name, kinds.text);
    checkArgument('shape', shape, kinds.list);
    if (!Object.hasOwn(bytesPerElement, dtype))
      throw new InputError(`dtype: got ${quoted(dtype)}, expected one of ${Object.keys(bytesPerElement).join(', ')}`);
    const bytes = sizeOf(name, shape) * bytesPerElement[dtype];
    const tensor = new Tensor(this, name, [...shape], dtype, this.allocate(bytes));
    try {
      if (values) this.write(tensor, values);
    } catch (error) {
      tensor.dispose(); // nobody else has it
      throw error;
    }
    return tensor;
  }

  zeros(name: string, shape: readonly number[], dtype: DType = 'f32'): Tensor {
    const tensor = this.tensor(name, shape, dtype);
    try {
      this.fill({ output: tensor, value: 0 });
      return tensor;
    } catch (error) {
      tensor.dispose(); // of bytes, say, which are not filled
      throw error;
    }
  }

  /** Copies values in, in queue order. The array may be reused at once. */
  write(tensor: Tensor, values: TypedArray | readonly number[]): void {
    this.checks.use('write', 'tensor', tensor);
    if (!Array.isArray(values) && !ArrayBuffer.isView(values))
      throw new InputError(`values: got ${quoted(values)}, expected an array of numbers`);
    if (values.length !== tensor.size) throw new ShapeError(`write: ${describe(tensor)} takes ${tensor.size} values, got ${values.length}`);
    const ArrayType = arrayTypes[tensor.dtype];
    this.upload(tensor, values instanceof ArrayType ? values : ArrayType.from(values as ArrayLike<number>));
  }

  /**
   * A tensor of bytes (i8) for {@link place} to take values from: the array itself where the backend can reach it, else a copy. The
   * array must not change until a `finish` that was called later has resolved. Whoever asked disposes the tensor.
   */
  lend(name: string, bytes: Uint8Array<ArrayBuffer>): Tensor {
    return this.tensor(name, [bytes.length], 'i8', new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length));
  }

  /** A copy of the tensor's values once everything queued before has run. Float32Array for f32, Int32Array for i32. */
  async read(tensor: Tensor): Promise<Float32Array<ArrayBuffer>>;
  async read(tensor: Tensor): Promise<TypedArray> {
    this.checks.use('read', 'tensor', tensor);
    return this.download(tensor);
  }

  async readIntegers(tensor: Tensor): Promise<Int32Array> {
    this.checks.expectType('readIntegers', 'tensor', tensor, 'i32');
    return (await this.download(tensor)) as Int32Array;
  }

  /** As {@link read}, but runs the queue on the calling thread: for small work only, it blocks the event loop. */
  readNow(tensor: Tensor): Float32Array {
    this.checks.use('readNow', 'tensor', tensor);
    return this.downloadNow(tensor) as Float32Array;
  }

  // ------------------------------------------------------------------ elementwise

  /** output = value. For i32 the value is rounded towards zero, and must be one that int32 holds. */
  fill(a: { output: Tensor; value: number }): void {
    this.checks.use('fill', 'output', a.output);
    this.checks.expectWords('fill', a.output);
    if (a.output.dtype === 'i32') this.checks.expectInt32('fill', 'value', Math.trunc(a.value));
    this.enqueue(a.output.dtype === 'f32' ? 'fill' : 'fillIntegers', [a.output], [a.output.size, a.value]);
  }

  /** output = input; same size and dtype, f32 or i32. */
  copy(a: { input: Tensor; output: Tensor }): void {
    this.checks.use('copy', 'input', a.input);
    this.checks.expectWords('copy', a.input);
    this.checks.expectType('copy', 'output', a.output, a.input.dtype);
    this.checks.expectSize('copy', 'output', a.output, a.input.size);
    this.enqueue('copy', [a.input, a.output], [a.input.size]);
  }

  /** output = a + scale b, elementwise; output may be a or b. scale is 1 by default. */
  add(a: { a: Tensor; b: Tensor; output: Tensor; scale?: number }): void {
    const n = this.checks.expect('add', { a: a.a, b: a.b, output: a.output });
    this.enqueue('add', [a.a, a.b, a.output], [n, a.scale ?? 1]);
  }

  /** Exact GELU, x Phi(x) by erf. output may be input. */
  gelu(a: { input: Tensor; output: Tensor }): void {
    const n = this.checks.expect('gelu', { input: a.input, output: a.output });
    this.enqueue('gelu', [a.input, a.output], [n]);
  }

  /** gradInput = gradOutput gelu'(input); gradInput may be gradOutput. */
  geluBackward(a: { input: Tensor; gradOutput: Tensor; gradInput: Tensor }): void {
    const n = this.checks.expect('geluBackward', { input: a.input, gradOutput: a.gradOutput, gradInput: a.gradInput });
    this.enqueue('geluBackward', [a.input, a.gradOutput, a.gradInput], [n]);
  }

  /** output may be input. */
  tanh(a: { input: Tensor; output: Tensor }): void {
    const n = this.checks.expect('tanh', { input: a.input, output: a.output });
    this.enqueue('tanh', [a.input, a.output], [n]);
  }

  /** From the forward's output: gradInput = gradOutput (1 - output^2); gradInput may be gradOutput. */
  tanhBackward(a: { output: Tensor; gradOutput: Tensor; gradInput: Tensor }): void {
    const n = this.checks.expect('tanhBackward', { output: a.output, gradOutput: a.gradOutput, gradInput: a.gradInput });
    this.enqueue('tanhBackward', [a.output, a.gradOutput, a.gradInput], [n]);
  }

  /** output = kept(input) / (1 - probability); its own backward, applied to the gradient. output may be input. */
  dropout(a: { input: Tensor; output: Tensor; dropout: Dropout }): void {
    const n = this.checks.expect('dropout', { input: a.input, output: a.output });
    this.checks.expectProbability('dropout', a.dropout.probability);
    this.enqueue('dropout', [a.input, a.output], [n, a.dropout.probability, a.dropout.key]);
  }

  /**
   * Little-endian values of a file, taken as [rows, columns], to where a layout wants them: value (r, c) goes, as float32, to output
   * element offset + r rowStride + c columnStride; other elements stay as they are. input: the values' bytes (i8). Exact. A value that
   * is not finite is a late error.
   */
  place(a: {
    input: Tensor;
    type: FileType;
    output: Tensor;
    rows: number;
    columns: number;
    offset: number;
    rowStride: number;
    columnStride: number;
  }): void {
    const { rows, columns, offset, rowStride, columnStride } = a;
    const numbers = [rows, columns, offset, rowStride, columnStride];
    if (!numbers.every((n) => Number.isSafeInteger(n) && n >= 0)) throw new ShapeError(`place: [${numbers}] are not all sizes`);
    if (!(a.type in bytesPerFileValue)) throw new ShapeError(`place: type '${a.type}' is none of ${Object.keys(bytesPerFileValue)}`);
    this.checks.expectType('place', 'input', a.input, 'i8');
    this.checks.expectSize('place', 'input', a.input, rows * columns * bytesPerFileValue[a.type]);
    this.checks.expectType('place', 'output', a.output, 'f32');
    if (a.input.size === 0) return;
    const [lastRow, lastColumn] = [(rows - 1) * rowStride, (columns - 1) * columnStride];
    if (!(offset + lastRow + lastColumn < a.output.size))
      throw new ShapeError(`place: reaches element ${offset + lastRow + lastColumn} of ${describe(a.output)}`);
    const apart = (rows < 2 || rowStride > lastColumn) && (columns < 2 || columnStride > 0);
    if (!apart && !((columns < 2 || columnStride > lastRow) && (rows < 2 || rowStride > 0)))
      throw new ShapeError(`place: with strides ${rowStride} and ${columnStride}, values of [${rows}, ${columns}] fall on each other`);
    this.enqueue('place', [a.input, a.output], [Object.keys(bytesPerFileValue).indexOf(a.type), ...numbers]);
  }

  // ------------------------------------------------------------------ prepared weights

  /** A copy of weight [outputs, inputs] for {@link linear} in inference; the caller disposes it. A weight that is not finite is a late error for i8. */
  prepareLinear(a: { weight: Tensor; precision: Precision }): PreparedWeight {
    const { outputs, inputs } = this.checks.linearShape('prepareLinear', a.weight, a.weight);
    return this.prepare('linear', a.weight, [outputs, inputs], a.precision);
  }

  /** A copy of an FFF's nodes [nodes, 2 width] for {@link fff} in inference; the caller disposes it. For i8, w_in and w_out have a scale each. */
  prepareNodes(a: { nodes: Tensor; precision: Precision }): PreparedWeight {
    this.checks.expectType('prepareNodes', 'nodes', a.nodes, 'f32');
    const { shape } = a.nodes;
    if (shape.length !== 2 || shape[1] % 2 !== 0) throw new ShapeError(`prepareNodes: nodes ${describe(a.nodes)} must be [nodes, 2 width]`);
    return this.prepare('fff', a.nodes, [shape[0], shape[1]], a.precision);
  }

  private prepare(operation: 'linear' | 'fff', weight: Tensor, shape: [number, number], precision: Precision): PreparedWeight {
    if (!precisions.includes(precision)) throw new ShapeError(`precision '${precision}' is none of ${precisions.join(', ')}`);
    const inputs = operation === 'linear' ? shape[1] : shape[1] / 2;
    if (precision === 'i8' && inputs > mostI8Inputs)
      throw new ShapeError(
        `${weight.name}: ${inputs} inputs, but int32 holds the sums of ${mostI8Inputs} products of i8: take bf16 or f32`,
      );
    const storage = this.allocate(PreparedWeight.bytes(operation, shape, precision));
    const prepared = new PreparedWeight(this, weight.name, operation, shape, precision, storage);
    this.enqueue(
      operation === 'linear' ? 'prepareLinear' : 'prepareNodes',
      [weight, prepared.data],
      [...shape, precisions.indexOf(precision)],
    );
    return prepared;
  }

  // ------------------------------------------------------------------ layers

  /**
   * output[r] = gamma (input[r] - mean) / sqrt(variance + epsilon) + beta, over the last dimension; biased variance.
   * input, output [rows, width]; gamma, beta [width]; mean and reciprocal standard deviation [rows] are kept for the backward if given.
   */
  layerNorm(a: { input: Tensor; gamma: Tensor; beta: Tensor; epsilon: number; output: Tensor; mean?: Tensor; reciprocal?: Tensor }): void {
    const width = this.checks.expect('layerNorm', { gamma: a.gamma, beta: a.beta });
    const rows = this.checks.rows('layerNorm', 'input', a.input, width);
    this.checks.expect('layerNorm', { input: a.input, output: a.output }, rows * width);
    this.checks.expectOptional('layerNorm', { mean: a.mean, reciprocal: a.reciprocal }, rows);
    this.enqueue('layerNorm', [a.input, a.gamma, a.beta, a.output, a.mean, a.reciprocal], [rows, width, a.epsilon]);
  }

  /** gradInput is overwritten, or added to with `accumulate` (a residual's gradient is already there); gradGamma and gradBeta, if given, are added to. gradInput may be gradOutput unless accumulating. */
  layerNormBackward(a: {
    input: Tensor;
    gamma: Tensor;
    mean: Tensor;
    reciprocal: Tensor;
    gradOutput: Tensor;
    gradInput: Tensor;
    accumulate?: boolean;
    gradGamma?: Tensor;
    gradBeta?: Tensor;
  }): void {
    const width = this.checks.expect('layerNormBackward', { gamma: a.gamma });
    const rows = this.checks.rows('layerNormBackward', 'input', a.input, width);
    this.checks.expect('layerNormBackward', { input: a.input, gradOutput: a.gradOutput, gradInput: a.gradInput }, rows * width);
    this.checks.expectOptional('layerNormBackward', { gradGamma: a.gradGamma, gradBeta: a.gradBeta }, width);
    this.checks.expect('layerNormBackward', { mean: a.mean, reciprocal: a.reciprocal }, rows);
    this.enqueue(
      'layerNormBackward',
      [a.input, a.gamma, a.mean, a.reciprocal, a.gradOutput, a.gradInput, a.gradGamma, a.gradBeta],
      [rows, width, a.accumulate ? 1 : 0],
    );
  }

  /**
   * output = activation(input weight^T + bias). input [rows, inputs], weight [outputs, inputs] as PyTorch has it, bias [outputs],
   * output [rows, outputs]. With activation 'gelu', `preActivation` [rows, outputs] keeps what the backward needs.
   * accumulate: output += (without activation only), for residuals. A prepared weight computes in its {@link Precision}, for inference:
   * without preActivation. `precision` is of the products with a weight that is not prepared.
   */
  linear(a: {
    input: Tensor;
    weight: Tensor | PreparedWeight;
    bias?: Tensor;
    output: Tensor;
    activation?: 'none' | 'gelu';
    preActivation?: Tensor;
    accumulate?: boolean;
    precision?: ProductPrecision;
  }): void {
    const { rows, inputs, outputs } = this.checks.linearShape('linear', a.input, a.weight);
    this.checks.expect('linear', { input: a.input }, rows * inputs);
    this.checks.expect('linear', { output: a.output }, rows * outputs);
    this.checks.expectOptional('linear', { preActivation: a.preActivation }, rows * outputs);
    this.checks.expectOptional('linear', { bias: a.bias }, outputs);
    const gelu = a.activation === 'gelu';
    if (!gelu && (a.activation ?? 'none') !== 'none') throw new ShapeError(`linear: activation '${a.activation}' is none of none, gelu`);
    if (gelu && a.accumulate) throw new ShapeError('linear: accumulate and an activation exclude each other');
    if (a.preActivation && !gelu) throw new ShapeError("linear: preActivation is kept only with activation 'gelu'");
    const numbers = [rows, inputs, outputs, gelu ? 1 : 0, a.accumulate ? 1 : 0];
    if (a.weight instanceof PreparedWeight) {
      if (a.preActivation) throw new ShapeError('linear: a prepared weight is for inference: it keeps no preActivation');
      this.enqueue('linearPrepared', [a.input, a.weight.data, a.bias, a.output], [...numbers, precisions.indexOf(a.weight.precision)]);
    } else {
      this.enqueue(
        'linear',
        [a.input, a.weight, a.bias, a.output, a.preActivation],
        [...numbers, this.checks.precisionNumber('linear', a.precision)],
      );
    }
  }

  /** gradInput (+)= gradOutput weight. gradOutput [rows, outputs], weight [outputs, inputs], gradInput [rows, inputs]. */
  linearBackwardInput(a: {
    gradOutput: Tensor;
    weight: Tensor;
    gradInput: Tensor;
    accumulate?: boolean;
    precision?: ProductPrecision;
  }): void {
    const { rows, inputs, outputs } = this.checks.linearShape('linearBackwardInput', a.gradInput, a.weight);
    const precision = this.checks.precisionNumber('linearBackwardInput', a.precision);
    this.checks.expect('linearBackwardInput', { gradOutput: a.gradOutput }, rows * outputs);
    this.checks.expect('linearBackwardInput', { gradInput: a.gradInput }, rows * inputs);
    this.enqueue('linearBackwardInput', [a.gradOutput, a.weight, a.gradInput], [rows, inputs, outputs, a.accumulate ? 1 : 0, precision]);
  }

  /** gradWeight += gradOutput^T input, gradBias += column sums of gradOutput. input [rows, inputs], gradOutput [rows, outputs], gradWeight [outputs, inputs]. */
  linearBackwardWeight(a: {
    input: Tensor;
    gradOutput: Tensor;
    gradWeight: Tensor;
    gradBias?: Tensor;
    precision?: ProductPrecision;
  }): void {
    const { rows, inputs, outputs } = this.checks.linearShape('linearBackwardWeight', a.input, a.gradWeight);
    const precision = this.checks.precisionNumber('linearBackwardWeight', a.precision);
    this.checks.expect('linearBackwardWeight', { input: a.input }, rows * inputs);
    this.checks.expect('linearBackwardWeight', { gradOutput: a.gradOutput }, rows * outputs);
    this.checks.expectOptional('linearBackwardWeight', { gradBias: a.gradBias }, outputs);
    this.enqueue('linearBackwardWeight', [a.input, a.gradOutput, a.gradWeight, a.gradBias], [rows, inputs, outputs, precision]);
  }

  /**
   * Scaled dot-product attention: output = softmax(query key^T / sqrt(headSize) + mask) value for each batch element and head.
   * output [batch queryLength, heads headSize]; logSumExp [batch, heads, queryLength], of the masked scaled scores, is kept for the backward if given.
   */
  attention(a: AttentionArguments & { output: Tensor; logSumExp?: Tensor }): void {
    const numbers = this.checks.attentionNumbers('attention', a, [a.query, a.key, a.value]);
    this.checks.expect('attention', { output: a.output }, a.batch * a.queryLength * a.heads * a.headSize);
    this.checks.expectOptional('attention', { logSumExp: a.logSumExp }, a.batch * a.heads * a.queryLength);
    this.enqueue('attention', [a.query.tensor, a.key.tensor, a.value.tensor, a.paddingMask, a.output, a.logSumExp], numbers);
  }

  /** Gradients of query, key and value are overwritten; they lie as their AttentionOperands say (three parts of one tensor, usually). Probabilities are computed again from logSumExp. */
  attentionBackward(
    a: AttentionArguments & {
      output: Tensor;
      logSumExp: Tensor;
      gradOutput: Tensor;
      gradQuery: AttentionOperand;
      gradKey: AttentionOperand;
      gradValue: AttentionOperand;
    },
  ): void {
    const numbers = this.checks.attentionNumbers('attentionBackward', a, [a.query, a.key, a.value, a.gradQuery, a.gradKey, a.gradValue]);
    this.checks.expect('attentionBackward', { output: a.output, gradOutput: a.gradOutput }, a.batch * a.queryLength * a.heads * a.headSize);
    this.checks.expect('attentionBackward', { logSumExp: a.logSumExp }, a.batch * a.heads * a.queryLength);
    this.enqueue(
      'attentionBackward',
      [
        a.query.tensor,
        a.key.tensor,
        a.value.tensor,
        a.paddingMask,
        a.output,
        a.logSumExp,
        a.gradOutput,
        a.gradQuery.tensor,
        a.gradKey.tensor,
        a.gradValue.tensor,
      ],
      numbers,
    );
  }

  /**
   * output[t] (+)= scale table[indices[t]]. table [count, width], indices i32 [rows], output [rows, width]; scale is a tensor of one
   * element (a learned factor), 1 if absent. An index outside the table is a late error. Also gathers rows of any matrix.
   */
  embedding(a: { table: Tensor; indices: Tensor; output: Tensor; scale?: Tensor; accumulate?: boolean }): void {
    const { rows, width, count } = this.checks.embeddingShape('embedding', a.table, a.indices, a.output);
    this.checks.expectOptional('embedding', { scale: a.scale }, 1);
    this.enqueue('embedding', [a.table, a.indices, a.output, a.scale], [rows, width, count, a.accumulate ? 1 : 0]);
  }

  /**
   * gradTable[indices[t]] += scale gradOutput[t], in order of t; rows whose index is `skipIndex` (padding) are left out. touched
   * i32 [count] gets 1 at every row that was added to.
   */
  embeddingBackward(a: {
    indices: Tensor;
    gradOutput: Tensor;
    gradTable: Tensor;
    touched?: Tensor;
    scale?: Tensor;
    skipIndex?: number;
  }): void {
    const { rows, width, count } = this.checks.embeddingShape('embeddingBackward', a.gradTable, a.indices, a.gradOutput);
    this.checks.expectOptional('embeddingBackward', { scale: a.scale }, 1);
    this.checks.expectOptionalIntegers('embeddingBackward', { touched: a.touched }, count);
    const skipped = a.skipIndex ?? Number.NaN; // which no index equals
    this.enqueue('embeddingBackward', [a.indices, a.gradOutput, a.gradTable, a.touched, a.scale], [rows, width, count, skipped]);
  }

  /** gradScale += sum over t of gradOutput[t] . table[indices[t]]. */
  embeddingScaleBackward(a: { table: Tensor; indices: Tensor; gradOutput: Tensor; gradScale: Tensor }): void {
    const { rows, width, count } = this.checks.embeddingShape('embeddingScaleBackward', a.table, a.indices, a.gradOutput);
    this.checks.expect('embeddingScaleBackward', { gradScale: a.gradScale }, 1);
    this.enqueue('embeddingScaleBackward', [a.table, a.indices, a.gradOutput, a.gradScale], [rows, width, count]);
  }

  /**
   * The fast feedforward layer (UltraFastBERT, arXiv 2311.10770): `trees` balanced binary trees of `depth`. Nodes are numbered as in a heap; an
   * inner node is one neuron, each of the 2^depth leaves L = `leafWidth` of them (1 if not given; arXiv 2308.14711), which makes n = 2^depth (1 + L) - 1 neurons a tree:
   * those of the inner nodes in order, then leaf after leaf. For each token x and tree p, from k = 0, for d = 0 .. depth - 1, i = p n + k:
   *   z = w_in[i] . x + bias[i];  y += gelu(z) w_out[i];  k = 2 k + 1 + (z > thresholds[p, k]);
   * then at the leaf k the same for each of its neurons i, without a further choice.
   * input, output [rows, width]; nodes [trees n, 2 width]: a neuron's w_in and, beside it, its w_out; bias [trees n];
   * thresholds [trees, 2^depth - 1], one an inner node; absent: all 0, the paper's layer.
   * For the backward, if given: visited i32 [rows, trees, depth + 1], the nodes k within the tree; logits [rows, trees, depth + L], the z.
   * Prepared nodes compute in their {@link Precision}: in bf16 and i8 the input of a logit is rounded too, gelu(z) is not.
   */
  fff(a: {
    input: Tensor;
    nodes: Tensor | PreparedWeight;
    bias: Tensor;
    thresholds?: Tensor;
    trees: number;
    depth: number;
    leafWidth?: number;
    output: Tensor;
    accumulate?: boolean;
    visited?: Tensor;
    logits?: Tensor;
  }): void {
    const { rows, width, leafWidth, neurons } = this.checks.fffShape('fff', a);
    this.checks.expect('fff', { bias: a.bias }, neurons);
    this.checks.expectOptional('fff', { thresholds: a.thresholds }, a.trees * innerNodes(a.depth));
    this.checks.expect('fff', { input: a.input, output: a.output }, rows * width);
    this.checks.expectOptional('fff', { logits: a.logits }, rows * a.trees * (a.depth + leafWidth));
    this.checks.expectOptionalIntegers('fff', { visited: a.visited }, rows * a.trees * (a.depth + 1));
    const numbers = [rows, width, a.trees, a.depth, leafWidth, a.accumulate ? 1 : 0];
    if (a.nodes instanceof PreparedWeight) {
      const operands = [a.input, a.nodes.data, a.bias, a.thresholds, a.output, a.visited, a.logits];
      this.enqueue('fffPrepared', operands, [...numbers, precisions.indexOf(a.nodes.precision)]);
    } else {
      this.enqueue('fff', [a.input, a.nodes, a.bias, a.thresholds, a.output, a.visited, a.logits], numbers);
    }
  }

  /**
   * Touches the visited neurons only: dz = (dy . w_out[i]) gelu'(z); gradNodes[i] += (dz x, gelu(z) dy); gradBias[i] += dz;
   * gradInput (+)= sum of dz w_in[i]. The choice of path has no gradient; of `visited` only the leaves are read, the nodes above follow
   * from them, and one that is no leaf is a late error. touched i32 [trees n] gets 1 at every visited neuron (rows of gradNodes and
   * gradBias whose flag is 0 hold no gradient and are zero): gradients are row-sparse. Without gradNodes, gradBias and touched (all three or none) only gradInput is computed.
   */
  fffBackward(a: {
    input: Tensor;
    nodes: Tensor;
    trees: number;
    depth: number;
    leafWidth?: number;
    visited: Tensor;
    logits: Tensor;
    gradOutput: Tensor;
    gradInput: Tensor;
    accumulate?: boolean;
    gradNodes?: Tensor;
    gradBias?: Tensor;
    touched?: Tensor;
  }): void {
    const { rows, width, leafWidth, neurons } = this.checks.fffShape('fffBackward', a);
    this.checks.expect('fffBackward', { input: a.input, gradOutput: a.gradOutput, gradInput: a.gradInput }, rows * width);
    this.checks.expect('fffBackward', { logits: a.logits }, rows * a.trees * (a.depth + leafWidth));
    this.checks.expectIntegers('fffBackward', { visited: a.visited }, rows * a.trees * (a.depth + 1));
    if (!a.gradNodes !== !a.gradBias || !a.gradNodes !== !a.touched)
      throw new ShapeError('fffBackward: gradNodes, gradBias and touched are given together or not at all');
    this.checks.expectOptional('fffBackward', { gradNodes: a.gradNodes }, neurons * 2 * width);
    this.checks.expectOptional('fffBackward', { gradBias: a.gradBias }, neurons);
    this.checks.expectOptionalIntegers('fffBackward', { touched: a.touched }, neurons);
    this.enqueue(
      'fffBackward',
      [a.input, a.nodes, a.visited, a.logits, a.gradOutput, a.gradInput, a.gradNodes, a.gradBias, a.touched],
      [rows, width, a.trees, a.depth, leafWidth, a.accumulate ? 1 : 0],
    );
  }

  /**
   * How many tokens went to each side of each inner node: adds to counts i32 [trees, 2^depth - 1, 2], left and right, by the paths in
   * visited i32 [rows, trees, depth + 1], as {@link fff} gives them. What is no path is a late error.
   */
  countSplits(a: { visited: Tensor; counts: Tensor; trees: number; depth: number }): void {
    this.checks.treeShape('countSplits', a);
    const rows = this.checks.rows('countSplits', 'visited', a.visited, a.trees * (a.depth + 1));
    this.checks.expectIntegers('countSplits', { visited: a.visited }, rows * a.trees * (a.depth + 1));
    this.checks.expectIntegers('countSplits', { counts: a.counts }, 2 * a.trees * innerNodes(a.depth));
    this.enqueue('countSplits', [a.visited, a.counts], [rows, a.trees, a.depth]);
  }

  /**
   * Moves each node's threshold towards an even split of the tokens that came to it: thresholds += rate (right - left) / (right + left + pseudoCount), and
   * clears the counts. thresholds [nodes], counts i32 [nodes, 2], left and right. `rate` is in units of a logit.
   */
  balanceThresholds(a: { counts: Tensor; thresholds: Tensor; rate: number; pseudoCount: number }): void {
    const nodes = this.checks.expect('balanceThresholds', { thresholds: a.thresholds });
    this.checks.expectIntegers('balanceThresholds', { counts: a.counts }, 2 * nodes);
    this.enqueue('balanceThresholds', [a.counts, a.thresholds], [nodes, a.rate, a.pseudoCount]);
  }

  /**
   * Conditional matrix product: each row of the input meets its own chosen rows, or blocks of rows, of the weight:
   * output[r, c blockSize + j] (+)= input[r] . weight[chosen[r, c] blockSize + j] + bias[...]. What FFF layers, routed experts and nearest
   * neighbours in a few cells come down to. Rows that chose the same block are computed together.
   * input [rows, inputs], weight [blocks blockSize, inputs], chosen i32 [rows, choices], bias [blocks blockSize], output [rows, choices
   * blockSize]; blockSize is 1 by default. A block that the weight does not have is a late error. A block may be chosen twice by one row.
   */
  conditionalMatmul(a: {
    input: Tensor;
    weight: Tensor;
    chosen: Tensor;
    blockSize?: number;
    bias?: Tensor;
    output: Tensor;
    accumulate?: boolean;
  }): void {
    const { numbers, rows, outputs } = this.checks.choiceShape('conditionalMatmul', a.input, a.weight, a.chosen, a.blockSize);
    this.checks.expectOptional('conditionalMatmul', { bias: a.bias }, a.weight.shape[0]);
    this.checks.expect('conditionalMatmul', { output: a.output }, rows * outputs);
    this.enqueue('conditionalMatmul', [a.input, a.weight, a.chosen, a.bias, a.output], [...numbers, a.accumulate ? 1 : 0]);
  }

  /**
   * gradInput[r] (+)= sum over c, j of gradOutput[r, c blockSize + j] weight[chosen[r, c] blockSize + j]. It is the transposed product as
   * well: a sum of chosen rows, each times a number of the row's own. Shapes as in {@link conditionalMatmul}.
   */
  conditionalMatmulBackwardInput(a: {
    gradOutput: Tensor;
    weight: Tensor;
    chosen: Tensor;
    blockSize?: number;
    gradInput: Tensor;
    accumulate?: boolean;
  }): void {
    const { numbers, rows, outputs } = this.checks.choiceShape(
      'conditionalMatmulBackwardInput',
      a.gradInput,
      a.weight,
      a.chosen,
      a.blockSize,
    );
    this.checks.expect('conditionalMatmulBackwardInput', { gradOutput: a.gradOutput }, rows * outputs);
    this.enqueue('conditionalMatmulBackwardInput', [a.gradOutput, a.weight, a.chosen, a.gradInput], [...numbers, a.accumulate ? 1 : 0]);
  }

  /**
   * gradWeight[chosen[r, c] blockSize + j] += gradOutput[r, c blockSize + j] input[r], and gradBias likewise. touched i32 [blocks blockSize],
   * if given, gets 1 at every row that was chosen. Shapes as in {@link conditionalMatmul}.
   */
  conditionalMatmulBackwardWeight(a: {
    input: Tensor;
    gradOutput: Tensor;
    chosen: Tensor;
    blockSize?: number;
    gradWeight: Tensor;
    gradBias?: Tensor;
    touched?: Tensor;
  }): void {
    const operation = 'conditionalMatmulBackwardWeight';
    const { numbers, rows, outputs } = this.checks.choiceShape(operation, a.input, a.gradWeight, a.chosen, a.blockSize);
    this.checks.expect(operation, { gradOutput: a.gradOutput }, rows * outputs);
    this.checks.expectOptional(operation, { gradBias: a.gradBias }, a.gradWeight.shape[0]);
    this.checks.expectOptionalIntegers(operation, { touched: a.touched }, a.gradWeight.shape[0]);
    this.enqueue('conditionalMatmulBackwardWeight', [a.input, a.gradOutput, a.chosen, a.gradWeight, a.gradBias, a.touched], numbers);
  }

  /**
   * One row a sequence from input [batch length, width]: the first position, the mean, the maximum or the log of the sum of exponentials of each
   * feature over its positions, or over those that mask, i32 [batch, length], does not give 0 ('first' takes no notice of it; where no position is left
   * the mean is 0, the others are -Infinity). selected i32 [batch, width] keeps the maximum's position (kind 'max').
   */
  pool(a: { input: Tensor; batch: number; length: number; kind: PoolKind; output: Tensor; selected?: Tensor; mask?: Tensor }): void {
    const width = this.checks.poolWidth('pool', a.input, a.output, a);
    this.checks.expectOptionalIntegers('pool', { selected: a.selected }, a.batch * width);
    this.enqueue('pool', [a.input, a.output, a.selected, a.mask], [a.batch, a.length, width, poolKinds.indexOf(a.kind)]);
  }

  /** gradInput [batch length, width] is overwritten throughout. input and output for 'logSumExp', selected for 'max'. */
  poolBackward(a: {
    batch: number;
    length: number;
    kind: PoolKind;
    gradOutput: Tensor;
    gradInput: Tensor;
    input?: Tensor;
    output?: Tensor;
    selected?: Tensor;
    mask?: Tensor;
  }): void {
    const width = this.checks.poolWidth('poolBackward', a.gradInput, a.gradOutput, a);
    if (a.kind === 'max' && !a.selected) throw new ShapeError("poolBackward: kind 'max' needs selected");
    if (a.kind === 'logSumExp' && !(a.input && a.output)) throw new ShapeError("poolBackward: kind 'logSumExp' needs input and output");
    this.checks.expectOptional('poolBackward', { input: a.input }, a.batch * a.length * width);
    this.checks.expectOptional('poolBackward', { output: a.output }, a.batch * width);
    this.checks.expectOptionalIntegers('poolBackward', { selected: a.selected }, a.batch * width);
    this.enqueue(
      'poolBackward',
      [a.gradOutput, a.gradInput, a.input, a.output, a.selected, a.mask],
      [a.batch, a.length, width, poolKinds.indexOf(a.kind)],
    );
  }

  // ------------------------------------------------------------------ losses and reductions

  /**
   * losses[r] = logSumExp(logits[r]) - logits[r][labels[r]], and gradLogits = scale (softmax - one-hot), which may be the logits themselves.
   * Rows labelled ignoreIndex (-100) get 0 in both. logits [rows, classes], labels i32 [rows], losses [rows]. A label outside the classes is a late error.
   */
  crossEntropy(a: { logits: Tensor; labels: Tensor; losses: Tensor; gradLogits?: Tensor; scale?: number; ignoreIndex?: number }): void {
    const rows = this.checks.expectIntegers('crossEntropy', { labels: a.labels });
    const size = this.checks.expect('crossEntropy', { logits: a.logits });
    const classes = size / rows;
    if (rows > 0 && !Number.isInteger(classes))
      throw new ShapeError(`crossEntropy: logits ${describe(a.logits)} are not rows of classes for ${rows} labels`);
    this.checks.expectOptional('crossEntropy', { gradLogits: a.gradLogits }, size);
    this.checks.expect('crossEntropy', { losses: a.losses }, rows);
    this.checks.expectInt32('crossEntropy', 'ignoreIndex', a.ignoreIndex ?? -100);
    this.enqueue(
      'crossEntropy',
      [a.logits, a.labels, a.losses, a.gradLogits],
      [rows, rows > 0 ? classes : 0, a.scale ?? 1, a.ignoreIndex ?? -100],
    );
  }

  /** losses = (predictions - targets)^2, elementwise; gradPredictions = 2 scale (predictions - targets), which may be the predictions themselves. */
  squaredError(a: { predictions: Tensor; targets: Tensor; losses: Tensor; gradPredictions?: Tensor; scale?: number }): void {
    const n = this.checks.expect('squaredError', { predictions: a.predictions, targets: a.targets, losses: a.losses });
    this.checks.expectOptional('squaredError', { gradPredictions: a.gradPredictions }, n);
    this.enqueue('squaredError', [a.predictions, a.targets, a.losses, a.gradPredictions], [n, a.scale ?? 1]);
  }

  /** output[0] (+)= sum of input. */
  sum(a: { input: Tensor; output: Tensor; accumulate?: boolean }): void {
    const n = this.checks.expect('sum', { input: a.input });
    this.checks.expect('sum', { output: a.output }, 1);
    this.enqueue('sum', [a.input, a.output], [n, a.accumulate ? 1 : 0]);
  }

  /** output[0] = sum of squares of input [rows, ...]. With touched i32 [rows], rows whose flag is 0 are not read and count as zero. */
  sumOfSquares(a: { input: Tensor; touched?: Tensor; output: Tensor }): void {
    const rows = a.touched?.size ?? 1;
    const width = this.checks.rowWidth('sumOfSquares', 'input', a.input, rows);
    this.checks.expect('sumOfSquares', { input: a.input });
    this.checks.expectOptionalIntegers('sumOfSquares', { touched: a.touched }, rows);
    this.checks.expect('sumOfSquares', { output: a.output }, 1);
    this.enqueue('sumOfSquares', [a.input, a.touched, a.output], [rows, width]);
  }

  // ------------------------------------------------------------------ optimiser

  /** From sums of squares: output[0] = min(1, maximum / (norm + 1e-6)) and output[1] = norm, the square root of their sum (PyTorch's clip_grad_norm_). */
  clipScale(a: { sums: Tensor; maximum: number; output: Tensor }): void {
    const n = this.checks.expect('clipScale', { sums: a.sums });
    this.checks.expect('clipScale', { output: a.output }, 2);
    this.enqueue('clipScale', [a.sums, a.output], [n, a.maximum]);
  }

  /**
   * One AdamW step (arXiv 1711.05101, in PyTorch's form), step counted from 1, in place on parameter, mean (first moment) and variance
   * (second moment), all [rows, ...]. gradientScale: the first element of that tensor multiplies the gradient (clipping). With touched
   * i32 [rows], gradient rows whose flag is 0 are zero and are not read; momentum and decay move such rows all the same.
   */
  adamw(a: {
    parameter: Tensor;
    gradient: Tensor;
    mean: Tensor;
    variance: Tensor;
    touched?: Tensor;
    gradientScale?: Tensor;
    learningRate: number;
    beta1: number;
    beta2: number;
    epsilon: number;
    weightDecay: number;
    step: number;
  }): void {
    this.checks.expect('adamw', { parameter: a.parameter, gradient: a.gradient, mean: a.mean, variance: a.variance });
    const rows = a.touched?.size ?? 1;
    const width = this.checks.rowWidth('adamw', 'parameter', a.parameter, rows);
    this.checks.expectOptionalIntegers('adamw', { touched: a.touched }, rows);
    if (a.gradientScale) this.checks.expectType('adamw', 'gradientScale', a.gradientScale, 'f32');
    if (a.gradientScale?.size === 0)
      throw new ShapeError(`adamw: gradientScale ${describe(a.gradientScale)} has no elements, expected a factor in the first`);
    if (!Number.isInteger(a.step) || a.step < 1) throw new ShapeError(`adamw: step ${a.step} is not a count from 1`);
    this.enqueue(
      'adamw',
      [a.parameter, a.gradient, a.mean, a.variance, a.touched, a.gradientScale],
      [rows, width, a.learningRate, a.beta1, a.beta2, a.epsilon, a.weightDecay, a.step],
    );
  }

  /** Zeroes the rows of gradient [rows, ...] whose flag is not 0. The flags stay: several gradients can share them. */
  clearRows(a: { gradient: Tensor; touched: Tensor }): void {
    const rows = this.checks.expectIntegers('clearRows', { touched: a.touched });
    const width = this.checks.rowWidth('clearRows', 'gradient', a.gradient, rows);
    this.checks.expect('clearRows', { gradient: a.gradient });
    this.enqueue('clearRows', [a.gradient, a.touched], [rows, width]);
  }
}
