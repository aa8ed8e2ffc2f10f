import type { Device } from '../../src/backend/device.ts';

export interface BlockWatch {
  /** Blocks that were handed out and not given back. */
  readonly held: number;
  /** Bytes of the largest that was ever handed out. */
  readonly largest: number;
}

/** Watches the memory that a backend hands out, from now on. */
export function watchBlocks(device: Device): BlockWatch {
  const watch = { held: 0, largest: 0 };
  const { allocate, release } = device;
  device.allocate = (bytes) => {
    const storage = allocate.call(device, bytes);
    watch.held++;
    watch.largest = Math.max(watch.largest, bytes);
    return storage;
  };
  device.release = (storage) => {
    if (!storage.disposed) watch.held--;
    release.call(device, storage);
  };
  return watch;
}
