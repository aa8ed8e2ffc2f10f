import { availableThreads, type ComputeWorker, enableRelaxedSimd, startComputeWorker, wasmFile } from '#platform';
import { InputError } from '../errors.ts';
import { CommandList, commandCodes, inlineBytes } from './command_list.ts';
import { Device } from './device.ts';
import { addressOf, arrayFor, arrayTypes, type Storage, type Tensor, type TypedArray } from './tensor.ts';

/** Addresses name a block and a byte within it: number times this, plus the byte. */
const blockSpan = 2 ** 32;
/** What WASM's 32-bit addresses reach, less what code, stacks and scratch need. */
const maxBytes = 2 ** 32 - 2 ** 26;

/** A function of the relaxed SIMD proposal's f32x4.relaxed_madd, for WebAssembly.validate. */
const relaxedProbe = Uint8Array.of(
  0,
  97,
  115,
  109,
  1,
  0,
  0,
  0,
  1,
  8,
  1,
  96,
  3,
  123,
  123,
  123,
  1,
  123,
  3,
  2,
  1,
  0,
  10,
  13,
  1,
  11,
  0,
  32,
  0,
  32,
  1,
  32,
  2,
  253,
  133,
  2,
  11,
);

class WasmStorage implements Storage {
  released = false;

  constructor(
    private readonly device: WasmDevice,
    readonly bytes: number,
    readonly address: number,
  ) {}

  get disposed(): boolean {
    return this.released || this.device.disposed;
  }
}

interface Pending {
  resolve(bytes: ArrayBuffer | undefined): void;
  reject(error: Error): void;
}

interface Answer {
  kind: 'done' | 'ready' | 'failed';
  id: number;
  error?: string;
  bytes?: ArrayBuffer;
}

const maxThreads = 64;

function hasRelaxedSimd(): boolean {
  if (WebAssembly.validate(relaxedProbe)) return true;
  enableRelaxedSimd();
  return WebAssembly.validate(relaxedProbe);
}

/**
 * The same kernels in WASM, for Node without native code and for browsers. A worker owns the memory and runs lists of commands; with
 * shared memory, further workers help it. Without (a page that is not cross-origin isolated) it has one thread.
 */
export class WasmDevice extends Device {
  readonly name = 'wasm';
  readonly threads: number;
  /** Which of the four builds runs. */
  readonly build: string;
  private readonly worker: ComputeWorker;
  private readonly helpers: ComputeWorker[] = [];
  private readonly list = new CommandList();
  private staged: ArrayBuffer[] = [];
  private readonly codes = new Map<string, number>();
  private newNames: string[] = [];
  private readonly pending = new Map<number, Pending>();
  private nextId = 0;
  private readonly freeBlocks: number[] = [];
  private blocks = 0;
  private bytes = 0;
  private closed = false;
  private broken: Error | undefined;

  /**
   * `threads` by default as many as the processor quota allows; 1 where memory cannot be shared. `relaxed` false takes the build without relaxed
   * SIMD. `maximumPages` of 64 KB bounds the memory; less than the 65536 that WASM reaches is for tests.
   */
  constructor(options: { threads?: number; relaxed?: boolean; maximumPages?: number } = {}) {
    super();
    const wanted = options.threads ?? Math.min(availableThreads(), maxThreads);
    if (!Number.isInteger(wanted) || wanted < 1 || wanted > maxThreads)
      throw new InputError(`threads: ${wanted} is not a count from 1 to ${maxThreads}`);
    this.threads = canShareMemory() ? wanted : 1;
    const relaxed = options.relaxed !== false && hasRelaxedSimd();
    this.build = `ufb-${relaxed ? 'relaxed' : 'simd'}${this.threads > 1 ? '-threads' : ''}`;
    this.worker = startComputeWorker(
      (message) => this.receive(message as Answer),
      (error) => this.fail(error),
    );
    this.worker.post({ kind: 'start', wasm: wasmFile(this.build), threads: this.threads, maximumPages: options.maximumPages ?? 65536 });
  }

  get description(): string {
    const simd = this.build.includes('relaxed') ? 'relaxed SIMD' : 'SIMD';
    return `WASM with ${simd}, ${this.threads} thread${this.threads > 1 ? 's' : ''}`;
  }

  get disposed(): boolean {
    return this.closed;
  }

