import { runsNativeCode, wasmMissing } from '#platform';
import { checkOptions, kinds } from '../arguments.ts';
import { InputError } from '../errors.ts';
import type { Device } from './device.ts';
import { NativeDevice } from './native.ts';
import { loadAddon } from './native_loader.ts';
import { ReferenceDevice } from './reference.ts';
import { WasmDevice } from './wasm.ts';

export type DeviceName = 'native' | 'wasm' | 'webgpu' | 'reference';

export const deviceNames: readonly DeviceName[] = ['native', 'wasm', 'webgpu', 'reference'];

export interface DeviceOptions {
  /** By default native if it loads, else WASM, else the reference. */
  name?: DeviceName;
  /** For native and WASM: the CPU quota by default. */
  threads?: number;
}

/** A device to compute on; whoever creates it disposes it. Throws if one that is asked for by name cannot be had. */
export async function createDevice(options: DeviceOptions = {}): Promise<Device> {
  checkOptions(options, { name: kinds.text, threads: kinds.integer });
  const name = options.name ?? bestDevice();
  switch (name) {
    case 'native':
      return new NativeDevice({ threads: options.threads });
    case 'wasm': {
      const missing = wasmMissing();
      if (missing) throw new InputError(missing);
      return new WasmDevice({ threads: options.threads });
    }
    case 'webgpu': {
      // Loaded only where it is asked for: its shaders are text of some size.
      const { WebGpuDevice } = await import('./webgpu/device.ts');
      return await WebGpuDevice.open();
    }
    case 'reference':
      return new ReferenceDevice();
    default:
      throw new InputError(`device '${name as string}' is none of ${deviceNames.join(', ')}`);
  }
}

/** A graphics processor, if there is one that is no imitation by the processor. */
export async function graphicsDevice(): Promise<Device | undefined> {
  const { WebGpuDevice } = await import('./webgpu/device.ts');
  try {
    return await WebGpuDevice.open({ fallback: false });
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

function bestDevice(): DeviceName {
  if (loadAddon().addon) return 'native';
  return wasmMissing() ? 'reference' : 'wasm';
}

/** Why there is no native backend, in one line; undefined if there is one. */
export function nativeMissing(): string | undefined {
  return loadAddon().reason;
}

/**
 * What to tell the user when {@link createDevice} takes another than the native backend though nothing was asked for; undefined if it takes
 * that, and in a browser, where there is none to miss.
 */
export function deviceNotice(): string | undefined {
  const reason = nativeMissing();
  if (!reason || !runsNativeCode) return undefined;
  const missing = wasmMissing();
  return missing ? `${reason}; ${missing}; using the reference backend, which is slow` : `${reason}; using WASM, which is slower`;
}
