import { BufferPool } from './buffer_pool.ts';
import { recordBytes } from './commands.ts';
import { bufferUsage, mapMode } from './constants.ts';

/** Buffers that what is read goes through: the record of a late error, and values behind it. */
export class StagingReads {
  private readonly pool: BufferPool;

  constructor(device: GPUDevice) {
    this.pool = new BufferPool(device, bufferUsage.mapRead | bufferUsage.copyTarget);
  }

  take(bytes: number): GPUBuffer {
    return this.pool.take(recordBytes + bytes);
  }

  /** Waits for what was copied to the buffer, and takes it back. */
  async get(staging: GPUBuffer, bytes: number): Promise<{ record: Uint32Array; bytes: Uint8Array }> {
    await staging.mapAsync(mapMode.read, 0, recordBytes + bytes);
    const copy = staging.getMappedRange(0, recordBytes + bytes).slice(0);
    staging.unmap();
    if (!this.pool.give(staging)) staging.destroy();
    return { record: new Uint32Array(copy, 0, recordBytes / 4), bytes: new Uint8Array(copy, recordBytes) };
  }
}
