/** A group of processes that a launcher of MPI has started (docs/distributed.md). */
import { bytesOfValue, type Launched, launched, mpiLibraries, processName, valueOfBytes } from '#platform';
import type { Device } from '../backend/device.ts';
import { NativeDevice } from '../backend/native.ts';
import { loadAddon, type NativeGroup } from '../backend/native_loader.ts';
import { addressOf, bytesPerElement, type Tensor } from '../backend/tensor.ts';
import { FailureError, InputError } from '../errors.ts';
import { type ExchangePart, type Failure, failureOf, Group, type GroupTotals, RankError } from './group.ts';

/** A rank that nothing was heard of for so long (seconds) is taken for dead. */
const silence = 45;
/** A rank that fails waits so long (milliseconds) for the others to come and hear of it; then it ends them. */
const patience = 5000;

interface Message {
  what: string;
  value?: unknown;
  failure?: Failure;
}

/**
 * The group that this process was started in; undefined where nobody started it together with others. All ranks are to leave it:
 * {@link MpiGroup.leave}, or {@link MpiGroup.fail}.
 * @throws InputError if there is no MPI, or it is not that of the launcher
 */
export async function joinGroup(): Promise<MpiGroup | undefined> {
  const start = launched();
  if (!start) return undefined;
  const started = `this is rank ${start.rank}${start.size ? ` of ${start.size}` : ''} that ${start.by} started`;
  const { addon, reason } = loadAddon();
  if (!addon) throw new InputError(`${started}, and only the native backend exchanges gradients, but ${reason}`);
  const native = addon.group;
  if (!native) throw new InputError(`${started}, but the native backend is older than groups of ranks: run 'npm run build'`);
  let found: Awaited<ReturnType<NativeGroup['join']>>;
  try {
    found = await native.join(mpiLibraries().join('\n'));
  } catch (error) {
    throw new InputError(
      `${started}, but no MPI can be opened (${(error as Error).message}): install the one that the launcher belongs to (Debian: apt-get install openmpi-bin, or mpich), or name its library by UFB_MPI=/path/to/libmpi.so`,
      { cause: error },
    );
  }
  const { size, path, version } = found;
  if (size !== (start.size ?? size)) {
    // Every process would take itself for the only one.
    await native.leave();
    throw new InputError(
      `${started}, but ${path} (${version}) knows of ${size}: the launcher belongs to another MPI; start with the mpirun of this one, or name the launcher's library by UFB_MPI=/path/to/libmpi.so`,
    );
  }
  if (size === 1) {
    await native.leave();
    return undefined;
  }
  const group = new MpiGroup(native, found, start);
  try {
    await group.start();
    return group;
  } catch (error) {
    await group.fail(error);
    throw error;
  }
}

/** See {@link Group}. */
export class MpiGroup extends Group {
  readonly rank: number;
  readonly size: number;
  readonly description: string;
  /** Of each rank, for messages. */
  private names: string[] = [];
  private hasFailed = false;

  private computing?: NativeDevice;

  constructor(
    private readonly native: NativeGroup,
    { rank, size, version }: { rank: number; size: number; version: string },
    start: Launched,
  ) {
    super();
    this.rank = rank;
    this.size = size;
    this.description = `${size} ranks by ${version} (${start.by})`;
  }

  /** Gets to know the others. */
  async start(): Promise<void> {
    this.names = await this.gather('names', processName());
    const before = (this.rank + this.size - 1) % this.size;
    this.native.watch(this.nameOf(before), silence);
  }

  async computeOn(device: Device): Promise<void> {
    if (!(device instanceof NativeDevice))
      throw new InputError(
        `--device ${device.name}: ranks exchange gradients on the native backend only; leave it out, or start one process`,
      );
    this.computing = device;
    await this.checkSame(
      'instruction sets',
      device.instructionSet,
      (theirs, first) =>
        `computes by ${theirs}, but rank 0 by ${first}, and their results differ: start all ranks with UFB_INSTRUCTION_SET=NAME, one that all processors have`,
    );
  }

  private get device(): NativeDevice {
    if (!this.computing) throw new Error('a group of ranks exchanges tensors of the device that computeOn names');
    return this.computing;
  }

  private nameOf(rank: number): string {
    return `rank ${rank} (${this.names[rank]})`;
  }

  async gather<Value>(what: string, value: Value): Promise<Value[]> {
    const all = await this.exchange({ what, value });
    const failed = all.findIndex(({ failure }) => failure);
    if (failed >= 0) {
      this.hasFailed = true;
      const { message, isInput } = all[failed].failure as Failure;
      throw new RankError(`${this.nameOf(failed)}: ${message}`, isInput);
    }
    const elsewhere = all.findIndex((message) => message.what !== what);
    if (elsewhere >= 0)
      throw new FailureError(
        `${this.nameOf(elsewhere)} exchanges ${all[elsewhere].what} where rank ${this.rank} exchanges ${what}: are all ranks of one version?`,
      );
    return all.map((message) => message.value as Value);
  }

  private async exchange(message: Message): Promise<Message[]> {
    const buffers = await this.native.exchange(bytesOfValue(message));
    return buffers.map((buffer) => valueOfBytes(new Uint8Array(buffer)) as Message);
  }

  async broadcast(tensors: readonly Tensor[]): Promise<void> {
    await this.device.finish();
    for (const tensor of tensors) await this.native.broadcast(addressOf(tensor), (tensor.size * bytesPerElement[tensor.dtype]) / 4, 0);
  }

  startSum(parts: readonly ExchangePart[], options: { bf16?: boolean } = {}): void {
    if (parts.length > 0) this.device.startExchange('sum', parts, options);
  }

  startGather(parts: readonly Omit<ExchangePart, 'kind' | 'flags'>[]): void {
    if (parts.length === 0) return;
    this.device.startExchange(
      'gather',
      parts.map(({ tensor, rows }) => ({ kind: 'table', tensor, rows })),
    );
  }

  awaitExchanges(): void {
    this.device.awaitExchanges();
  }

  get totals(): GroupTotals {
    return this.native.totals();
  }

  /** When the work is done, on all ranks: ends MPI. */
  async leave(): Promise<void> {
    await this.gather('the end', undefined);
    await this.native.leave();
  }

  /**
   * When this rank's work has failed: tells the others, and ends MPI when all have heard of it. Where they do not come, for they wait for
   * what this rank will not send, `say` is called, and the processes of all are ended.
   */
  async fail(error: unknown, say: (message: string) => void = () => {}): Promise<void> {
    if (!this.hasFailed) {
      this.hasFailed = true;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<'late'>((done) => {
        timer = setTimeout(() => done('late'), patience);
      });
      const told = this.exchange({ what: 'a failure', failure: failureOf(error) }).catch(() => 'late' as const);
      const all = await Promise.race([told, late]);
      clearTimeout(timer);
      if (all === 'late') {
        say(`${this.nameOf(this.rank)}: ${failureOf(error).message}`);
        this.native.abort(failureOf(error).isInput ? 2 : 1);
        return;
      }
    }
    await this.native.leave();
  }
}
