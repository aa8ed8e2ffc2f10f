import { runsNativeCode, wasmMissing } from '#platform';
import { checkOptions, kinds } from '../arguments.ts';
import { InputError } from '../errors.ts';
import type { Backend } from './backend.ts';
import { NativeBackend } from './native.ts';
import { loadAddon } from './native_loader.ts';
import { ReferenceBackend } from './reference.ts';
import { WasmBackend } from './wasm.ts';

export type BackendName = 'native' | 'wasm' | 'reference';

export const backendNames: readonly BackendName[] = ['native', 'wasm', 'reference'];

export interface BackendOptions {
  /** By default native if it loads, else WASM, else the reference. */
  name?: BackendName;
  /** For native and WASM: the CPU quota by default. */
  threads?: number;
}

/** A backend to compute on; whoever creates it disposes it. Throws if one that is asked for by name cannot be had. */
export function createBackend(options: BackendOptions = {}): Backend {
  checkOptions(options, { name: kinds.text, threads: kinds.integer });
  const name = options.name ?? bestBackend();
  switch (name) {
    case 'native':
      return new NativeBackend({ threads: options.threads });
    case 'wasm': {
      const missing = wasmMissing();
      if (missing) throw new InputError(missing);
      return new WasmBackend({ threads: options.threads });
    }
    case 'reference':
      return new ReferenceBackend();
    default:
      throw new InputError(`backend '${name as string}' is none of ${backendNames.join(', ')}`);
  }
}

function bestBackend(): BackendName {
  if (loadAddon().addon) return 'native';
  return wasmMissing() ? 'reference' : 'wasm';
}

/** Why there is no native backend, in one line; undefined if there is one. */
export function nativeMissing(): string | undefined {
  return loadAddon().reason;
}

/**
 * What to tell the user when {@link createBackend} takes another than the native backend though nothing was asked for; undefined if it takes
 * that, and in a browser, where there is none to miss.
 */
export function backendNotice(): string | undefined {
  const reason = nativeMissing();
  if (!reason || !runsNativeCode) return undefined;
  const missing = wasmMissing();
  return missing ? `${reason}; ${missing}; using the reference backend, which is slow` : `${reason}; using WASM, which is slower`;
}
