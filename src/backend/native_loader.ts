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
