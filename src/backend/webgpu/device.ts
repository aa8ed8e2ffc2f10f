import { DeviceLostError, InputError } from '../../errors.ts';
import { Device } from '../device.ts';
import { arrayTypes, bytesPerElement, type Storage, Tensor, type TypedArray } from '../tensor.ts';
import { type Adapter, openAdapter, type WebGpuOptions } from './adapter.ts';
import { BufferPool } from './buffer_pool.ts';
import { type Command, Encoder } from './commands.ts';
import type { Kernel, Numbers, OperationName, Variant } from './kernel.ts';
import { definitionOf, kernels, type MergeName, outputToAccumulate } from './kernels.ts';
import { Pipelines } from './pipelines.ts';
import { layOut, shaderOf } from './shader.ts';
import { StagingReads } from './staging.ts';

/** Memory that waits for the list of commands (bytes), or commands, after which it is handed over. */
const muchMemory = 1 << 20;
const longList = 1024;

class GpuStorage implements Storage {
  released = false;
  readonly address = 0;

  constructor(
    private readonly device: WebGpuDevice,
    readonly bytes: number,
    readonly buffer: GPUBuffer,
  ) {}

  get disposed(): boolean {
    return this.released || this.device.disposed;
  }
}

export const bufferOf = (storage: Storage) => (storage as GpuStorage).buffer;

/**
 * The backend on the graphics processor, by WebGPU: in browsers, in Deno, and in Node by the package `webgpu`. Operations are gathered into a
 * list of commands, which is encoded once its pipelines are compiled; nothing is read back but what `read` asks for.
 */
export class WebGpuDevice extends Device {
  readonly name = 'webgpu';
  readonly threads = 1;
  readonly description: string;
  /** Dispatches that were queued so far, for tests and reports: each costs some microseconds, whatever it computes. */
  dispatches = 0;
  /** Held until the end; see {@link Adapter}. */
  readonly source: { gpu: GPU | undefined };
  private readonly gpu: GPUDevice;
  private readonly variant: Variant;
  private readonly memory: BufferPool;
  private readonly pipelines: Pipelines;
  private readonly reads: StagingReads;
  private readonly encoder: Encoder;
  private commands: Command[] = [];
  /** A copy that is put off, from the first tensor to the second: an operation that adds to the copy can add to the first as well. */
  private copied: readonly Tensor[] | undefined;
  private waiting = 0;
  private calls = 0;
  private last: Promise<void> = Promise.resolve();
  private closed = false;
  private broken: Error | undefined;
  /** How to word the late errors of calls that may have had one since the last barrier. */
  private fallible = new Map<number, { kernel: Kernel; numbers: Numbers }>();

  /** Throws InputError if there is no adapter, or only one that is too small. */
  static async open(options: WebGpuOptions = {}): Promise<WebGpuDevice> {
    return new WebGpuDevice(await openAdapter(options));
  }

  private constructor({ from, device, description, variant }: Adapter) {
    super();
    this.source = { gpu: from };
    this.gpu = device;
    this.description = description;
    this.variant = variant;
    this.memory = new BufferPool(device);
    this.pipelines = new Pipelines(device);
    this.encoder = new Encoder(device);
    this.reads = new StagingReads(device);
    void device.lost.then(({ message }) => {
      if (!this.closed) this.fail(new DeviceLostError(`the graphics processor was lost${message ? `: ${message}` : ''}`));
    });
    device.onuncapturederror = ({ error }) => {
      const full = error.constructor.name === 'GPUOutOfMemoryError'; // no global in Node
      const advice = "take a smaller batch or model, dtype 'bf16' or 'i8', or another backend";
      this.fail(full ? new InputError(`the graphics processor has no memory left: ${advice}`) : new Error(`WebGPU: ${error.message}`));
    };
  }

  get disposed(): boolean {
    return this.closed;
  }

  /** Pipelines that were made. */
  get pipelineCount(): number {
    return this.pipelines.count;
  }

