/** Lists of commands, and how they are handed to the queue. */
import type { Tensor } from '../tensor.ts';
import { bufferUsage } from './constants.ts';
import type { Kernel, Numbers } from './kernel.ts';
import type { Pipeline } from './pipelines.ts';
import { writeNumbers } from './shader.ts';

export interface Dispatch {
  kind: 'dispatch';
  name: string;
  pipeline: Pipeline;
  buffers: readonly GPUBuffer[];
  kernel: Kernel;
  numbers: Numbers;
  tensors: readonly (Tensor | undefined)[];
  call: number;
  groups: number;
}

export type Command =
  | Dispatch
  | { kind: 'write'; buffer: GPUBuffer; at: number; bytes: Uint8Array<ArrayBuffer> }
  | { kind: 'read'; source: { buffer: GPUBuffer; from: number; bytes: number } | undefined; staging: GPUBuffer }
  | { kind: 'destroy'; buffer: GPUBuffer };

/** Bytes of a call's numbers: what uniform buffers are aligned to everywhere. */
const blockBytes = 256;
/** Calls whose numbers are handed over at once. */
const blocks = 1024;
/** Bytes of the record of a late error; see shader.ts. */
export const recordBytes = 16;

/** Encodes lists of commands. */
export class Encoder {
  private readonly numbers: GPUBuffer;
  private readonly failure: GPUBuffer;
  private readonly view = new DataView(new ArrayBuffer(blocks * blockBytes));
  private readonly bindGroups = new BindGroups();
  private encoder: GPUCommandEncoder | undefined;
  private pass: GPUComputePassEncoder | undefined;
  private used = 0;

  constructor(private readonly gpu: GPUDevice) {
    this.numbers = gpu.createBuffer({ size: blocks * blockBytes, usage: bufferUsage.uniform | bufferUsage.copyTarget });
    this.failure = gpu.createBuffer({
      size: recordBytes,
      usage: bufferUsage.storage | bufferUsage.copySource | bufferUsage.copyTarget,
    });
  }

  /** Hands the commands over, in their order, when their pipelines are there; `ended` tells that nobody waits for them any more. */
  async encode(commands: readonly Command[], ended: () => boolean): Promise<void> {
    for (const command of commands) if (command.kind === 'dispatch' && !command.pipeline.compiled) await command.pipeline.ready;
    if (ended()) return;
    for (const command of commands) {
      if (command.kind === 'dispatch') this.dispatch(command);
      else if (command.kind === 'write') {
        this.flush(); // The queue writes before the commands that are handed to it later.
        this.gpu.queue.writeBuffer(command.buffer, command.at, command.bytes);
      } else if (command.kind === 'read') this.read(command.source, command.staging);
    }
    this.flush();
    for (const command of commands) if (command.kind === 'destroy') command.buffer.destroy();
  }

  private get commandEncoder(): GPUCommandEncoder {
    this.encoder ??= this.gpu.createCommandEncoder();
    return this.encoder;
  }

  private dispatch(dispatch: Dispatch): void {
    if (this.used === blocks) this.flush();
    const offset = this.used++ * blockBytes;
    writeNumbers(this.view, offset, dispatch);
    this.pass ??= this.commandEncoder.beginComputePass();
    const { pipeline, groups } = dispatch;
    this.pass.setPipeline(pipeline.compiled as GPUComputePipeline);
    this.pass.setBindGroup(0, this.bindGroup(dispatch), [offset]);
    const most = this.gpu.limits.maxComputeWorkgroupsPerDimension;
    const x = Math.min(groups, most);
    this.pass.dispatchWorkgroups(x, Math.ceil(groups / x));
  }

  private bindGroup({ pipeline, buffers }: Dispatch): GPUBindGroup {
    return this.bindGroups.get(pipeline.layout, buffers, () =>
      this.gpu.createBindGroup({
        layout: pipeline.layout,
        entries: [
          { binding: 0, resource: { buffer: this.numbers, size: blockBytes } },
          { binding: 1, resource: { buffer: this.failure } },
          ...buffers.map((buffer, i) => ({ binding: i + 2, resource: { buffer } })),
        ],
      }),
    );
  }

  /** Copies the record and forgets what it says: what comes later runs again. */
  private read(source: { buffer: GPUBuffer; from: number; bytes: number } | undefined, staging: GPUBuffer): void {
    this.endPass();
    this.commandEncoder.copyBufferToBuffer(this.failure, 0, staging, 0, recordBytes);
    if (source) this.commandEncoder.copyBufferToBuffer(source.buffer, source.from, staging, recordBytes, source.bytes);
    this.commandEncoder.clearBuffer(this.failure);
  }

  private endPass(): void {
    this.pass?.end();
    this.pass = undefined;
  }

  private flush(): void {
    this.endPass();
    if (this.encoder) {
      if (this.used > 0) this.gpu.queue.writeBuffer(this.numbers, 0, this.view.buffer, 0, this.used * blockBytes);
      this.gpu.queue.submit([this.encoder.finish()]);
    }
    this.encoder = undefined;
    this.used = 0;
  }
}

/** Bind groups by their layout and buffers, while these live: passes of one shape bind the same ones each time. */
class BindGroups {
  private readonly root = new WeakMap<object, unknown>();

  get(layout: GPUBindGroupLayout, buffers: readonly GPUBuffer[], create: () => GPUBindGroup): GPUBindGroup {
    let node = this.root;
    for (const key of [layout, ...buffers]) {
      let next = node.get(key) as WeakMap<object, unknown> | undefined;
      if (!next) {
        next = new WeakMap();
        node.set(key, next);
      }
      node = next;
    }
    let group = node.get(groupKey) as GPUBindGroup | undefined;
    if (!group) {
      group = create();
      node.set(groupKey, group);
    }
    return group;
  }
}

const groupKey = {};
