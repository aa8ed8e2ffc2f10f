import { checkArgument, kinds } from '../arguments.ts';
import type { Device } from './device.ts';
import { bytesPerElement, type DType, type Storage, sizeOf, Tensor } from './tensor.ts';

/**
 * Scratch memory of a pass (one forward, or one forward and backward), handed out in the order of the requests and taken back all
 * at once, so that a pass of the same batch and length allocates nothing after the first.
 *
 * The n-th request of a pass gets the n-th slot; a slot grows when a pass asks for more than it ever held. `mark` and `release`
 * bracket scratch that nobody needs afterwards (a block in inference, a layer's backward), whose slots are then used again.
 */
export class Arena {
  private readonly slots: (Storage | undefined)[] = [];
  private next = 0;

  constructor(readonly device: Device) {
    checkArgument('device', device, kinds.device);
  }

  /** An uninitialized tensor, valid until `reset`, or until `release` of an earlier mark. */
  tensor(name: string, shape: readonly number[], dtype: DType = 'f32'): Tensor {
    const bytes = sizeOf(name, shape) * bytesPerElement[dtype];
    const index = this.next++;
    let slot = this.slots[index];
    if (!slot || slot.bytes < bytes) {
      if (slot) this.device.release(slot);
      this.slots[index] = undefined; // Should there be no memory.
      slot = this.device.allocate(bytes);
      this.slots[index] = slot;
    }
    return new Tensor(this.device, name, shape, dtype, slot, 0, false);
  }

  mark(): number {
    return this.next;
  }

  /** Takes back every tensor handed out since `mark`. Operations already queued on them still run first: memory is used in queue order. */
  release(mark: number): void {
    this.next = mark;
  }

  reset(): void {
    this.next = 0;
  }

  /** Bytes held, for memory reports and tests. */
  get bytes(): number {
    return this.slots.reduce((sum, slot) => sum + (slot?.bytes ?? 0), 0);
  }

  dispose(): void {
    for (const slot of this.slots) if (slot) this.device.release(slot);
    this.slots.length = 0;
    this.next = 0;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
