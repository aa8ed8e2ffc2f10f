import { describe } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import { NativeDevice } from '../../src/backend/native.ts';
import { loadAddon } from '../../src/backend/native_loader.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { WasmDevice } from '../../src/backend/wasm.ts';
import { WebGpuDevice } from '../../src/backend/webgpu/device.ts';
import { wasmMissing } from '../../src/platform/node.ts';
import { webGpuMissing } from './webgpu_driver.ts';

/** A backend that tests run on; `unavailable` says why it cannot run here. */
export interface Candidate {
  label: string;
  create(threads?: number): Device;
  unavailable?: string;
}

/**
 * The native backend once for each instruction set of this processor, or for the one that UFB_INSTRUCTION_SET names. Where the add-on does
 * not load it is skipped, saying why, unless UFB_REQUIRE_NATIVE=1 makes that a failure.
 */
function nativeCandidates(): Candidate[] {
  const { addon, reason } = loadAddon();
  if (!addon) {
    const required = process.env.UFB_REQUIRE_NATIVE === '1';
    if (!required) console.warn(`native backend not tested: ${reason}`);
    return [{ label: 'native', create: () => new NativeDevice(), unavailable: required ? undefined : reason }];
  }
  const { UFB_INSTRUCTION_SET: only } = process.env;
  // Three threads: more than this work divides evenly among, and on a small machine more than it has cores.
  return (only ? [only] : addon.instructionSets).map((instructionSet) => ({
    label: `native, ${instructionSet}`,
    create: (threads = 3) => new NativeDevice({ threads, instructionSet }),
  }));
}

/** The WASM backend: both builds, with three threads and with one (which is a build of its own). */
function wasmCandidates(): Candidate[] {
  const unavailable = wasmMissing();
  return [true, false].flatMap((relaxed) =>
    [3, 1].map((usual) => ({
      label: `wasm, ${relaxed ? 'relaxed' : 'simd'}, ${usual === 1 ? 'single' : 'threads'}`,
      create: (threads = usual) => new WasmDevice({ threads: usual === 1 ? 1 : threads, relaxed }),
      unavailable,
    })),
  );
}

export const candidates: readonly Candidate[] = [
  { label: 'reference', create: () => new ReferenceDevice() },
  ...nativeCandidates(),
  ...wasmCandidates(),
];

/** A backend that is made asynchronously. */
export interface AsyncCandidate extends Pick<Candidate, 'label' | 'unavailable'> {
  create(threads?: number): Device | Promise<Device>;
}

/** WebGPU on a driver that computes on the processor, in both of its variants: threads that add up their values as subgroups, and not. */
export const webGpuCandidates: readonly AsyncCandidate[] = [true, false].map((subgroups) => ({
  label: `webgpu, ${subgroups ? 'subgroups' : 'no subgroups'}`,
  create: () => WebGpuDevice.open({ subgroups }),
  unavailable: webGpuMissing,
}));

/** The tests of `body`, once for each of `backends`; where one cannot run they are skipped, saying why. */
export function describeOnEach<C extends AsyncCandidate>(devices: readonly C[], body: (device: Pick<C, 'label' | 'create'>) => void): void {
  for (const { label, create, unavailable } of devices)
    describe.skipIf(unavailable)(unavailable ? `${label} (skipped: ${unavailable})` : label, () => body({ label, create }));
}
