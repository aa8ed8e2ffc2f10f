/** Compute pipelines, made when an operation first needs them, a bounded number at a time: browsers compile each in a thread of its own. */

import { shaderStage } from './constants.ts';
import type { Layout } from './shader.ts';

const compiledAtOnce = 4;

export class Pipelines {
  private readonly layouts = new Map<string, GPUBindGroupLayout>();
  private readonly pipelines = new Map<string, Pipeline>();
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly device: GPUDevice) {}

  /** How many were made, or are being made. */
  get count(): number {
    return this.pipelines.size;
  }

  /** The pipeline of this key, whose shader `text` gives. */
  get(key: string, layout: Layout, reports: boolean, text: () => string): Pipeline {
    let pipeline = this.pipelines.get(key);
    if (!pipeline) {
      pipeline = { layout: this.bindGroupLayout(layout, reports), ready: Promise.resolve() };
      this.pipelines.set(key, pipeline);
      pipeline.ready = this.compile(pipeline, key, text());
      pipeline.ready.catch(() => {}); // whoever runs it will hear
    }
    return pipeline;
  }

  private bindGroupLayout({ slots }: Layout, reports: boolean): GPUBindGroupLayout {
    const types = ['uniform', reports, ...slots.map(({ written }) => written)].map(
      (written): GPUBufferBindingType => (written === 'uniform' ? 'uniform' : written ? 'storage' : 'read-only-storage'),
    );
    const key = types.join(' ');
    let layout = this.layouts.get(key);
    if (!layout) {
      layout = this.device.createBindGroupLayout({
        entries: types.map((type, binding) => ({
          binding,
          visibility: shaderStage.compute,
          buffer: { type, hasDynamicOffset: binding === 0 },
        })),
      });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  private async compile(pipeline: Pipeline, label: string, code: string): Promise<void> {
    if (this.running >= compiledAtOnce) await new Promise<void>((resolve) => this.waiting.push(resolve));
    this.running++;
    try {
      const module = this.device.createShaderModule({ label, code });
      pipeline.compiled = await this.device.createComputePipelineAsync({
        label,
        layout: this.device.createPipelineLayout({ bindGroupLayouts: [pipeline.layout] }),
        compute: { module, entryPoint: 'main' },
      });
    } finally {
      this.running--;
      this.waiting.shift()?.();
    }
  }
}

export interface Pipeline {
  readonly layout: GPUBindGroupLayout;
  ready: Promise<void>;
  compiled?: GPUComputePipeline;
}
