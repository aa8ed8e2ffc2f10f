import type { Backend } from '../../src/backend/backend.ts';

export interface BlockWatch {
  /** Blocks that were handed out and not given back. */
  readonly held: number;
  /** Bytes of the largest that was ever handed out. */
  readonly largest: number;
}

/** Watches the memory that a backend hands out, from now on. */
export function watchBlocks(backend: Backend): BlockWatch {
  const watch = { held: 0, largest: 0 };
  const { allocate, release } = backend;
  backend.allocate = (bytes) => {
    const storage = allocate.call(backend, bytes);
    watch.held++;
    watch.largest = Math.max(watch.largest, bytes);
    return storage;
  };
  backend.release = (storage) => {
    if (!storage.disposed) watch.held--;
    release.call(backend, storage);
  };
  return watch;
}
