import { InputError } from '../errors.ts';
import { Backend } from './backend.ts';
import { loadAddon, type NativeAddon, type NativeHandle } from './native_loader.ts';
import { availableThreads } from './native_threads.ts';
import { arrayTypes, bytesPerElement, type Storage, type Tensor, type TypedArray } from './tensor.ts';

/** Codes of commands that are not kernels; see kernels/runtime/executor.h. */
const releaseBlock = -1;
const writeInline = -2;
const writeStaged = -3;

/** Up to so many bytes travel inside the list of commands. */
const inlineBytes = 4096;
/** A list this long (numbers), and blocks this large (bytes), are handed over at once, so that memory does not pile up behind them. */
const longList = 1 << 15;
const largeBlock = 1 << 20;

class NativeStorage implements Storage {
  private released = false;

  constructor(
    private readonly backend: NativeBackend,
    readonly bytes: number,
    readonly address: number,
  ) {}

  get disposed(): boolean {
    return this.released || this.backend.disposed;
  }

  set disposed(value: boolean) {
    this.released = value;
  }
}

/**
 * The backend in C++: operations are gathered into a list of commands, which a thread of its own runs with the help of a thread
 * pool. Kernels are compiled for several instruction sets; the widest that the processor has is taken, or the one that the
 * environment variable UFB_INSTRUCTION_SET names (baseline, avx2, avx512; neon).
 */
export class NativeBackend extends Backend {
  readonly name = 'native';
  readonly threads: number;
  readonly instructionSet: string;
  private readonly addon: NativeAddon;
  private readonly handle: NativeHandle;
  private readonly codes: ReadonlyMap<string, number>;
  private commands = new Float64Array(4096);
  private used = 0;
  private closed = false;

  /** `threads` is the CPU quota by default. Throws InputError if the add-on does not load or has no such instruction set. */
  constructor(options: { threads?: number; instructionSet?: string } = {}) {
    super();
    const { addon, reason } = loadAddon();
    if (!addon) throw new InputError(`${reason}; leave out 'native' or ask for the 'reference' backend`);
    const threads = options.threads ?? availableThreads();
    if (!Number.isInteger(threads) || threads < 1 || threads > 1024)
      throw new InputError(`threads: ${threads} is not a count from 1 to 1024`);
    this.addon = addon;
    this.instructionSet =
      options.instructionSet ?? process.env.UFB_INSTRUCTION_SET ?? addon.instructionSets[addon.instructionSets.length - 1];
    if (!addon.instructionSets.includes(this.instructionSet)) {
      throw new InputError(`instruction set '${this.instructionSet}' is not one of this processor's: ${addon.instructionSets.join(', ')}`);
    }
    this.codes = new Map(addon.kernelNames.map((name, code) => [name, code]));
    this.handle = addon.create(this.instructionSet, threads);
    this.threads = addon.threads(this.handle);
  }

  get description(): string {
    const names: Record<string, string> = { avx2: 'AVX2', avx512: 'AVX-512', neon: 'NEON' };
    return `${names[this.instructionSet] ?? this.instructionSet}, ${this.threads} thread${this.threads > 1 ? 's' : ''}`;
  }

  get disposed(): boolean {
    return this.closed;
  }

  allocate(bytes: number): Storage {
    return new NativeStorage(this, bytes, this.addon.allocate(this.handle, bytes));
  }

  release(storage: Storage): void {
    if (storage.disposed) return;
    storage.disposed = true;
    this.command(releaseBlock, [storage.address], []);
    if (storage.bytes >= largeBlock) this.submit();
  }

  protected upload(tensor: Tensor, values: TypedArray): void {
    const bytes = values.byteLength;
    if (bytes === 0) return;
    if (bytes > inlineBytes) {
      this.command(writeStaged, [addressOf(tensor), this.addon.stage(this.handle, values)], [bytes]);
      if (bytes >= largeBlock) this.submit();
      return;
    }
    const at = this.reserve(5 + Math.ceil(bytes / 8));
    this.commands.set([writeInline, 1, addressOf(tensor), 1 + Math.ceil(bytes / 8), bytes], at);
    // As bytes: as doubles, some patterns are NaNs, which a copy may change.
    new Uint8Array(this.commands.buffer, 8 * (at + 5), bytes).set(new Uint8Array(values.buffer, values.byteOffset, bytes));
    if (this.used >= longList) this.submit();
  }

  protected enqueue(operation: string, operands: readonly (Tensor | undefined)[], numbers: readonly number[]): void {
    const code = this.codes.get(operation);
    if (code === undefined) throw new Error(`the native backend has no kernel '${operation}'`);
    this.command(code, operands.map(addressOf), numbers);
  }

  private command(code: number, addresses: readonly number[], numbers: readonly number[]): void {
    let at = this.reserve(3 + addresses.length + numbers.length);
    const list = this.commands;
    list[at++] = code;
    list[at++] = addresses.length;
    for (const address of addresses) list[at++] = address;
    list[at++] = numbers.length;
    for (const number of numbers) list[at++] = number;
    if (this.used >= longList) this.submit();
  }

  /** Makes room for so many more numbers; returns where they begin. */
  private reserve(count: number): number {
    const at = this.used;
    this.used += count;
    if (this.used > this.commands.length) {
      const longer = new Float64Array(Math.max(this.used, 2 * this.commands.length));
      new Uint8Array(longer.buffer).set(new Uint8Array(this.commands.buffer, 0, 8 * at));
      this.commands = longer;
    }
    return at;
  }

  submit(): void {
    if (this.used > 0 && !this.closed) this.addon.submit(this.handle, this.commands, this.take());
  }

  /** How many numbers of the list to hand over; the next command starts a new one. */
  private take(): number {
    const used = this.used;
    this.used = 0;
    return used;
  }

  async finish(): Promise<void> {
    await this.addon.finish(this.handle, this.commands, this.take(), undefined, 0);
  }

  protected download(tensor: Tensor): Promise<TypedArray> {
    return this.addon.finish(this.handle, this.commands, this.take(), arrayFor(tensor), addressOf(tensor));
  }

  protected downloadNow(tensor: Tensor): TypedArray {
    const result = arrayFor(tensor);
    this.addon.runNow(this.handle, this.commands, this.take(), result, addressOf(tensor));
    return result;
  }

  /** Calls and milliseconds of each kernel so far, for reports of where time goes. */
  kernelTimes(): Record<string, { calls: number; milliseconds: number }> {
    const times = this.addon.kernelTimes(this.handle);
    return Object.fromEntries(
      this.addon.kernelNames.map((name, i) => [name, { calls: times[2 * i], milliseconds: times[2 * i + 1] / 1e6 }]),
    );
  }

  dispose(): void {
    if (this.closed) return;
    this.closed = true;
    this.addon.dispose(this.handle);
  }
}

function addressOf(tensor: Tensor | undefined): number {
  return tensor ? tensor.storage.address + bytesPerElement[tensor.dtype] * tensor.offset : 0;
}

function arrayFor(tensor: Tensor): TypedArray {
  return new arrayTypes[tensor.dtype](tensor.size);
}
