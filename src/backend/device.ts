/**
 * The one door to arithmetic. A device owns memory (tensors) and runs operations (operations/, as data) on it.
 *
 * Execution. An operation checks shapes and types at the call and throws {@link ShapeError} there; the work itself is only queued
 * and runs in the order of the calls, off the JavaScript thread where the device can (native: a C++ worker with its thread pool).
 * `await read(tensor)` or `await finish()` hands the queue over in one go and waits; an error of the work itself (an index out of
 * range, say) surfaces there, once; operations queued behind it are skipped until then, so that nothing is computed from what it left
 * (no optimizer step, say), but values written are written.
 *
 * Ownership. An operation writes into outputs that it is handed and allocates nothing that outlives it. What it writes shares no memory
 * with its other operands, except where its definition says so; gradients of parameters (gradWeight, gradBias, gradGamma, gradNodes ...)
 * are added to, every other output is overwritten, except where `accumulate: true` adds to it.
 *
 * Results do not depend on timing: every sum has one fixed order, whatever the threads; native results do not depend on the number
 * of threads either.
 *
 * Notation: [rows, width] are row-major shapes; a tensor with more leading dimensions is taken as rows x width by its size.
 */
import { checkArgument, kinds } from '../arguments.ts';
import { InputError, quoted, ShapeError } from '../errors.ts';
import { OperationMethods } from './operations/device_methods.ts';
import { prepareWeight } from './operations/prepared.ts';
import { describe } from './operations/shapes.ts';
import type { Precision, PreparedWeight } from './prepared_weight.ts';
import { arrayTypes, bytesPerElement, type DType, type Storage, sizeOf, Tensor, type TypedArray } from './tensor.ts';

/** Operations are methods: each takes its operands and attributes by name (operations/). */
export abstract class Device extends OperationMethods {
  abstract readonly name: string;
  /** Threads that share an operation's work. */
  abstract readonly threads: number;
  /** What runs, for reports: 'AVX-512, 2 threads', say. */
  abstract readonly description: string;

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
  /** Queues one operation, whose arguments were checked. An absent operand is undefined. */
  abstract enqueue(operation: string, operands: readonly (Tensor | undefined)[], numbers: readonly number[]): void;
  /** Starts what is queued without waiting for it. */
  abstract submit(): void;
  /** Resolves when all that was queued before has run; rejects with its first error. */
  abstract finish(): Promise<void>;
  protected abstract download(tensor: Tensor): Promise<TypedArray>;
  /** Ends threads and frees all memory, whoever owns it. */
  abstract dispose(): void;
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A new tensor; uninitialized unless `values` are given. */
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
    this.expectOwn(tensor, 'write');
    if (!Array.isArray(values) && !ArrayBuffer.isView(values))
      throw new InputError(`values: got ${quoted(values)}, expected an array of numbers`);
    if (values.length !== tensor.size) throw new ShapeError(`write: ${describe(tensor)} takes ${tensor.size} values, got ${values.length}`);
    const ArrayType = arrayTypes[tensor.dtype];
    this.upload(tensor, values instanceof ArrayType ? values : ArrayType.from(values as ArrayLike<number>));
  }

  /**
   * A tensor of bytes (i8) for `stridedCopy` to take values from: the array itself where the device can reach it, else a copy. The
   * array must not change until a `finish` that was called later has resolved. Whoever asked disposes the tensor.
   */
  borrow(name: string, bytes: Uint8Array<ArrayBuffer>): Tensor {
    return this.tensor(name, [bytes.length], 'i8', new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length));
  }

  /** A copy of the tensor's values once everything queued before has run. Float32Array for f32, Int32Array for i32. */
  async read(tensor: Tensor): Promise<Float32Array<ArrayBuffer>>;
  async read(tensor: Tensor): Promise<TypedArray> {
    this.expectOwn(tensor, 'read');
    return this.download(tensor);
  }

  async readIntegers(tensor: Tensor): Promise<Int32Array> {
    this.expectOwn(tensor, 'readIntegers');
    if (tensor.dtype !== 'i32') throw new ShapeError(`readIntegers: tensor ${describe(tensor)} must be i32`);
    return (await this.download(tensor)) as Int32Array;
  }

  /** Throws ShapeError unless the tensor is this device's, and alive. */
  expectOwn(tensor: Tensor, caller?: string): void {
    if (tensor instanceof Tensor && tensor.device === this && !tensor.disposed) return;
    let problem = `tensor '${tensor?.name}' was disposed`;
    if (!(tensor instanceof Tensor))
      problem = `tensor is no tensor (${Object.prototype.toString.call(tensor)}): hand in a tensor, as device.tensor makes them`;
    else if (tensor.device !== this) problem = `${describe(tensor)} belongs to another device`;
    throw new ShapeError(caller ? `${caller}: ${problem}` : problem);
  }

  /** A copy of weight [outputs, inputs] for `linear` in inference; the caller disposes it. A weight that is not finite is a late error for i8. */
  prepareLinear(a: { weight: Tensor; precision: Precision }): PreparedWeight {
    return prepareWeight(this, 'linear', a.weight, a.precision);
  }

  /** A copy of an FFF's nodes [nodes, 2 width] for `fff` in inference; the caller disposes it. For i8, w_in and w_out have a scale each. */
  prepareNodes(a: { nodes: Tensor; precision: Precision }): PreparedWeight {
    return prepareWeight(this, 'fff', a.nodes, a.precision);
  }
}
