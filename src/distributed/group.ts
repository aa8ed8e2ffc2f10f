/**
 * The processes, called ranks, that train one model together. A process by itself is a group of one ({@link alone}), so that nobody has to ask.
 *
 * All functions but `fail` and `leave` are for all ranks to call, in the same order, one after the other: each call meets those of the others.
 * A rank that fails says so in place of its next call, and all others throw its error where they are.
 */
import type { Device } from '../backend/device.ts';
import type { ExchangePart } from '../backend/native.ts';
import type { GroupTotals } from '../backend/native_loader.ts';
import type { Tensor } from '../backend/tensor.ts';
import { FailureError, InputError } from '../errors.ts';

export type { ExchangePart, GroupTotals };

/** The error of another rank, thrown on all of them; the first rank words it for the user. */
export class RankError extends Error {
  override readonly name = 'RankError';

  constructor(
    message: string,
    /** It is the user's to mend. */
    readonly isInput: boolean,
  ) {
    super(message);
  }
}

/** What goes over in place of what was expected. */
export interface Failure {
  message: string;
  isInput: boolean;
}

export function failureOf(error: unknown): Failure {
  const known = error instanceof InputError || error instanceof FailureError || error instanceof RankError;
  const message = error instanceof Error ? (known ? error.message : (error.stack ?? error.message)) : String(error);
  return { message, isInput: error instanceof InputError || (error instanceof RankError && error.isInput) };
}

export abstract class Group {
  /** From 0. */
  abstract readonly rank: number;
  abstract readonly size: number;
  /** The MPI that connects it, and how it calls the ranks; '' of a group of one. */
  abstract readonly description: string;

  /**
   * What computes, to be named before anything is queued.
   * @throws InputError, on all ranks, if it is not the native device, or computes otherwise than those of other ranks
   */
  abstract computeOn(device: Device): Promise<void>;

  get isFirst(): boolean {
    return this.rank === 0;
  }

  /** What each rank hands in, in their order. `what` says what that is: ranks that are at different places find out by it. */
  abstract gather<Value>(what: string, value: Value): Promise<Value[]>;
  /** The first rank's values, on all. Whatever was queued on the tensors' devices has run by then. */
  abstract broadcast(tensors: readonly Tensor[]): Promise<void>;

  /**
   * Queues on the device: each part becomes its sum over the ranks, in an order that is always the same (kernels/runtime/exchange.h), beside
   * what is queued behind it, until {@link awaitExchanges}. With `bf16`, parts of the kind 'gradient' and tables are rounded on the way.
   */
  abstract startSum(parts: readonly ExchangePart[], options?: { bf16?: boolean }): void;
  /** Queues on the device: of tables [rows, ...] each rank has the rows of its {@link share}; all get all. */
  abstract startGather(parts: readonly Omit<ExchangePart, 'kind' | 'flags'>[]): void;
  abstract awaitExchanges(): void;
  /** What was exchanged of tensors so far. */
  abstract get totals(): GroupTotals;

  /** Of `count` things, those that are this rank's, or another's. */
  share(count: number, rank = this.rank): { first: number; end: number } {
    return { first: Math.floor((count * rank) / this.size), end: Math.floor((count * (rank + 1)) / this.size) };
  }

  /** What the first rank's `work` gives, or its error, on all. */
  async fromFirst<Value>(what: string, work: () => Promise<Value> | Value): Promise<Value> {
    if (this.size === 1) return await work();
    // Its error is told in place of the value.
    const own = this.isFirst ? { value: await work() } : {};
    const [first] = await this.gather<{ value?: Value }>(what, own);
    return this.isFirst ? (own as { value: Value }).value : (first.value as Value);
  }

  /** @throws InputError, naming a rank whose value is not the first's, and what was expected, on all ranks */
  async checkSame(what: string, value: unknown, word: (theirs: unknown, first: unknown) => string): Promise<void> {
    if (this.size === 1) return;
    const all = await this.gather(what, value);
    const other = all.findIndex((each) => JSON.stringify(each) !== JSON.stringify(all[0]));
    if (other > 0) throw new InputError(`rank ${other}: ${word(all[other], all[0])}`);
  }
}

class Alone extends Group {
  readonly rank = 0;
  readonly size = 1;
  readonly description = '';
  async computeOn(): Promise<void> {}
  async gather<Value>(_: string, value: Value): Promise<Value[]> {
    return [value];
  }
  async broadcast(): Promise<void> {}
  startSum(): void {}
  startGather(): void {}
  awaitExchanges(): void {}
  get totals(): GroupTotals {
    return { exchanges: 0, sentBytes: 0, activeNanoseconds: 0, waitedNanoseconds: 0 };
  }
}

/** The group of a process that works by itself. */
export const alone: Group = new Alone();
