import { Device } from './device.ts';
import { operations } from './operations/operations.ts';
import { implementations } from './reference/implementations.ts';
import { arrayTypes, type Storage, type Tensor, type TypedArray } from './tensor.ts';

/** A quiet NaN as float32 and an index outside of every table as int32: whoever reads memory before it was written will notice. */
const uninitialized = 0x7fc00000;

/**
 * The executable specification: every operation in plain TypeScript (src/backend/reference/, one file a family), run at once on the
 * JavaScript thread. Sums are taken in double and rounded to float32 when stored. Runs anywhere; use native where it can be had.
 */
export class ReferenceDevice extends Device {
  readonly name = 'reference';
  readonly threads = 1;
  readonly description = 'plain TypeScript, 1 thread';
  private readonly storages = new Set<Storage>();
  private lateError: unknown;
  private ended = false;

  override allocate(bytes: number): Storage {
    if (this.ended) throw new Error('the reference backend was disposed');
    const data = new ArrayBuffer(Math.ceil(bytes / 4) * 4);
    new Int32Array(data).fill(uninitialized);
    const storage: Storage = { bytes: data.byteLength, address: 0, data, disposed: false };
    this.storages.add(storage);
    return storage;
  }

  override release(storage: Storage): void {
    storage.disposed = true;
    this.storages.delete(storage);
  }

  /** The tensor's values, not a copy. */
  protected values(tensor: Tensor): TypedArray | Float64Array {
    const data = tensor.storage.data as ArrayBuffer;
    const ArrayType = arrayTypes[tensor.dtype];
    return new ArrayType(data, tensor.offset * ArrayType.BYTES_PER_ELEMENT, tensor.size);
  }

  protected override upload(tensor: Tensor, values: TypedArray): void {
    this.values(tensor).set(values);
  }

  override enqueue(operation: string, operands: readonly (Tensor | undefined)[], numbers: readonly number[]): void {
    if (this.lateError !== undefined) return;
    const { operands: rules, numbers: names } = operations[operation as keyof typeof operations];
    const values = Object.fromEntries(Object.keys(rules).map((name, i) => [name, operands[i] && this.values(operands[i])]));
    const implementation = implementations[operation as keyof typeof operations] as (operands: object, numbers: object) => void;
    try {
      implementation(values, Object.fromEntries(names.map((name, i) => [name, numbers[i]])));
    } catch (error) {
      this.lateError = error;
    }
  }

  override submit(): void {}

  override async finish(): Promise<void> {
    this.throwLateError();
  }

  protected override async download(tensor: Tensor): Promise<TypedArray> {
    this.throwLateError();
    return this.values(tensor).slice() as TypedArray;
  }

  /** The first error of the operations since the last look, which is then forgotten. */
  private throwLateError(): void {
    const error = this.lateError;
    this.lateError = undefined;
    if (error !== undefined) throw error;
  }

  override dispose(): void {
    this.ended = true;
    for (const storage of this.storages) storage.disposed = true;
    this.storages.clear();
  }
}
