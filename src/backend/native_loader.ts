import { findAddon } from '#platform';
import type { TypedArray } from './tensor.ts';

/** A backend inside the add-on. */
export interface NativeHandle {
  readonly native: unique symbol;
}

/**
 * What kernels/runtime/addon.cc exports. Addresses are numbers. A list of commands is a Float64Array of which the first `used`
 * numbers count; kernels/command_list.h describes it. Errors of the work itself reject `finish`.
 */
export interface NativeAddon {
  /** Those that this processor runs, from the narrowest to the widest. */
  readonly instructionSets: readonly string[];
  /** A kernel's index is its code in a list of commands. */
  readonly kernelNames: readonly string[];
  create(instructionSet: string, threads: number): NativeHandle;
  dispose(handle: NativeHandle): void;
  /** The threads that could be started. */
  threads(handle: NativeHandle): number;
  /** Throws if there is no memory. */
  allocate(handle: NativeHandle, bytes: number): number;
  /** Where an array's values lie, for as long as somebody holds the array. */
  addressOf(values: Uint8Array): number;
  /** Copies the values to memory of the add-on's own, until a writeStaged command has used them. */
  stage(handle: NativeHandle, values: TypedArray): number;
  submit(handle: NativeHandle, commands: Float64Array, used: number): void;
  /** Runs the list, copies what lies at `from` into `result` if given, then resolves with it. */
  finish<T>(handle: NativeHandle, commands: Float64Array, used: number, result: T, from: number): Promise<T>;
  /** Blocks of memory allocated and not yet given back. */
  blockCount(handle: NativeHandle): number;
  /** Calls and nanoseconds of each kernel in turn. */
  kernelTimes(handle: NativeHandle): number[];
  /** Absent of add-ons that were built before there were groups. */
  readonly group?: NativeGroup;
}

/** What kernels/runtime/addon_group.cc exports: this process's part in a group of ranks, over MPI. Calls of `exchange` and `broadcast` match in turn. */
export interface NativeGroup {
  /** Opens the first of the libraries, separated by line breaks, that is an MPI. Once a process. */
  join(libraries: string): Promise<{ rank: number; size: number; version: string; path: string }>;
  /** What each rank hands in. */
  exchange(bytes: Uint8Array): Promise<ArrayBuffer[]>;
  /** Memory becomes that of the rank `from`, on all. */
  broadcast(address: number, words: number, from: number): Promise<void>;
  /** From now on the rank before, which is called `name`, is taken for dead after so many seconds of silence: that ends all, with a message. */
  watch(name: string, seconds: number): void;
  /** Ends MPI, when all ranks have called it. */
  leave(): Promise<void>;
  /** Ends the processes of all ranks. */
  abort(exitCode: number): void;
  /** Of work that was queued on devices. */
  totals(): GroupTotals;
}

export interface GroupTotals {
  exchanges: number;
  sentBytes: number;
  /** How long there was something to exchange, and how long the device waited for it. */
  activeNanoseconds: number;
  waitedNanoseconds: number;
}

/** The add-on and its file, or one line on why there is none. */
export type LoadedAddon =
  | { readonly addon: NativeAddon; readonly path: string; readonly reason?: undefined }
  | { readonly addon?: undefined; readonly path?: undefined; readonly reason: string };

let loaded: LoadedAddon | undefined;

/** Looks for the add-on, once a process. */
export function loadAddon(): LoadedAddon {
  loaded ??= findAddon() as LoadedAddon;
  return loaded;
}
