import { availableThreads, wantedInstructionSet } from '#platform';
import { InputError } from '../errors.ts';
import { CommandList, commandCodes, inlineBytes } from './command_list.ts';
import { Device } from './device.ts';
import { loadAddon, type NativeAddon, type NativeHandle } from './native_loader.ts';
import { addressOf, arrayFor, type Storage, Tensor, type TypedArray } from './tensor.ts';

class NativeStorage implements Storage {
  private released = false;

  constructor(
    private readonly device: NativeDevice,
    readonly bytes: number,
    readonly address: number,
  ) {}

  get disposed(): boolean {
    return this.released || this.device.disposed;
  }

  set disposed(value: boolean) {
    this.released = value;
  }
}

const maxThreads = 1024;

/** In the order of Part::Kind in kernels/runtime/exchange.h. */
const exchangeParts = ['gradient', 'exact', 'count', 'table'] as const;

/** What ranks exchange of a tensor. */
export interface ExchangePart {
  /** Floats that may be rounded on the way, floats that may not, integers, or rows of floats. */
  kind: (typeof exchangeParts)[number];
  tensor: Tensor;
  /** 1, of tensors that are no tables. */
  rows: number;
  /** i32 [rows], of tables that are summed: rows flagged 0 are all 0. */
  flags?: Tensor;
}

/**
 * The backend in C++: operations are gathered into a list of commands, which a thread of its own runs with the help of a thread
 * pool. Kernels are compiled for several instruction sets; the widest that the processor has is taken, or the one that the
 * environment variable UFB_INSTRUCTION_SET names (baseline, avx2, avx512; neon, dotprod, i8mm).
 */
export class NativeDevice extends Device {
  readonly name = 'native';
  readonly threads: number;
  readonly instructionSet: string;
  private readonly addon: NativeAddon;
  private readonly handle: NativeHandle;
  private readonly codes: ReadonlyMap<string, number>;
  private readonly list = new CommandList();
  private closed = false;
  /** Arrays that commands not yet finished read from: held, for their memory would go with them. */
  private borrowed: Uint8Array[] = [];

  /** `threads` is the CPU quota by default. Throws InputError if the add-on does not load or has no such instruction set. */
  constructor(options: { threads?: number; instructionSet?: string } = {}) {
    super();
    const { addon, reason } = loadAddon();
    if (!addon) throw new InputError(`${reason}; leave out 'native' or ask for the 'reference' backend`);
    const threads = options.threads ?? Math.min(availableThreads(), maxThreads);
    if (!Number.isInteger(threads) || threads < 1 || threads > maxThreads)
      throw new InputError(`threads: ${threads} is not a count from 1 to ${maxThreads}`);
    this.addon = addon;
    this.instructionSet = options.instructionSet ?? wantedInstructionSet() ?? addon.instructionSets[addon.instructionSets.length - 1];
    if (!addon.instructionSets.includes(this.instructionSet)) {
      throw new InputError(`instruction set '${this.instructionSet}' is not one of this processor's: ${addon.instructionSets.join(', ')}`);
    }
    this.codes = new Map(addon.kernelNames.map((name, code) => [name, code]));
    this.handle = addon.create(this.instructionSet, threads);
    this.threads = addon.threads(this.handle);
  }

  get description(): string {
    const names: Record<string, string> = {
      avx2: 'AVX2',
      avx512: 'AVX-512',
      neon: 'NEON',
      dotprod: 'NEON with dot products',
      i8mm: 'NEON with I8MM and BF16',
    };
    return `${names[this.instructionSet] ?? this.instructionSet}, ${this.threads} thread${this.threads > 1 ? 's' : ''}`;
  }

  override get multipliesBf16(): boolean {
    return this.instructionSet === 'avx512'; // a processor without AVX512-BF16 takes avx2
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
    this.command(commandCodes.releaseBlock, [storage.address], [], storage.bytes);
  }

  protected upload(tensor: Tensor, values: TypedArray): void {
    const bytes = values.byteLength;
    if (bytes === 0) return;
    if (bytes > inlineBytes) {
      this.command(commandCodes.writeStaged, [addressOf(tensor), this.addon.stage(this.handle, values)], [bytes], bytes);
      return;
    }
    this.list.write(addressOf(tensor), values);
    if (this.list.long) this.submit();
  }

  enqueue(operation: string, operands: readonly (Tensor | undefined)[], numbers: readonly number[]): void {
    const code = this.codes.get(operation);
    if (code === undefined) throw new Error(`the native backend has no kernel '${operation}'`);
    this.command(code, operands.map(addressOf), numbers);
  }

  private command(code: number, addresses: readonly number[], numbers: readonly number[], waiting?: number): void {
    this.list.add(code, addresses, numbers, waiting);
    if (this.list.long) this.submit();
  }

  submit(): void {
    if (this.list.empty || this.closed) return;
    const { commands, used } = this.list.take();
    this.addon.submit(this.handle, commands, used);
  }

  override borrow(name: string, bytes: Uint8Array<ArrayBuffer>): Tensor {
    this.borrowed.push(bytes);
    const storage = { bytes: bytes.length, address: this.addon.addressOf(bytes), disposed: false };
    return new Tensor(this, name, [bytes.length], 'i8', storage, 0, false);
  }

  async finish(): Promise<void> {
    const borrowed = this.borrowed;
    this.borrowed = [];
    const { commands, used } = this.list.take();
    try {
      await this.addon.finish(this.handle, commands, used, undefined, 0);
    } finally {
      borrowed.length = 0; // held until here
    }
  }

  protected download(tensor: Tensor): Promise<TypedArray> {
    const { commands, used } = this.list.take();
    return this.addon.finish(this.handle, commands, used, arrayFor(tensor), addressOf(tensor));
  }

  /**
   * Queues an exchange with the other ranks (src/distributed/group.ts), which goes on beside what is queued behind it, until
   * {@link awaitExchanges}: meanwhile nobody else may use the tensors.
   */
  startExchange(kind: 'sum' | 'gather', parts: readonly ExchangePart[], { bf16 = false }: { bf16?: boolean } = {}): void {
    const addresses = parts.flatMap(({ tensor, flags }) => (flags ? [tensor, flags] : [tensor]).map(addressOf));
    const numbers = parts.flatMap(({ kind: part, rows, tensor }) => [exchangeParts.indexOf(part), rows, tensor.size / Math.max(1, rows)]);
    this.command(kind === 'sum' ? commandCodes.startSum : commandCodes.startGather, addresses, [bf16 ? 1 : 0, ...numbers]);
  }

  /** Queues a wait for all that was started. */
  awaitExchanges(): void {
    this.command(commandCodes.awaitExchanges, [], []);
  }

  /** Blocks of memory held: one a tensor or slot of an arena. Blocks released count until what was queued before has run. */
  get blocks(): number {
    return this.addon.blockCount(this.handle);
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