  allocate(bytes: number): Storage {
    if (this.closed) throw new Error('the WebGPU backend was disposed');
    const { maxBufferSize, maxStorageBufferBindingSize } = this.gpu.limits;
    const most = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    if (bytes > most) {
      throw new InputError(
        `no memory for ${bytes} bytes in one piece: this graphics processor takes ${most}; take a smaller batch or model, dtype 'bf16' or 'i8', or another backend`,
      );
    }
    return new GpuStorage(this, bytes, this.memory.take(bytes));
  }

  release(storage: Storage): void {
    if (storage.disposed) return;
    this.makeCopy();
    const { buffer } = storage as GpuStorage;
    (storage as GpuStorage).released = true;
    if (!this.memory.give(buffer)) this.command({ kind: 'destroy', buffer });
  }

  protected upload(tensor: Tensor, values: TypedArray): void {
    if (values.byteLength === 0) return;
    this.makeCopy();
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const start = tensor.offset * bytesPerElement[tensor.dtype];
    const end = start + bytes.length;
    // The queue writes whole words; of those that are another's in part, the bytes are merged.
    const [first, last] = [4 * Math.ceil(start / 4), 4 * Math.floor(end / 4)];
    if (first > start) this.merge(tensor, start, bytes.subarray(0, Math.min(first, end) - start));
    if (last > first)
      this.command(
        { kind: 'write', buffer: bufferOf(tensor.storage), at: first, bytes: bytes.slice(first - start, last - start) },
        last - first,
      );
    if (last >= first && end > last) this.merge(tensor, last, bytes.subarray(last - start));
  }

  private merge(tensor: Tensor, at: number, bytes: Uint8Array): void {
    const shift = 8 * (at % 4);
    const [word, mask] = bytes.reduce(
      ([word, mask], byte, i) => [word | (byte << (shift + 8 * i)), mask | (0xff << (shift + 8 * i))],
      [0, 0],
    );
    const whole = new Tensor(this, tensor.name, [tensor.storage.bytes], 'i8', tensor.storage, 0, false);
    this.run('mergeWord', [whole], [Math.floor(at / 4), word >>> 0, mask >>> 0]);
  }

  enqueue(operation: string, operands: readonly (Tensor | undefined)[], numbers: readonly number[]): void {
    if (operation === 'copy') {
      this.makeCopy();
      this.copied = operands as readonly Tensor[];
    } else this.run(operation as OperationName, operands, numbers);
  }

  /** Queues the copy that was put off, if there is one: what comes next may need it. */
  private makeCopy(): void {
    const { copied } = this;
    this.copied = undefined;
    if (copied) this.run('copy', copied, [copied[0].size]);
  }

  /** What a call adds to in place of its output, which was to be a copy of that; makes the copy where the call needs it. */
  private baseOf(name: OperationName | MergeName, tensors: readonly (Tensor | undefined)[], numbers: Numbers): Tensor | undefined {
    if (!this.copied) return undefined;
    const [input, output] = this.copied;
    const at = outputToAccumulate(name, numbers);
    const target = at === undefined ? undefined : tensors[at];
    if (target?.storage === output.storage && target.offset === output.offset && target.size === output.size) {
      this.copied = undefined;
      return input;
    }
    const { operands } = definitionOf(name).plan;
    const needed = tensors.some(
      (t, i) => t && (t.storage === output.storage || (t.storage === input.storage && operands[i].role !== 'input')),
    );
    if (needed) this.makeCopy();
    return undefined;
  }