  allocate(bytes: number): Storage {
    if (this.closed) throw new Error('the WASM backend was disposed');
    if (this.bytes + bytes > maxBytes) {
      throw new InputError(
        `no memory for ${bytes} bytes beside ${this.bytes} in use: WASM reaches 4 GiB; take a smaller batch or model, dtype 'bf16' or 'i8', or the native backend`,
      );
    }
    this.bytes += bytes;
    const block = this.freeBlocks.pop() ?? ++this.blocks;
    const storage = new WasmStorage(this, bytes, block * blockSpan);
    this.command(commandCodes.allocateBlock, [storage.address], [bytes]);
    return storage;
  }

  release(storage: Storage): void {
    if (storage.disposed) return;
    (storage as WasmStorage).released = true;
    this.bytes -= storage.bytes;
    // In queue order: the number may be given out again at once.
    this.command(commandCodes.releaseBlock, [storage.address], []);
    this.freeBlocks.push(storage.address / blockSpan);
  }

  protected upload(tensor: Tensor, values: TypedArray): void {
    if (values.byteLength <= inlineBytes) {
      if (values.byteLength > 0) this.list.write(addressOf(tensor), values);
    } else {
      this.staged.push(values.slice().buffer as ArrayBuffer);
      this.list.add(commandCodes.writeStaged, [addressOf(tensor), this.staged.length], [values.byteLength], values.byteLength);
    }
    if (this.list.long) this.submit();
  }

  enqueue(operation: string, operands: readonly (Tensor | undefined)[], numbers: readonly number[]): void {
    let code = this.codes.get(operation);
    if (code === undefined) {
      code = this.codes.size;
      this.codes.set(operation, code);
      this.newNames.push(operation);
    }
    this.command(code, operands.map(addressOf), numbers);
  }

  private command(code: number, addresses: readonly number[], numbers: readonly number[]): void {
    this.list.add(code, addresses, numbers);
    if (this.list.long) this.submit();
  }

  submit(): void {
    if (!this.list.empty) this.send({});
  }

  async finish(): Promise<void> {
    await this.barrier();
  }

  protected async download(tensor: Tensor): Promise<TypedArray> {
    const bytes = await this.barrier({ address: addressOf(tensor), bytes: arrayFor(tensor).byteLength });
    return new arrayTypes[tensor.dtype](bytes ?? new ArrayBuffer(0));
  }

  dispose(): void {
    if (this.closed) return;
    this.closed = true;
    this.settle(new Error('the WASM backend was disposed'));
    for (const worker of [this.worker, ...this.helpers]) worker.end();
  }

  private barrier(read?: { address: number; bytes: number }): Promise<ArrayBuffer | undefined> {
    this.refuseIfBroken();
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.worker.hold(true);
      this.send({ id, read });
    });
  }

  /** Hands the list over; an `id` makes it a barrier that is answered. */
  private send(job: { id?: number; read?: { address: number; bytes: number } }): void {
    if (this.closed) return;
    const { commands, used } = this.list.take();
    const { staged, newNames: names } = this;
    this.staged = [];
    this.newNames = [];
    const own = commands.slice(0, used).buffer as ArrayBuffer;
    // Buffers, for Deno walks through the elements of a view: 60 ms for a megabyte.
    this.worker.post({ kind: 'run', ...job, commands: own, names, staged }, [own, ...staged]);
  }

  private receive(message: Answer & { module?: unknown; memory?: unknown; stacks?: number[] }): void {
    if (message.kind === 'failed') this.fail(new Error(message.error));
    if (message.kind === 'ready' && !this.closed) {
      message.stacks?.forEach((stack, i) => {
        const helper = startComputeWorker(
          (message) => this.receive(message as Answer), // 'failed' is all that it says
          (error) => this.fail(error),
        );
        this.helpers.push(helper);
        helper.post({ kind: 'help', module: message.module, memory: message.memory, stack, worker: i + 1 });
      });
    }
    if (message.kind !== 'done') return;
    const waiting = this.pending.get(message.id);
    this.pending.delete(message.id);
    if (this.pending.size === 0) this.worker.hold(false);
    if (message.error !== undefined) waiting?.reject(new Error(message.error));
    else waiting?.resolve(message.bytes);
  }

  /** A worker ended, or never began: nothing is computed any more. */
  private fail(error: Error): void {
    if (this.closed) return;
    this.broken ??= new Error(`the WASM backend failed: ${error.message}`);
    this.settle(this.broken);
  }

  private settle(error: Error): void {
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
    this.worker.hold(false);
  }

  private refuseIfBroken(): void {
    if (this.closed) throw new Error('the WASM backend was disposed');
    if (this.broken) throw this.broken;
  }
}

/** Node shares memory between threads always, browsers where the page is cross-origin isolated. */
function canShareMemory(): boolean {
  return typeof SharedArrayBuffer !== 'undefined' && (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated !== false;
}
