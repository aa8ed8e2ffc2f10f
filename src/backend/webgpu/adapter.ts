import { webGpu } from '#platform';
import { InputError } from '../../errors.ts';
import type { Variant } from './kernel.ts';

export interface WebGpuOptions {
  /** Where adapters come from: the page's, Deno's, or in Node the package webgpu's. */
  gpu?: GPU;
  /** Whether subgroups are used where the adapter has them: by default. */
  subgroups?: boolean;
  /** Whether an adapter that is a processor's imitation of one will do: by default. */
  fallback?: boolean;
  /** Limits to ask for, in place of the adapter's own: for tests. */
  limits?: Record<string, number>;
}

/** A device, and what kernels need to know of it. */
export interface Adapter {
  /** Held as long as the device: the package webgpu ends with it. */
  readonly from: GPU;
  readonly device: GPUDevice;
  readonly description: string;
  readonly variant: Variant;
}

/** The limits that models come up against: as much as the adapter has is asked for. */
const wantedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
] as const;

/** What every WebGPU has; kernels are written for no less. */
const leastLimits = {
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 16384,
  maxComputeInvocationsPerWorkgroup: 256,
} as const;

/** @throws InputError if there is none, or none that will do */
export async function openAdapter({ gpu, subgroups = true, fallback = true, limits }: WebGpuOptions): Promise<Adapter> {
  const from = gpu ?? (await webGpu());
  if (typeof from === 'string') throw new InputError(from);
  const adapter = await from.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new InputError("WebGPU finds no graphics processor here: leave out device 'webgpu'");
  const { info } = adapter;
  if (!fallback && isFallback(adapter)) throw new InputError(`${nameOf(info)} only imitates a graphics processor`);
  for (const [name, least] of Object.entries(leastLimits)) {
    const limit = limits?.[name] ?? adapter.limits[name as keyof typeof leastLimits];
    if (limit < least) throw new InputError(`${nameOf(info)} has ${name} ${limit}, and ${least} is needed: leave out device 'webgpu'`);
  }
  const withSubgroups = subgroups && adapter.features.has('subgroups');
  const device = await adapter.requestDevice({
    requiredFeatures: withSubgroups ? ['subgroups'] : [],
    requiredLimits: { ...Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]])), ...limits },
  });
  const { subgroupMinSize: least, subgroupMaxSize: most } = info;
  const sizes = least === most ? `${least}` : `${least} to ${most}`;
  return {
    from,
    device,
    description: `WebGPU on ${nameOf(info)}, ${withSubgroups ? `subgroups of ${sizes}` : 'no subgroups'}`,
    variant: {
      subgroups: withSubgroups,
      packedProducts: from.wgslLanguageFeatures?.has('packed_4x8_integer_dot_product') ?? false,
      workgroupStorage: device.limits.maxComputeWorkgroupStorageSize,
    },
  };
}

const nameOf = ({ description, vendor, architecture }: GPUAdapterInfo) =>
  description || [vendor, architecture].filter(Boolean).join(' ') || 'a graphics processor without a name';

/** Browsers have had it in two places. */
const isFallback = (adapter: GPUAdapter) =>
  adapter.info.isFallbackAdapter ?? (adapter as { isFallbackAdapter?: boolean }).isFallbackAdapter ?? false;