  private run(name: OperationName | MergeName, given: readonly (Tensor | undefined)[], values: readonly number[]): void {
    const kernel = kernels[name];
    const operation = definitionOf(name);
    let numbers: Numbers = Object.fromEntries((operation.numbers as readonly string[]).map((number, i) => [number, values[i]]));
    if (kernel.derive) numbers = { ...numbers, ...kernel.derive(numbers) };
    const base = this.baseOf(name, given, numbers);
    const tensors = operation.plan.operands.map((operand, i) => (operand.name === 'base' ? base : given[i]));
    const call = ++this.calls;
    if (kernel.error) this.fallible.set(call, { kernel, numbers });
    const scratchBytes = kernel.scratch?.(numbers) ?? 0;
    const scratch = scratchBytes > 0 ? this.allocate(scratchBytes) : undefined;
    const constants = (kernel.constants ?? []).map((constant) => numbers[constant]).join(' ');
    for (const stage of kernel.stages(numbers)) {
      const groups = stage.groups(numbers);
      if (
        groups === 0 ||
        (stage.onlyWith && !stage.onlyWith.some((name) => tensors[operation.plan.operands.findIndex((o) => o.name === name)]))
      )
        continue;
      const layout = layOut(operation, stage, tensors, scratch);
      const key = `${name} ${stage.name} (${constants}) ${layout.key}`;
      const pipeline = this.pipelines.get(key, layout, stage.reports !== undefined, () =>
        shaderOf(operation, kernel, stage, numbers, layout, this.variant),
      );
      const buffers = layout.slots.map(({ storage }) => bufferOf(storage));
      this.dispatches++;
      this.command({ kind: 'dispatch', name, pipeline, buffers, kernel, numbers, tensors, call, groups });
    }
    if (scratch) this.release(scratch);
  }

  private command(command: Command, memory = 0): void {
    this.commands.push(command);
    this.waiting += memory;
    if (this.waiting >= muchMemory || this.commands.length >= longList) this.submit();
  }

  submit(): void {
    this.makeCopy();
    if (this.commands.length === 0 || this.closed) return;
    const { commands } = this;
    this.commands = [];
    this.waiting = 0;
    this.last = this.last.then(async () => {
      if (this.broken || this.closed) return;
      try {
        await this.encoder.encode(commands, () => this.broken !== undefined || this.closed);
      } catch (error) {
        this.fail(error as Error);
      }
    });
  }

  async finish(): Promise<void> {
    await this.barrier(undefined);
  }

  protected async download(tensor: Tensor): Promise<TypedArray> {
    const bytes = await this.barrier(tensor);
    return new arrayTypes[tensor.dtype](bytes.buffer as ArrayBuffer);
  }

  /** The tensor's bytes once all that was queued before has run. Rejects with its first late error, which is then forgotten. */
  private async barrier(tensor: Tensor | undefined): Promise<Uint8Array> {
    this.refuseIfBroken();
    this.makeCopy();
    const { fallible } = this;
    this.fallible = new Map();
    const size = tensor ? bytesPerElement[tensor.dtype] : 0;
    const [start, end] = tensor ? [tensor.offset * size, (tensor.offset + tensor.size) * size] : [0, 0];
    const [from, to] = [start - (start % 4), 4 * Math.ceil(end / 4)];
    const staging = this.reads.take(to - from);
    const source = tensor && to > from ? { buffer: bufferOf(tensor.storage), from, bytes: to - from } : undefined;
    this.command({ kind: 'read', source, staging });
    this.submit();
    await this.last;
    this.refuseIfBroken();
    try {
      const { record, bytes } = await this.reads.get(staging, to - from);
      this.refuseIfBroken(); // what is read of a lost device is nothing
      const [call, position, value, second] = record;
      if (call !== 0) throw lateError(fallible.get(call), ~position >>> 0, value | 0, second | 0);
      return bytes.slice(start - from, end - from);
    } catch (error) {
      // That the device was lost may be told a little later than what came of it.
      await new Promise((resolve) => setTimeout(resolve));
      this.refuseIfBroken();
      throw error;
    }
  }

  dispose(): void {
    if (this.closed) return;
    this.closed = true;
    this.commands = [];
    this.gpu.destroy();
    void this.gpu.lost.then(() => {
      this.source.gpu = undefined;
    });
  }

  private fail(error: Error): void {
    this.broken ??= error;
  }

  private refuseIfBroken(): void {
    if (this.closed) throw new Error('the WebGPU backend was disposed');
    if (this.broken) throw this.broken;
  }
}

function lateError(told: { kernel: Kernel; numbers: Numbers } | undefined, position: number, value: number, second: number): Error {
  return told?.kernel.error
    ? new RangeError(told.kernel.error(told.numbers, position, value, second))
    : new Error('WebGPU: an unknown late error');
}
