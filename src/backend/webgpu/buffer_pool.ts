import { bufferUsage } from './constants.ts';

/** Free memory that is kept for the next who asks, at most; more is given back to the system. */
const keptBytes = 2 ** 28;

/** Buffers by size, used again: making one takes much longer than a small operation. */
export class BufferPool {
  private readonly free = new Map<number, GPUBuffer[]>();
  private kept = 0;

  constructor(
    private readonly device: GPUDevice,
    private readonly usage: number = bufferUsage.storage | bufferUsage.copySource | bufferUsage.copyTarget,
  ) {}

  /** A buffer of at least so many bytes, with whatever was in it. */
  take(bytes: number): GPUBuffer {
    const size = sizeClass(bytes, this.device.limits.maxBufferSize);
    const buffer = this.free.get(size)?.pop();
    if (!buffer) return this.device.createBuffer({ size, usage: this.usage });
    this.kept -= size;
    return buffer;
  }

  /** Takes a buffer back, whose work may still wait in the queue, as the next one's will behind it. False: there is enough, destroy it after that work. */
  give(buffer: GPUBuffer): boolean {
    if (this.kept + buffer.size > keptBytes) return false;
    this.kept += buffer.size;
    const list = this.free.get(buffer.size);
    if (list) list.push(buffer);
    else this.free.set(buffer.size, [buffer]);
    return true;
  }
}

/** Sizes a quarter of a power of two apart: at most a fifth of a buffer lies idle, and lengths that differ a little share theirs. */
export function sizeClass(bytes: number, most: number): number {
  const least = 256;
  if (bytes <= least) return least;
  const step = Math.max(least, 2 ** (Math.floor(Math.log2(bytes - 1)) - 2));
  return Math.max(4 * Math.ceil(bytes / 4), Math.min(most - (most % 4), step * Math.ceil(bytes / step)));
}
